# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What is measured: the table of cases, and who takes part in each."""
import dataclasses

LINE_25G = 37_200_000  # packets of 64 bytes a second on 25 Gbit/s Ethernet
SIZES = ("64", "128", "256", "512", "1024", "1518", "imix")
QUICK_SIZES = ("64", "1518")


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


def table(quick, seconds, peers):
    """All cases; peers: names given by --peer."""
    sizes = QUICK_SIZES if quick else SIZES
    cases = []

    def add(*words, **options):
        options.setdefault("seconds", seconds)
        cases.append(Case(*words, **options))

    for size in sizes:
        add(f"null-{size}", "null", ("bare", "sluice"), size=size)
    if not quick:
        add("nullsource-64", "null", ("bare", "sluice"), source="null", size="64")
    ceilings = ("raw-fresh", "raw-spare") if quick else ("raw-fresh", "raw-spare", "fio")
    add("ceiling-disk", "disk", ceilings, sink="disk")
    for size in sizes:
        contenders = ("sluice", *peers)
        if size in QUICK_SIZES:
            contenders += ("dpdk-dumpcap",)
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
        "filter-64", "filter", ("sluice",), sparse=True,
        spec={"filter": "udp dst port 5003"},
    )  # fmt: skip
    for size in ("64",) if quick else ("64", "1518"):
        add(
            f"veth-{size}", "veth", ("sluice", "tcpdump", "dumpcap", "netsniff-ng"), source="veth",
            size=size, sink="disk", rate=300_000, seconds=2 if quick else seconds,
        )  # fmt: skip
    return cases


RESERVED = ("sluice", "bare", "raw-fresh", "raw-spare", "fio", "dpdk-dumpcap", "tcpdump", "dumpcap",
            "netsniff-ng")  # fmt: skip
