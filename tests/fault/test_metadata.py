# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Errors of everything that is not a write of packets: directories, names, allocation, the notes beside."""
import time

import pytest

import capcheck
import frames
import harness

FRAMES = [frames.numbered(1, i, 100) for i in range(1000)]
OFTEN = {"storage": {"durable_every": "100ms"}}

MAKING = [
    *(
        f"create/{call}: once -> EIO"
        for call in ("mkdir", "open", "pwrite", "fsync", "fallocate", "rename", "dir_fsync")
    ),
    "create/rename: nth=2 -> EIO",
    "create/dir_fsync: always -> EIO",
]
TENDING = {
    "tend/fallocate: once -> EIO": "cannot be extended",
    "tend/fstat: once -> EIO": "cannot be extended",
    "tend/open: once -> EIO": "cannot be made durable",
    "tend/fsync: once -> EIO": "cannot be made durable",
    "tend/state_write: once -> EROFS": "cannot be made durable",
}


@pytest.fixture
def endless(dir):
    path = frames.write_pcap(dir / "numbered.pcap", FRAMES)
    return {
        f"tap{i}": harness.replay(path, infinite=True, rate=5000, device=f"net_pcap{i}")
        for i in range(2)
    }


def left(daemon):
    return {str(p) for name in ("captures", "trash") for p in (daemon.root / name).iterdir()}


def test_a_capture_that_cannot_be_made(faulty, faults, endless):
    """The request is refused with the reason; nothing is left, and who runs does not notice."""
    daemon = faulty(endless, **OFTEN)
    daemon.allow("cannot make the capture's files")
    running = daemon.api.create(ports=["tap1"])["id"]
    before = left(daemon)
    for rule in MAKING:
        faults.set(rule)
        answer = daemon.api.request("POST", "/api/v1/captures", {"ports": ["tap0"]})
        assert answer.status >= 500 and "Input/output error" in answer.body.decode(), (rule, answer)
        assert left(daemon) == before, rule
    faults.clear()
    id = daemon.api.create(ports=["tap0"], limits={"packets": 10})["id"]
    daemon.settled(id)
    daemon.api.stop(running)
    capture, _ = daemon.settled(running)
    assert capture["state"] == "complete" and not capture["events"]
    assert not any(capture["ledger"]["dropped"].values())


def test_a_running_capture_whose_files_cannot_be_looked_after(faulty, faults, endless):
    """It ends within a second and says why; what was written is there, whole."""
    daemon = faulty(endless, **OFTEN)
    daemon.allow("cannot be made durable", "io_error", "could not be closed at once")
    beside = daemon.api.create(ports=["tap1"], output={"type": "none"})["id"]
    for rule, says in TENDING.items():
        id = daemon.api.create(ports=["tap0"])["id"]
        durable = daemon.api.wait(id, "durable packets", lambda c: c["ledger"]["durable"] > 500)
        faults.write(rule)
        harness.until("it is hit", lambda: faults.rule(rule)[1], every=0.005)
        begin = time.monotonic()
        harness.until("reported", lambda: daemon.api.capture(id)["reason"], every=0.005)
        took = time.monotonic() - begin
        print(f"{rule}: reported after {took:.2f} s")
        assert took <= 1 * harness.SLOW
        capture, file = daemon.settled(id, readers=False)
        assert (capture["state"], capture["reason"]) == ("failed", "io_error"), rule
        assert says in capture["message"], capture["message"]
        assert not capcheck.claims(file, len(FRAMES))[0]
        assert len(file) == capture["ledger"]["written"] >= durable["ledger"]["durable"]
        faults.clear()
    daemon.api.stop(beside)
    ledger = daemon.api.capture(beside)["ledger"]
    assert ledger["written"] > 0 and not any(ledger["dropped"].values())
