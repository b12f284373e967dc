# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What is measured: the table of cases, and who takes part in each."""
import dataclasses

LINE_25G = 37_200_000  # packets of 64 bytes a second on 25 Gbit/s Ethernet
SIZES = ("64", "128", "256", "512", "1024", "1518", "imix")
QUICK_SIZES = ("64", "1518")
QUICK_FILE_BYTES = 4_000_000_000  # reading back what was written takes longer than to write it


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure. Every contender has a trial in every round, one after the other."""

    name: str
    group: str  # cases of a group stand in one table and one plot
    contenders: tuple
    source: str = "pcap"  # pcap, null, veth
    size: str = "64"
    sink: str = "null"  # null, memory, disk
    rate: int = 0  # packets a second; 0 = as fast as they are taken
    seconds: float = 3.0
    sparse: bool = False  # not every frame is kept
    spec: dict = dataclasses.field(default_factory=dict)  # of the capture
    config: dict = dataclasses.field(default_factory=dict)  # sections of the configuration
    options: dict = dataclasses.field(default_factory=dict)  # the contender's own
    rounds: int = 0  # fewer than the others: what searches, repeats itself enough


def table(quick, seconds, peers):
    """All cases; peers: names given by --peer."""
    sizes = QUICK_SIZES if quick else SIZES
    cases = []

    def add(*words, **options):
        options.setdefault("seconds", seconds)
        if quick:
            options["options"] = {"file_bytes": QUICK_FILE_BYTES}
        cases.append(Case(*words, **options))

    for size in sizes:
        add(f"null-{size}", "null", ("bare", "sluice"), size=size)
    if not quick:
        add("nullsource-64", "null", ("bare", "sluice"), source="null", size="64")
    ceilings = ("raw-fresh", "raw-spare") if quick else ("raw-fresh", "raw-spare", "fio")
    add("ceiling-disk", "disk", ceilings, sink="disk")
    for size in sizes:
        contenders = ("sluice",)
        if size in QUICK_SIZES:
            contenders += (*peers, "dpdk-dumpcap")
        add(f"disk-{size}", "disk", contenders, size=size, sink="disk")
    add("ceiling-memory", "memory", ("raw-fresh",), sink="memory")
    for size in QUICK_SIZES[:1] if quick else QUICK_SIZES:
        contenders = ("sluice", *peers)
        if not quick:
            contenders += ("dpdk-dumpcap",)
        add(f"memory-{size}", "memory", contenders, size=size, sink="memory")
    paced = seconds if quick else 10
    add("paced-null-64", "paced", ("sluice",), rate=LINE_25G, seconds=paced)
    add("paced-disk-64", "paced", ("sluice",), rate=LINE_25G, sink="disk", seconds=paced)
    add(
        "filter-64", "filter", ("bare", "sluice"), sparse=True,
        spec={"filter": "udp dst port 5003"},
    )  # fmt: skip
    tools = ("sluice", "tcpdump", "netsniff-ng") if quick else (
        "sluice", "tcpdump", "dumpcap", "netsniff-ng")  # fmt: skip
    for size in QUICK_SIZES[:1] if quick else QUICK_SIZES:
        add(
            f"veth-{size}", "veth", tools, source="veth", size=size, sink="disk", rate=300_000,
            seconds=2 if quick else seconds,
        )  # fmt: skip
    if not quick:
        cases += full_only(seconds)
    return cases


def full_only(seconds):
    """What searches or needs long; in few rounds, the loops in it are many."""
    cases = [
        # Zero loss for 10 s at what this disk takes; and the stop after the 10 GB of a faster one.
        Case("fit-disk-64", "paced", ("sluice",), sink="disk", seconds=10, rounds=2,
             options={"of_ceiling": 0.8}),
        *(stage_case(*row) for row in STAGES),
        Case("push-64", "push", ("push",), sink="disk", rate=1_000_000, seconds=seconds, rounds=2),
        Case("ndr-null-64", "push", ("ndr",), seconds=1.5, rounds=1),
        Case("ndr-null-1518", "push", ("ndr",), size="1518", seconds=1.5, rounds=1,
             options={"pps_max": 8e6}),
        Case("merge", "merge", ("merge",), sink="disk", rate=8_000_000, seconds=3, sparse=True,
             rounds=2),
    ]  # fmt: skip
    for kind in ("same", "different", "tuple", "rejecting"):
        for n in (1, 4, 16, 64, 256):
            cases.append(Case(f"sessions-{kind}-{n}", "sessions", ("sessions",), seconds=1.5,
                              rounds=2, options={"kind": kind, "n": n}))  # fmt: skip
    for ms in (0, 10, 100, 1000):
        cases.append(Case(f"burst-{ms}ms-64", "burst", ("burst",), sink="disk", rounds=1,
                          options={"ms": ms, "max": 24_000_000}))  # fmt: skip
    return cases


# name, perf-stage's words: what is real is named, the others are dummies
STAGES = (
    ("nic", ("--device", "{vdev}", "bare")),
    ("frame", ("frame",)),
    ("frame-ring", ("--ring", "real", "frame")),
    ("frame-disk", ("--file", "{file}", "frame")),
    ("frame-ring-disk", ("--ring", "real", "--file", "{file}", "frame")),
    ("nic-frame", ("--device", "{vdev}", "frame")),
    ("nic-frame-ring", ("--device", "{vdev}", "--ring", "real", "frame")),
    ("nic-frame-disk", ("--device", "{vdev}", "--file", "{file}", "frame")),
    ("nic-frame-ring-disk", ("--device", "{vdev}", "--ring", "real", "--file", "{file}", "frame")),
    ("filter", ("--filter", "udp dst port 5003", "filter")),
    ("filters-4", ("--filter", "udp dst port 5003", "--filter", "udp src port 1030", "--filter",
                   "host 10.0.0.7", "--filter", "tcp port 80", "filter")),
    ("blocks-ring", ("--ring", "real", "block")),
    ("blocks-ring-disk", ("--ring", "real", "--file", "{file}", "block")),
)  # fmt: skip


def stage_case(name, words):
    return Case(f"stage-{name}", "stage", ("stage",), seconds=1, rounds=2, sink="disk",
                options={"words": words, "blocks": "block" in words})  # fmt: skip


RESERVED = ("sluice", "bare", "raw-fresh", "raw-spare", "fio", "dpdk-dumpcap", "tcpdump", "dumpcap",
            "netsniff-ng", "stage", "push", "ndr", "burst", "sessions", "merge")  # fmt: skip
