# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A source far faster than the disk, a tiny block pool: every lost packet is counted, where it was
lost."""
import pytest

import capcheck
import frames
import harness
from harness import replay, until

COUNT = 4096


def source(dir, stream, size):
    return frames.write_pcap(
        dir / f"s{stream}.pcap", [frames.numbered(stream, n, size) for n in range(COUNT)]
    )


def proven(file, capture, streams):
    """Each missing number is claimed at its place; with one stream the totals are known as well."""
    complaints, last = capcheck.claims(file, COUNT, first=0 if streams == 1 else None)
    assert not complaints, f"{len(complaints)} places, the first: {complaints[:3]}"
    assert len(last) == streams
    if streams == 1:
        ledger = capture["ledger"]
        accepted = last[1] + 1 + file.statistics[0].tail_gap
        assert (accepted - ledger["accepted"]) % COUNT == 0
    assert sum(capture["ledger"]["dropped"].values()) > 0, "no overload: nothing is shown"
    assert set(k for k, v in capture["ledger"]["dropped"].items() if v) == {"no_block"}


@pytest.mark.parametrize("size", [62, 1514, 9000])
def test_one_queue(sluiced, dir, size):
    daemon = sluiced(
        {"tap0": replay(source(dir, 1, size), infinite=True, mtu=9200)},
        engine={"block_memory": "4M"},
    )
    capture = daemon.api.create(limits={"file_bytes": 200_000_000 if size > 100 else 40_000_000})
    capture, file = daemon.settled(capture["id"], readers=False)
    assert capture["reason"] == "file_limit"
    proven(file, capture, 1)


def test_two_queues(sluiced, dir, two_cpus):
    paths = [source(dir, stream, 1000) for stream in (1, 2)]
    daemon = sluiced(
        {"tap0": replay(*paths, infinite=True)},
        engine={"block_memory": "4M", "rx_cpus": f"{harness.CPUS[0]},{harness.CPUS[1]}"},
    )
    capture = daemon.api.create(limits={"packets": 200_000})
    capture, file = daemon.settled(capture["id"])
    assert len(file) == 200_000 and capture["reason"] == "packet_limit"
    proven(file, capture, 2)


def test_stopped_in_the_middle(sluiced, dir):
    """A stop during an overload: accepted to the last packet, tail gap included."""
    daemon = sluiced(
        {"tap0": replay(source(dir, 1, 9000), infinite=True, mtu=9200)},
        engine={"block_memory": "4M"},
    )
    capture = daemon.api.create(limits={"file_bytes": 4_000_000_000})
    id = capture["id"]
    live = until(
        "losses",
        lambda: sum(daemon.api.capture(id)["ledger"]["dropped"].values()) > 0
        and daemon.api.capture(id),
    )
    ledger = live["ledger"]
    assert (
        ledger["written"] + sum(ledger["dropped"].values())
        <= ledger["accepted"]
        <= ledger["offered"]
    )
    daemon.api.stop(id)
    capture, file = daemon.settled(id, readers=False)
    proven(file, capture, 1)
    status = daemon.api.status()
    assert status["blocks"]["free"] == status["blocks"]["total"]


def test_a_neighbour_keeps_its_packets(sluiced, dir):
    """A narrow capture beside a greedy one: its few packets get blocks too, or are claimed."""
    sent = [frames.numbered(1, n, 1514, dport=9 if n % 512 == 0 else 10) for n in range(COUNT)]
    path = frames.write_pcap(dir / "s.pcap", sent)
    daemon = sluiced({"tap0": replay(path, infinite=True)}, engine={"block_memory": "4M"})
    narrow = daemon.api.create(filter="udp dst port 9")
    greedy = daemon.api.create(limits={"file_bytes": 200_000_000})
    daemon.settled(greedy["id"], readers=False)
    daemon.api.stop(narrow["id"])
    narrow, file = daemon.settled(narrow["id"], readers=False)
    for i in range(1, len(file)):
        gap = capcheck.number(file[i])[1] - capcheck.number(file[i - 1])[1]
        assert gap % 512 == 0 and (gap // 512 - 1 - file.dropcount[i]) % (COUNT // 512) == 0
    assert len(file) > 0
