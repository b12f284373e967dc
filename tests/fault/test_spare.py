# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The power goes right after ZERO_RANGE, before it is synced: no byte of the old capture is ever anybody
else's, in the file, behind its end or in what is downloaded."""
import random

import pytest

import crash
import disks
import harness
import powercut
import test_spare_crash as spares

SEED = 20261122


def raw_is_clean(disk, path):
    """What the device holds where the file lies, to the end of its last block."""
    mark = spares.capcheck.NUMBER.pack(spares.capcheck.MAGIC, spares.OLD, 0)[:8]
    with open(disk.loop, "rb") as device:
        for begin, end in disks.Disk.extents(disk, path):
            device.seek(begin)
            assert mark not in device.read(end - begin), f"old packets at {begin} of the device"


def test_power_cut_right_after_zero_range(sluiced, faults, dir, belongings):
    """The process dies with the call's return, or lives on until the power is gone."""
    if (reason := powercut.able()) is not None:
        pytest.skip(reason)
    disk = belongings.enter_context(powercut.PowerCut(1600 << 20))
    disk.format()
    disk.mount()
    daemon = sluiced(spares.port(dir), root=disk.place / "root", storage=spares.WANT, begin=False)
    daemon.env["SLUICE_FAULTS"] = str(faults.path)
    faults.write()
    daemon.start()
    daemon.allow("recover", "Input/output", "[Rr]ead-only", "cannot remove", "counted anew", "answer")
    seed = crash.seeds(SEED)[1]
    print(f"seed {seed}")
    dice = random.Random(seed)
    what = dice.choice(("abort", "stall"))
    id = spares.old_capture(daemon)
    faults.set(f"spare_zeroed: once -> {what}")
    try:
        daemon.api.request("DELETE", f"/api/v1/captures/{id}", timeout=1)
    except OSError:
        pass  # it dies, or does not answer
    if what == "abort":
        assert daemon.process.wait(10) == -9
    else:
        faults.wait_hit("spare_zeroed")
    disk.cut(dice.getrandbits(32))
    daemon.kill()
    disk.restore()
    assert not list((daemon.root / "spare").iterdir()), "nothing is a spare before it is synced"
    faults.write()
    daemon.start()
    id = daemon.api.create()["id"]
    daemon.api.wait(id, "packets are durable", lambda c: c["ledger"]["durable"] > 500)
    lane = daemon.root / "captures" / f"{id}.open" / "lane0.pcapng"
    begun_on_a_spare = lane.stat().st_size >= spares.SPARE - 4096
    daemon.kill()
    assert not spares.stale(lane)
    daemon.start()
    daemon.api.wait_closed(id)
    path, file = daemon.file(id)
    assert not spares.stale(path), "old packets in the download"
    complaints, last = spares.capcheck.claims(file, spares.COUNT)
    assert not complaints and set(last) == {spares.NEW}
    closed = daemon.root / "captures" / id / "capture.pcapng"
    assert not spares.stale(closed)
    harness.run("sync", "-f", closed)
    raw_is_clean(disk, closed)
    print(f"began on a spare: {begun_on_a_spare}")
