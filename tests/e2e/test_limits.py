# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Limits are exact over two queues on two RX lcores; sampling keeps what it says."""
import collections
import concurrent.futures
import math
import random
import time

import pytest

import capcheck
import frames
import harness
from harness import replay

COUNT = 2000


@pytest.fixture
def two_queues(sluiced, dir, two_cpus):
    """A daemon whose port has two queues, one RX lcore each; streams 1 and 2 of numbered frames."""

    def start(rate, **engine):
        paths = [
            frames.write_pcap(
                dir / f"s{stream}.pcap",
                [frames.numbered(stream, n, 62 + n * 7 % 1400) for n in range(COUNT)],
            )
            for stream in (1, 2)
        ]
        engine = {"rx_cpus": f"{harness.CPUS[0]},{harness.CPUS[1]}", **engine}
        return sluiced({"tap0": replay(*paths, infinite=True, rate=rate)}, engine=engine)

    return start


def no_unclaimed_gap(file, step=1):
    complaints, last = capcheck.claims(file, COUNT, step)
    assert not complaints, complaints[:5]
    assert set(last) == {1, 2}, "only one queue brought packets: nothing is shown"


# Packets, limits and whether both queues must have had their part: at full speed one lcore can have
# used up a small limit before the other has begun.
@pytest.mark.parametrize(
    "rate,limits,both",
    [(200_000, (10_000, 1, 9_999), 10_000), ("max", (10_000, 1, 9_999, 200_000), 200_000)],
)
def test_packets(two_queues, rate, limits, both):
    daemon = two_queues(rate)
    for limit in limits:
        capture = daemon.api.create(limits={"packets": limit}, snaplen=96)
        capture, file = daemon.settled(capture["id"], readers=limit <= 10_000)
        assert (capture["state"], capture["reason"]) == ("complete", "packet_limit")
        assert len(file) == limit
        if limit >= both:
            no_unclaimed_gap(file)


@pytest.mark.parametrize("rate", [100_000, "max"])
def test_bytes(two_queues, rate):
    daemon = two_queues(rate)
    longest = max(62 + n * 7 % 1400 for n in range(COUNT))
    for snaplen, limit in ((0, 3_000_000), (100, 500_000)):
        if rate == "max":
            limit *= 40
        capture = daemon.api.create(limits={"bytes": limit}, snaplen=snaplen)
        capture, file = daemon.settled(capture["id"], readers=rate != "max")
        assert (capture["state"], capture["reason"]) == ("complete", "byte_limit")
        total = sum(file.caplen)
        assert limit - longest < total <= limit
        assert total == limit or capture["ledger"]["over_limit"] > 0
        no_unclaimed_gap(file)


@pytest.mark.parametrize("rate", [100_000, "max"])
def test_file_bytes(two_queues, rate):
    daemon = two_queues(rate)
    for limit in (5_000_000, 100_000):
        capture = daemon.api.create(limits={"file_bytes": limit})
        capture, file = daemon.settled(capture["id"])
        assert (capture["state"], capture["reason"]) == ("complete", "file_limit")
        assert (
            limit - 8192 < file.size <= limit
        ), "what is set aside for the end of the file is small"


def test_seconds(two_queues):
    daemon = two_queues(20_000)
    capture = daemon.api.create(limits={"seconds": 1})
    capture, file = daemon.settled(capture["id"])
    assert (capture["state"], capture["reason"]) == ("complete", "time_limit")
    span = (file.stamp[-1] - file.stamp[0]) / 1e9
    assert 0.5 < span <= 1.1
    no_unclaimed_gap(file)


def test_the_first_limit_ends_it(two_queues):
    daemon = two_queues(50_000)
    capture = daemon.api.create(limits={"packets": 100_000, "bytes": 100_000, "seconds": 60})
    capture, file = daemon.settled(capture["id"])
    assert capture["reason"] == "byte_limit" and sum(file.caplen) <= 100_000


def test_many_limits_at_once(two_queues):
    """Sessions that end at different counts beside each other do not disturb one another."""
    daemon = two_queues(50_000)
    limits = [1000 + 777 * i for i in range(20)]
    ids = [daemon.api.create(limits={"packets": limit})["id"] for limit in limits]
    for limit, id in zip(limits, ids):
        _, file = daemon.settled(id, readers=False)
        assert len(file) == limit
        no_unclaimed_gap(file)


def any_end(dice):
    """A request that ends by one limit or another, or is stopped after so many seconds."""
    limits = {"seconds": 3, "file_bytes": dice.randint(2_000, 10_000_000)}
    kind = dice.randrange(4)
    if kind == 0:
        limits["packets"] = dice.choice((1, 63, 64, 65, dice.randint(2, 20_000)))
    elif kind == 1:
        limits["bytes"] = dice.randint(10_000, 5_000_000)
    stop_s = dice.random() if kind == 2 else None
    return {"limits": limits, "snaplen": dice.choice((0, 62, 63, 64, 1000))}, stop_s


def test_any_end_beside_any_other(two_queues):
    """Sessions come and go beside each other, for too little memory; each keeps its limits."""
    daemon = two_queues("max", block_memory="4M")
    longest = max(62 + n * 7 % 1400 for n in range(COUNT)) + 64

    def one(seed):
        spec, stop_s = any_end(random.Random(seed))
        id = daemon.api.create(**spec)["id"]
        if stop_s is not None:
            time.sleep(stop_s)
            daemon.api.stop(id)
        capture, file = daemon.settled(id, readers=False)
        limits = spec["limits"]
        complaints, _ = capcheck.claims(file, COUNT)
        assert not complaints, complaints[:5]
        assert len(file) <= limits.get("packets", len(file))
        assert sum(file.caplen) <= limits.get("bytes", sum(file.caplen))
        assert file.size <= limits["file_bytes"]
        reached = {
            "packet_limit": len(file) == limits.get("packets"),
            "byte_limit": sum(file.caplen) > limits.get("bytes", 0) - longest,
            "file_limit": file.size > limits["file_bytes"] - longest - 256,
            "time_limit": True,
            "stopped": stop_s is not None,
        }
        assert reached[capture["reason"]], capture
        return capture["reason"]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        reasons = collections.Counter(pool.map(one, range(40)))
    assert {"packet_limit", "byte_limit", "file_limit"} <= set(reasons), reasons
    daemon.settle_ports()


def test_output_none_counts(two_queues):
    daemon = two_queues(50_000)
    capture = daemon.api.create(output={"type": "none"}, limits={"packets": 5000})
    capture = daemon.api.wait_closed(capture["id"])
    harness.check_residuals(capcheck.books(capture), capture)
    assert capture["ledger"]["written"] == 5000 and capture["size_bytes"] == 0


def sampled(daemon, mode, n, count):
    capture = daemon.api.create(sampling={"mode": mode, "n": n})
    daemon.api.wait_offered(capture["id"], count)
    daemon.api.stop(capture["id"])
    capture, file = daemon.settled(capture["id"])
    ledger = capture["ledger"]
    assert ledger["offered"] == count
    assert ledger["sampled_out"] + ledger["accepted"] == count
    assert sum(ledger["dropped"].values()) == 0
    return file


def four_sigma(count, n):
    return 4 * math.sqrt(count / n * (1 - 1 / n))


def test_every_nth(sluiced, dir):
    count = 20_000
    path = frames.write_pcap(dir / "n.pcap", [frames.numbered(1, i) for i in range(count)])
    daemon = sluiced({"tap0": replay(path, rate=200_000)})
    for n in (1, 7, 100):
        file = sampled(daemon, "every", n, count)
        assert len(file) in (count // n, -(-count // n))
        complaints, _ = capcheck.claims(file, step=n)
        assert not complaints, complaints[:5]


def test_random(sluiced, dir):
    count, n = 20_000, 10
    path = frames.write_pcap(dir / "n.pcap", [frames.numbered(1, i) for i in range(count)])
    daemon = sluiced({"tap0": replay(path, rate=200_000)})
    runs = [sampled(daemon, "random", n, count) for _ in range(2)]
    picks = [[capcheck.number(frame)[1] for frame in file.frames()] for file in runs]
    for pick in picks:
        assert abs(len(pick) - count / n) < four_sigma(count, n)
        assert pick == sorted(set(pick))
        steps = collections.Counter(b - a for a, b in zip(pick, pick[1:]))
        assert len(steps) > 20, "random sampling keeps a pattern"
    assert picks[0] != picks[1], "the same dice twice"


def test_whole_flows(sluiced, dir, two_cpus):
    """Forward packets on one queue, replies on the other: both kept or both left out, 1/N of the
    flows."""
    flows, n = 10_000, 10
    paths = [
        frames.write_pcap(
            dir / f"d{r}.pcap", [frames.flow(i, r) for i in range(flows) for _ in range(2)]
        )
        for r in (0, 1)
    ]
    engine = {"rx_cpus": f"{harness.CPUS[0]},{harness.CPUS[1]}"}
    daemon = sluiced({"tap0": replay(*paths, rate=100_000)}, engine=engine)
    file = sampled(daemon, "flow", n, 4 * flows)
    seen = collections.Counter(frames.flow_number(frame)[0] for frame in file.frames())
    assert set(seen.values()) == {4}, "a flow was kept in part"
    assert abs(len(seen) - flows / n) < four_sigma(flows, n)
    for kind in range(4):
        kept = sum(1 for flow in seen if flow & 3 == kind)
        assert abs(kept - flows / 4 / n) < four_sigma(flows / 4, n), f"kind {kind} of flows"
