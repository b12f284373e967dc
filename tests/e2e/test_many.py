# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Many sessions on one port, and many one after another: nothing is lost, nothing is left behind.
Many sessions on one port, and many one after another: nothing is lost, nothing is left behind."""
import concurrent.futures
import time

import pytest

import capcheck
import frames
import harness
from harness import check_residuals, replay, until

COUNT = 1024
CLASSES = 16
BASE_PORT = 30000


def source(dir):
    """Numbered frames; the destination port is BASE_PORT + number % CLASSES."""
    return frames.write_pcap(
        dir / "s.pcap",
        [frames.numbered(1, n, 62 + n % 700, dport=BASE_PORT + n % CLASSES) for n in range(COUNT)],
    )


def variant(i):
    """The i-th request, and how far apart the numbers are that it keeps (None: not regular)."""
    spec, step = {}, 1
    kind = i % 4
    if kind == 0:
        spec["filter"] = f"udp dst port {BASE_PORT + i // 4 % CLASSES}"
        step = CLASSES
    elif kind == 1:
        spec["filter"] = f"udp[2:2] & 7 = {i // 4 % 8} or tcp port {i}"
        step = 8
    elif kind == 2:
        n = 2 + i % 5
        spec["sampling"] = {"mode": "every", "n": n}
        step = n
    else:
        spec[
            "filter"
        ] = f"ip and udp dst portrange {BASE_PORT}-{BASE_PORT + 7} and not port {i + 1}"
        spec["sampling"] = {"mode": ("random", "flow")[i // 4 % 2], "n": 4}
        step = None
    if i % 3:
        spec["snaplen"] = 62 + i
    return spec, step


def check_one(daemon, id, spec, step):
    """Books and, where the numbers that it keeps are regular, that none is missing."""
    capture = daemon.api.wait_closed(id)
    path, file = daemon.file(id)
    check_residuals(capcheck.books(capture, file), capture)
    path.unlink()
    assert sum(capture["ledger"]["dropped"].values()) == 0
    assert all(c <= spec.get("snaplen", 262144) for c in file.caplen)
    if step is not None:
        assert len(file) > 0
        numbers = [capcheck.number(file[i])[1] for i in range(len(file))]
        gaps = {(b - a) % COUNT for a, b in zip(numbers, numbers[1:])}
        assert gaps <= {step % COUNT}, f"{spec}: gaps {gaps}, not {step}"
    return len(file)


def all_sessions(daemon, count, seconds=1.0, workers=4):
    specs = [variant(i) for i in range(count)]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        create = lambda i: daemon.api.create(name=f"s{i}", **specs[i][0])["id"]
        ids = list(pool.map(create, range(count)))
    assert len(daemon.api.captures("?state=running&limit=1000")["captures"]) == count
    last = daemon.api.capture(ids[-1])["ledger"]["offered"]
    daemon.api.wait_offered(ids[-1], last + int(2 * COUNT * seconds))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(daemon.api.stop, ids))
    for id, (spec, step) in zip(ids, specs):
        check_one(daemon, id, spec, step)
    daemon.sluice("balance")
    daemon.settle_ports()
    status = daemon.api.status()
    assert status["blocks"]["free"] == status["blocks"]["total"]


def test_256_sessions(sluiced, dir):
    daemon = sluiced({"tap0": replay(source(dir), infinite=True, rate=3000)})
    all_sessions(daemon, 256)


def test_64_sessions_with_hugepages(sluiced, dir, hugepages):
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=3000)}, engine={"hugepages": "yes"}
    )
    all_sessions(daemon, 64)


def test_too_many_lanes_are_refused(sluiced, dir):
    """More lanes than half the blocks: 503 that names the setting; those that run go on."""
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=3000)}, engine={"block_memory": "4M"}
    )
    ids = []
    for i in range(64):
        answer = daemon.api.request(
            "POST", "/api/v1/captures", {"filter": f"udp port {BASE_PORT + i}"}
        )
        if answer.status != 201:
            break
        ids.append(answer.json()["id"])
    assert answer.status == 503 and len(ids) <= 32, f"{len(ids)} sessions, then {answer}"
    assert "engine.block_memory" in answer.body.decode()
    daemon.api.delete(ids.pop())
    until(
        "the place of a deleted session is free",
        lambda: daemon.api.request("POST", "/api/v1/captures", {}).status == 201,
    )
    for capture in daemon.api.captures("?state=running")["captures"]:
        daemon.api.stop(capture["id"])
        daemon.settled(capture["id"], readers=False)


def churn(daemon, count, workers=4):
    """Create, let it run a moment, delete; every tenth is stopped, taken apart and balanced first.
    Create, let it run a moment, delete; every tenth is stopped, taken apart and balanced first."""

    def one(i):
        spec, _ = variant(i)
        capture = daemon.api.create(**spec)
        if i % 10 == 0:
            daemon.api.wait_offered(capture["id"], 50)
            daemon.api.stop(capture["id"])
            capture = daemon.api.wait_closed(capture["id"])
            path, file = daemon.file(capture["id"])
            check_residuals(capcheck.books(capture, file), capture)
            path.unlink()
        daemon.api.delete(capture["id"])

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(count)))


def at_rest(daemon):
    """What must return to where it was, once nothing runs."""

    def still():
        status = daemon.api.status()
        return status["blocks"]["free"] == status["blocks"]["total"] and status

    status = until("all blocks are back", still)
    left = list((daemon.root / "captures").iterdir()) + list((daemon.root / "trash").iterdir())
    assert not left, left
    # Our own last connections may still be closing.
    fds = min(daemon.fds() for _ in range(10) if not time.sleep(0.05))
    return {"fds": fds, "blocks": status["blocks"], "rss": daemon.rss()}


def test_churn(sluiced, dir):
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000, poll="always")},
        engine={"block_memory": "64M"},
    )
    churn(daemon, 60)
    before = at_rest(daemon)
    churn(daemon, 300)
    after = at_rest(daemon)
    daemon.settle_ports(moving=20_000 // 2)
    assert after["fds"] == before["fds"] and after["blocks"] == before["blocks"]
    grown = after["rss"] - before["rss"]
    print(f"resident memory grew by {grown / 1024:.0f} KiB over 300 sessions")
    if harness.SLOW == 1:
        assert grown < 4 << 20
    assert daemon.api.captures()["captures"] == []
