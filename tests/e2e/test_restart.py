# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What survives: a clean stop, SIGTERM at any moment. kill -9 at any moment: test_crash.py."""
import random
import subprocess
import time

import pytest

import capcheck
import frames
import harness
from harness import check_residuals, replay

COUNT = 2000
SEED = 20240607


def source(dir, stream=1, size=300):
    return frames.write_pcap(
        dir / f"s{stream}.pcap", [frames.numbered(stream, n, size) for n in range(COUNT)]
    )


@pytest.mark.sanitize
def test_finished_captures_stay(sluiced, dir):
    daemon = sluiced({"tap0": replay(source(dir), rate=100_000)})
    before = {}
    for i in range(3):
        id = daemon.api.create(
            name=f"n{i}", notes="kept", filter="udp", limits={"packets": 500 + i}
        )["id"]
        daemon.settled(id)
        before[id] = daemon.api.capture(id), daemon.api.request(
            "GET", f"/api/v1/captures/{id}/download"
        )
    order = [c["id"] for c in daemon.api.captures()["captures"]]
    daemon.stop()
    daemon.start()
    assert [c["id"] for c in daemon.api.captures()["captures"]] == order
    for id, (capture, whole) in before.items():
        assert daemon.api.capture(id) == capture
        again = daemon.api.request("GET", f"/api/v1/captures/{id}/download")
        assert again.body == whole.body and again.headers["ETag"] == whole.headers["ETag"]
        daemon.settled(id)
    newest = daemon.api.create(limits={"packets": 10})["id"]
    daemon.settled(newest)
    assert daemon.api.captures("?limit=1")["captures"][0]["id"] == newest


@pytest.mark.parametrize("queues", [1, 2])
def test_sigterm_at_any_moment(sluiced, dir, two_cpus, queues):
    paths = [source(dir, s) for s in range(1, queues + 1)]
    daemon = sluiced(
        {"tap0": replay(*paths, infinite=True, rate=20_000)},
        engine={"rx_cpus": f"{harness.CPUS[0]},{harness.CPUS[1]}"},
        begin=False,
    )
    daemon.unfinished_allowed = True
    dice = random.Random(SEED)
    for turn in range(4):
        daemon.start()
        ids = [daemon.api.create(filter=f)["id"] for f in ("", "udp", "tcp")]
        time.sleep(dice.choice((0, dice.random() * 0.1, dice.random())))
        daemon.stop()
        daemon.start()
        for id in ids:
            capture, file = daemon.settled(id, readers=turn == 0)
            assert (capture["state"], capture["reason"]) == ("complete", "shutdown")
            assert sum(capture["ledger"]["dropped"].values()) == 0
            complaints, _ = capcheck.claims(file, COUNT)
            assert not complaints, complaints[:3]
            if capture["filter"] == "tcp":
                assert len(file) == 0
            else:
                assert len(file) == capture["ledger"]["offered"] == capture["ledger"]["accepted"]
        daemon.stop()


def test_kill_during_overload(sluiced, dir):
    """Claims of loss in a recovered file still add up to what the ledger says."""
    daemon = sluiced(
        {"tap0": replay(source(dir, size=9000), infinite=True, mtu=9200)},
        engine={"block_memory": "4M"},
    )
    daemon.allow("recover")
    id = daemon.api.create(limits={"file_bytes": 3_000_000_000})["id"]
    daemon.api.wait(id, "losses", lambda c: sum(c["ledger"]["dropped"].values()) > 0)
    daemon.kill()
    daemon.start()
    capture, file = daemon.settled(id, readers=False)
    complaints, _ = capcheck.claims(file, COUNT, first=0)
    assert not complaints, complaints[:3]


def test_kill_during_merge(sluiced, dir, two_cpus):
    """A merge that was cut off goes on at the next start and ends in a whole file."""
    paths = [source(dir, s, 1500) for s in (1, 2)]
    daemon = sluiced(
        {"tap0": replay(*paths, infinite=True)},
        engine={"rx_cpus": f"{harness.CPUS[0]},{harness.CPUS[1]}"},
    )
    daemon.allow("recover", "merge")
    id = daemon.api.create(limits={"file_bytes": 200_000_000})["id"]
    daemon.api.wait(id, "converting", lambda c: c["state"] in ("converting", "complete"))
    for _ in range(3):
        daemon.kill()
        daemon.start()
    capture, file = daemon.settled(id, readers=False)
    assert (capture["state"], capture["reason"]) == ("complete", "file_limit")
    complaints, last = capcheck.claims(file, COUNT)
    assert not complaints and set(last) == {1, 2}


def test_one_daemon_per_root(sluiced, dir):
    daemon = sluiced({"tap0": replay(source(dir), rate=1000)})
    id = daemon.api.create()["id"]
    second = harness.Daemon({"tap0": replay(source(dir), rate=1000)}, root=daemon.root)
    try:
        done = harness.run(harness.SLUICED, "--config", second.config, check=False, timeout=30)
    finally:
        second.discard()
    assert done.returncode == 1
    assert f"{daemon.root} is in use by another sluiced (process {daemon.pid})" in done.stderr
    daemon.api.stop(id)
    daemon.settled(id)


def test_deleted_stays_deleted(sluiced, dir):
    daemon = sluiced({"tap0": replay(source(dir), infinite=True, rate=20_000)})
    ids = [daemon.api.create()["id"] for _ in range(4)]
    for id in ids[:3]:
        daemon.api.delete(id)
    daemon.kill()
    daemon.allow("recover")
    daemon.start()
    assert [c["id"] for c in daemon.api.captures()["captures"]] == ids[3:]
    capture, _ = daemon.settled(ids[3])
    check_residuals(capcheck.books(capture), capture)


def test_interrupted_start(sluiced, dir):
    """SIGTERM before the daemon listens ends it cleanly too."""
    daemon = sluiced({"tap0": replay(source(dir), rate=1000)}, begin=False)
    for delay in (0.0, 0.05, 0.15, 0.4):
        daemon.root.mkdir(exist_ok=True)
        with open(daemon.log_path, "ab") as log:
            process = subprocess.Popen(
                [harness.SLUICED, "--config", daemon.config], stderr=log, stdout=log
            )
        time.sleep(delay)
        process.terminate()
        code = process.wait(30 * harness.SLOW)
        assert code in (0, -15), daemon.log()
    daemon.start()
