# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The wall clock is set while captures run: packet times never go back, limits do not care, and it is told."""
import re
import time

import pytest

import frames
import harness
import net

FRAMES = [frames.numbered(1, i, 100) for i in range(1000)]


@pytest.fixture
def source(dir):
    return frames.write_pcap(dir / "numbered.pcap", FRAMES)


def metric(daemon, name):
    text = daemon.api.request("GET", "/metrics").body.decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


def offered(daemon, id):
    return daemon.api.capture(id)["ledger"]["offered"]


def more(daemon, id, count=300):
    daemon.api.wait_offered(id, offered(daemon, id) + count)


def told(capture):
    return [e["text"] for e in capture.get("events") or () if "the wall clock was set" in e["text"]]


def test_packet_times_never_go_back(faulty, faults, source):
    """Capcheck, which reads the file, refuses a time that does."""
    daemon = faulty({"tap0": harness.replay(source, infinite=True, rate=5000)})
    daemon.allow("the wall clock was set")
    id = daemon.api.create(ports=["tap0"])["id"]
    more(daemon, id)
    now = time.time()
    steps = (-3600, 3600, -now, 2**31 - now + 10, 0)
    for n, offset in enumerate(steps, 1):
        faults.set(f"clock_read: always -> offset={offset:.3f}")
        daemon.api.wait(id, "the step is told", lambda capture: len(told(capture)) == n)
        more(daemon, id)
    for rate in (500, -500):
        faults.set(f"clock_read: always -> rate={rate}")
        more(daemon, id, 2000)
    assert metric(daemon, "sluice_clock_steps_total") == len(steps)
    assert metric(daemon, "sluice_clock_ahead_seconds") > 3600
    daemon.api.stop(id)
    capture, file = daemon.settled(id)
    assert capture["state"] == "complete"
    assert len(told(capture)) == len(steps)
    assert re.search(r"back by (3600|3599)\.", told(capture)[0])
    assert max(file.stamp) / 1e9 > 2**31


def test_a_step_moves_no_limit(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source, infinite=True, rate=5000)})
    daemon.allow("the wall clock was set")
    began = time.monotonic()
    ids = [daemon.api.create(ports=["tap0"], limits={"seconds": s})["id"] for s in (2, 3600)]
    for n, offset in enumerate((7200, -7200), 1):
        faults.set(f"clock_read: always -> offset={offset}")
        harness.until("the step is seen", lambda: metric(daemon, "sluice_clock_steps_total") >= n)
    more(daemon, ids[1])
    ended = daemon.api.wait_closed(ids[0])
    assert ended["reason"] == "time_limit" and time.monotonic() - began >= 2
    assert daemon.api.capture(ids[1])["state"] == "running"
    daemon.api.stop(ids[1])
    for id in ids:
        daemon.settled(id)


def test_stamps_of_the_kernel_are_raised_and_counted(faulty, faults, veth):
    wire = veth()
    daemon = faulty({"tap0": harness.watch(wire.tap)})
    daemon.allow("the wall clock was set")
    running, late = (daemon.api.create(ports=["tap0"])["id"] for _ in range(2))
    back = "offset=-3600"
    with net.Sender(wire.far) as sender:
        sender.send(FRAMES[:100])
        daemon.api.wait_offered(running, 100)
        # A capture that has seen no packet yet must not wait an hour for its first.
        fresh = daemon.api.create(ports=["tap0"])["id"]
        time.sleep(2.2)
        faults.set(f"clock_read: always -> {back}", f"kernel_stamp: always -> {back}")
        harness.until("the step is seen", lambda: metric(daemon, "sluice_clock_steps_total") == 1)
        sender.send(FRAMES[100:300])
        for id, count in ((running, 300), (late, 300), (fresh, 200)):
            daemon.api.wait_offered(id, count)
            # The kernel's stamps tell sooner than the clock is looked at.
            harness.until("the step is told", lambda: daemon.api.capture(id)["events"])
    for id, count, raised in ((running, 300, 200), (late, 300, 200), (fresh, 200, 0)):
        daemon.api.stop(id)
        capture, file = daemon.settled(id)
        assert len(file) == count == capture["ledger"]["written"]
        assert capture["ledger"]["stamps_raised"] == raised
        assert len(capture["events"]) == 1
    assert metric(daemon, "sluice_capture_stamps_raised_total") == 400
