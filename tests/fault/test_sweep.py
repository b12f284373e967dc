# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A few steps of the sweep at random (scripts/soak goes all of them), and io_uring at its worst."""
import os
import random

import pytest

import frames
import harness
import sweep

FRAMES = [frames.numbered(1, i, 1400) for i in range(2000)]


@pytest.fixture
def source(dir):
    return frames.write_pcap(dir / "numbered.pcap", FRAMES)


@pytest.mark.parametrize("group, reach, tries", [("fd", 21, 4), ("io", 65, 8), ("alloc", 200, 12)])
def test_the_nth_call_fails(faulty, faults, source, group, reach, tries):
    seed = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(1 << 30)))
    print(f"SLUICE_TEST_SEED={seed}")
    daemon = faulty({"tap0": harness.replay(source)})
    daemon.allow(sweep.LOG)
    calls = sorted(random.Random(seed).sample(range(1, reach), tries))
    sweep.sweep(daemon, faults, group, calls, 1000)


def test_a_ring_at_its_worst_loses_and_tears_nothing(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source)})
    if not daemon.has_uring():
        pytest.skip("no io_uring here")
    for what in (
        "uring_result: once -> EAGAIN",
        "uring_result: once -> EINTR",
        "uring_result: once -> short=-1",
        "uring_result: once -> short=-512",
        "uring_result: once -> short=1",
        "uring_sqe: once -> EAGAIN",
        "uring_submit: once -> EAGAIN",
    ):
        faults.set(what)
        before = daemon.api.status()["blocks"]["free"]
        id = daemon.api.create(ports=["tap0"], limits={"packets": len(FRAMES)})["id"]
        capture, file = daemon.settled(id, readers=False)
        assert capture["state"] == "complete" and len(file) == len(FRAMES), what
        harness.until("the fault has happened", lambda: faults.rule(what)[1] > 0)
        harness.until("no block is missing", lambda: daemon.api.status()["blocks"]["free"] == before)
        daemon.api.delete(id)


def test_a_ring_that_never_takes_anything_is_an_error(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source)})
    if not daemon.has_uring():
        pytest.skip("no io_uring here")
    daemon.allow("the storage does not answer")
    faults.set("uring_result: always -> EAGAIN")
    id = daemon.api.create(ports=["tap0"], limits={"packets": len(FRAMES) + 1})["id"]
    capture, file = daemon.settled(id)
    assert (capture["state"], capture["reason"]) == ("failed", "io_error")
    assert capture["ledger"]["dropped"]["io_error"] == len(FRAMES) and len(file) == 0


def test_without_io_uring_files_are_written_plainly(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source)}, "uring_setup: always -> EPERM")
    assert "files are written with pwrite" in daemon.log()
    faults.set(
        "pwritev: nth=1 -> EINTR", "pwritev: nth=1 -> short=-512", "pwritev: nth=2 -> short=1"
    )
    id = daemon.api.create(ports=["tap0"], limits={"packets": len(FRAMES)})["id"]
    capture, file = daemon.settled(id)
    assert capture["state"] == "complete" and len(file) == len(FRAMES)
    faults.wait_hit("pwritev")
