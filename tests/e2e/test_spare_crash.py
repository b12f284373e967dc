# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Spares made of another capture's packets, and a crash: nothing of the old is ever taken for the new.

The old capture is small; the file that becomes a spare is it, with more packets of its form and header put
behind them, in space of more than the least that makes a spare."""
import os
import random
import time

import pytest

import capcheck
import crash
import frames
import powercut
from harness import check_residuals, replay, run, until

SEED = 20261121
OLD, NEW = 7, 1  # streams
COUNT = 5000
SPARE = 1_100_000_000
WANT = {"spare": "1200M", "quota": "95%", "durable_every": "400ms"}


def port(dir):
    path = frames.write_pcap(dir / "new.pcap", [frames.numbered(NEW, n, 300) for n in range(COUNT)])
    return {"tap0": replay(path, infinite=True, rate=4000)}


def block(frame, stamp):
    size = 32 + len(frame) + -len(frame) % 4
    return (
        b"".join(
            n.to_bytes(4, "little")
            for n in (6, size, 0, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame))
        )
        + frame.ljust(size - 32, b"\0")
        + size.to_bytes(4, "little")
    )


def old_capture(daemon):
    """Closed; its file is large and full of packets of stream OLD, under the header that the next has."""
    id = daemon.api.create(limits={"packets": 1})["id"]
    daemon.api.wait_closed(id)
    path = daemon.root / "captures" / id / "capture.pcapng"
    first = capcheck.read(path).where[0] - 28
    packets = b"".join(block(frames.numbered(OLD, n, 300), time.time_ns()) for n in range(COUNT))
    with open(path, "r+b") as f:
        os.posix_fallocate(f.fileno(), 0, SPARE)
        f.seek(first)
        for _ in range(10):
            f.write(packets)
        os.fsync(f.fileno())
    assert stale(path)
    return id


def stale(path):
    """Whether a byte of the old packets is in the file, anywhere."""
    mark = capcheck.NUMBER.pack(capcheck.MAGIC, OLD, 0)[:8]
    with open(path, "rb") as f:
        at, end = 0, os.fstat(f.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return False
            piece = os.pread(f.fileno(), 1 << 20, at)
            if mark in piece:
                return True
            at += len(piece)
    return False


def new_capture_is_clean(daemon):
    """One that begins on the spare, if there is one, dies with the daemon, and has its own packets."""
    id = daemon.api.create()["id"]
    daemon.api.wait(id, "packets are durable", lambda c: c["ledger"]["durable"] > 500)
    before = daemon.api.capture(id)
    lane = daemon.root / "captures" / f"{id}.open" / "lane0.pcapng"
    daemon.kill()
    large = lane.stat().st_size >= SPARE - 4096
    assert not stale(lane)
    daemon.start()
    capture = daemon.api.wait_closed(id)
    path, file = daemon.file(id)
    check_residuals(capcheck.books(capture, file), capture)
    assert len(file) >= before["ledger"]["durable"]
    complaints, last = capcheck.claims(file, COUNT)
    assert not complaints and set(last) == {NEW}, (complaints, last)
    daemon.api.delete(id)
    return large


def test_kill_on_a_spare(sluiced, dir):
    daemon = sluiced(port(dir), storage=WANT)
    space = os.statvfs(daemon.root)
    system = run("stat", "-f", "-c", "%T", daemon.root).stdout.strip()
    if system not in ("ext2/ext3", "xfs") or space.f_bavail * space.f_frsize < 4 << 30:
        pytest.skip(f"{system} here, or not 4 GiB free")
    daemon.allow("recover")
    daemon.api.delete(old_capture(daemon))
    until("there is a spare", lambda: any((daemon.root / "spare").iterdir()))
    assert new_capture_is_clean(daemon), "it did not begin on the spare"


def test_power_cut_while_a_spare_is_made(sluiced, dir, belongings):
    """Around ZERO_RANGE, its sync and the rename: what is a spare afterwards reads as zero. Somewhere there: the cut
    right behind ZERO_RANGE is in tests/fault."""
    if (reason := powercut.able()) is not None:
        pytest.skip(reason)
    disk = belongings.enter_context(powercut.PowerCut(1600 << 20))
    disk.format()
    disk.mount()
    daemon = sluiced(port(dir), root=disk.place / "root", storage=WANT)
    daemon.allow(
        "recover", "Input/output", "[Rr]ead-only", "cannot keep", "cannot remove", "counted anew"
    )
    made = 0
    for seed in crash.seeds(SEED)[1:]:
        print(f"seed {seed}")
        dice = random.Random(seed)
        id = old_capture(daemon)
        disk.cut_after(dice.getrandbits(32), dice.randrange(20))
        daemon.api.request("DELETE", f"/api/v1/captures/{id}")
        time.sleep(0.2)
        if not disk.was_cut():
            disk.cut(dice.getrandbits(32))
        daemon.kill()
        disk.restore()
        spares = list((daemon.root / "spare").iterdir())
        assert not any(stale(path) for path in spares), "a spare holds old packets"
        daemon.start()
        made += new_capture_is_clean(daemon)
        for capture in daemon.api.captures()["captures"]:
            daemon.api.wait_closed(capture["id"])
            daemon.api.delete(capture["id"])
    print("it began on a spare" if made else "there was no spare")
