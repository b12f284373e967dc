# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Byte for byte: what was sent is in the file, in order, or in the ledger."""
import collections
import filecmp
import re
import subprocess
import time

import pytest

import frames
import harness
import net
from harness import replay, run, until, watch


@pytest.mark.parametrize("rate", ["max"])
def test_replayed_corpus(sluiced, corpus, dir, rate):
    path, sent = corpus
    daemon = sluiced({"tap0": replay(path, mtu=9200, rate=rate)})
    capture = daemon.api.create()
    daemon.api.wait_offered(capture["id"], len(sent))
    daemon.api.stop(capture["id"])
    capture, file = daemon.settled(capture["id"])
    assert capture["ledger"]["offered"] == len(sent)
    lost = sum(capture["ledger"]["dropped"].values())
    assert align(file.frames(), sent) == lost
    if rate != "max":
        assert lost == 0, "any disk carries this"
    daemon.settle_ports()
    assert daemon.api.counters()["offered"] == len(sent)
    whole = dir / "whole.pcapng"
    daemon.api.download(capture["id"], whole)
    local = daemon.root / "captures" / capture["id"] / "capture.pcapng"
    assert whole.stat().st_size > harness.MUCH, "no other test downloads as much"
    assert filecmp.cmp(whole, local, shallow=False)


@pytest.mark.sanitize
def test_replay_starts_over(sluiced, dir):
    """A replayed file begins with its first frame for each capture, and is captured whole."""
    sent = frames.mixed(5000, seed=2)
    path = frames.write_pcap(dir / "m.pcap", sent)
    daemon = sluiced({"tap0": replay(path, mtu=9200, rate=20000)})
    for _ in range(2):
        capture = daemon.api.create()
        daemon.api.wait_offered(capture["id"], len(sent))
        daemon.api.stop(capture["id"])
        capture, file = daemon.settled(capture["id"])
        assert capture["ledger"]["offered"] == len(sent)
        assert file.frames() == sent
    daemon.settle_ports()
    assert daemon.api.counters()["offered"] == 2 * len(sent)


def align(got, sent):
    """got must be sent with frames left out; how many."""
    at = 0
    for i, frame in enumerate(got):
        try:
            at = sent.index(frame, at, at + 50_000) + 1
        except ValueError:
            raise AssertionError(f"packet {i} was not sent, or not in this order") from None
    return len(sent) - len(got)


def test_align_sees_what_it_must():
    assert align([b"1", b"3"], [b"1", b"2", b"3", b"4"]) == 2
    for wrong in ([b"2", b"1"], [b"1", b"1"], [b"5"]):
        with pytest.raises(AssertionError):
            align(wrong, [b"1", b"2", b"3"])


@pytest.mark.parametrize("pps", [20000, None], ids=["paced", "topspeed"])
def test_veth_corpus(sluiced, veth, dir, pps):
    count = 100_000 if pps is None else 40_000
    sent = frames.mixed(count, seed=3)
    path = frames.write_pcap(dir / "m.pcap", sent)
    wire = veth(mtu=9100)
    daemon = sluiced({"tap0": watch(wire.tap, mtu=9100)})
    assert daemon.api.ports()["tap0"]["loss_visibility"] == "exact"
    capture = daemon.api.create()
    assert net.tcpreplay(wire.far, path, pps) == count
    arrived = wire.arrived()
    assert arrived == count, "the kernel lost frames before the interface"
    until("the port has seen every frame", lambda: daemon.api.counters()["offered"] >= count)
    time.sleep(0.3)
    daemon.api.stop(capture["id"])
    capture, file = daemon.settled(capture["id"])
    daemon.settle_ports()
    counters = daemon.api.counters()
    assert counters["offered"] == count
    missing = align(file.frames(), sent)
    lost = sum(capture["ledger"]["dropped"].values())
    assert missing == counters["nic_missed"] + lost
    assert capture["ledger"]["offered"] == count - counters["nic_missed"]
    assert file.statistics[0].ifdrop == counters["nic_missed"]


def test_flood_is_counted_by_the_kernel(sluiced, veth):
    """More small frames than the source can take: what is missing, the kernel counted."""
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    capture = daemon.api.create(snaplen=64)
    count = net.trafgen(wire.far, 300_000)
    arrived = until("all have arrived", lambda: wire.arrived() >= count and wire.arrived())
    assert arrived == count
    until("the port has seen every frame", lambda: daemon.api.counters()["offered"] >= count)
    time.sleep(0.3)
    daemon.api.stop(capture["id"])
    capture, _ = daemon.settled(capture["id"])
    daemon.settle_ports()
    counters = daemon.api.counters()
    assert counters["offered"] == count
    assert counters["rx"] + counters["nic_missed"] == count
    assert capture["ledger"]["offered"] == counters["rx"]


@pytest.mark.sanitize
def test_tags_on_a_wire(sluiced, veth):
    """Untagged, 0x8100, 0x88a8 and stacked tags arrive as they were sent, priority bits too."""
    plain = frames.numbered(1, 1, 200)
    tag = lambda tpid, tci: tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")
    stacks = [
        b"",
        tag(0x8100, 5),
        tag(0x8100, 0xE005),
        tag(0x8100, 0),
        tag(0x88A8, 7),
        tag(0x88A8, 0x3007),
        tag(0x88A8, 7) + tag(0x8100, 5),
        tag(0x8100, 7) + tag(0x8100, 5),
        tag(0x88A8, 1) + tag(0x88A8, 2) + tag(0x8100, 3),
        tag(0x9100, 4),
    ]
    sent = [plain[:12] + stack + plain[12:] for stack in stacks]
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    filters = ("", "vlan", "vlan 5", "vlan 7 and vlan 5", "udp")
    ids = {f: daemon.api.create(filter=f)["id"] for f in filters}
    with net.Sender(wire.far) as sender, net.Sender(wire.tap) as back:
        sender.send(sent, pps=1000)
        time.sleep(0.2)
        back.send(sent, pps=1000)
    want = {}
    path = frames.write_pcap(daemon.dir / "sent.pcap", sent + sent)
    for f in filters:
        out = harness.tcpdump_select(path, f, daemon.dir / "want.pcap")
        want[f] = [data for _, _, data in frames.read_pcap(out)]
    for f, id in ids.items():
        daemon.api.wait_offered(id, 2 * len(sent))
        daemon.api.stop(id)
        _, file = daemon.settled(id)
        assert file.frames() == want[f], f


def test_super_frames_like_tcpdump(sluiced, veth, dir):
    """TCP with all offloads on: the same frames as tcpdump beside us, up to 65 KB."""
    wire = veth()
    third = harness.os.getpid() % 250 + 1
    inside = wire.into_namespace(f"10.231.{third}.1/24", f"10.231.{third}.2/24")
    daemon = sluiced({"tap0": watch(wire.tap)})
    server = subprocess.Popen([*inside, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    witness = subprocess.Popen(
        ["tcpdump", "-i", wire.tap, "-s", "0", "-B", "65536", "-w", dir / "witness.pcap", "tcp"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until("tcpdump listens", lambda: "listening" in witness.stderr.readline(), 10)
        capture = daemon.api.create(filter="tcp")
        until(
            "iperf3 answers",
            lambda: run(
                "iperf3",
                "-c",
                f"10.231.{third}.2",
                "-t",
                "2",
                "-b",
                "600M",
                "-w",
                "4M",
                check=False,
            ).returncode
            == 0,
            20,
            every=0.5,
        )
        server.wait(10 * harness.SLOW)
        time.sleep(1.5)  # tcpdump looks at its last packets after a second only
        daemon.api.stop(capture["id"])
        witness.terminate()
        said = witness.communicate(timeout=10)[1]
    finally:
        for process in (server, witness):
            if process.poll() is None:
                process.kill()
                process.wait()
    capture, file = daemon.settled(capture["id"])
    assert int(re.search(r"(\d+) packets dropped by kernel", said)[1]) == 0, said
    assert re.search(r"(\d+) packets captured\n\1 packets received by filter", said), said
    theirs = collections.Counter(data for _, _, data in frames.read_pcap(dir / "witness.pcap"))
    ours = collections.Counter(file.frames())
    daemon.settle_ports()
    lost = daemon.api.counters()["nic_missed"] + sum(capture["ledger"]["dropped"].values())
    assert not ours - theirs, "frames that were not on the wire"
    assert sum((theirs - ours).values()) <= lost
    assert list(file.caplen) == list(file.origlen), "a frame was shortened"
    assert max(file.origlen) > 20000, "no super-frames: the test shows nothing"
    print(f"{len(file)} frames, longest {max(file.origlen)}, lost {lost}")
