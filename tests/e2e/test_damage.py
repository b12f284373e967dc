# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What stands beside a capture's file is damaged, exchanged or old: the capture is listed, can be downloaded,
and its counts are those of its file; never a crash, never the wrong ones."""
import random
import shutil
import time

import pytest

import capcheck
import crash
import frames
from harness import capinfos_count, check_residuals, replay

SEED = 20261121
COUNT = 3000


def flip(path, dice):
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def cut(path, dice):
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(len(data))])


def sector(path, dice):
    """512 bytes read as zero."""
    data = bytearray(path.read_bytes())
    at = dice.randrange(len(data)) // 512 * 512
    data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)


def gone(path, _):
    path.unlink()


def noise(path, dice):
    path.write_bytes(dice.randbytes(dice.randrange(5000)))


DAMAGES = (flip, flip, flip, cut, sector, gone, noise)


@pytest.fixture
def daemon(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 200) for n in range(COUNT)])
    made = sluiced({"tap0": replay(path, infinite=True, rate=20_000)})
    made.allow("is counted anew", "cannot read the record", "recover")
    return made


def counted(daemon, id, written):
    """Listed, closed and whole, with the counts of its file."""
    capture = daemon.api.wait_closed(id)
    path, file = daemon.file(id)
    check_residuals(capcheck.books(capture, file), capture)
    assert len(file) == capture["ledger"]["written"] == written
    complaints, _ = capcheck.claims(file, COUNT)
    assert not complaints, complaints[:3]
    path.unlink()
    return capture


def test_records(daemon):
    """Of closed captures."""
    seed = crash.seeds(SEED)[1]
    print(f"seed {seed}")
    captures = daemon.root / "captures"
    ids, counts, running = [], [], {}
    for n in range(2 * len(DAMAGES) + 4):
        # Those whose record is read while they run must run for a while.
        counts.append(100 + n if n < 2 * len(DAMAGES) else 10_000 + n)
        id = daemon.api.create(name=f"n{n}", limits={"packets": counts[n]})["id"]
        if n >= 2 * len(DAMAGES):
            running[id] = (captures / f"{id}.open" / "record").read_bytes()
        daemon.settled(id, readers=False)
        ids.append(id)
    daemon.stop()
    dice = random.Random(SEED)
    damaged = {}
    for n, id in enumerate(ids[: 2 * len(DAMAGES)]):
        if n == len(DAMAGES):
            dice = random.Random(seed)
        DAMAGES[n % len(DAMAGES)](captures / id / "record", dice)
        damaged[id] = counts[n]
    # Two that were exchanged, one that is old, one that is as it was.
    a, b, old, good = ids[2 * len(DAMAGES) :]
    first, second = captures / a / "record", captures / b / "record"
    first.rename(captures / "x")
    second.rename(first)
    (captures / "x").rename(second)
    (captures / old / "record").write_bytes(running[old])
    for id in (a, b, old):
        damaged[id] = counts[ids.index(id)]
    daemon.start()
    for id, written in damaged.items():
        capture = counted(daemon, id, written)
        assert (capture["state"], capture["reason"]) == ("failed", "recovered"), capture
        assert "record was damaged" in capture["message"]
        if id != old:
            assert capture["account"] == "*" and capture["name"] == ""
    kept = [id for id in damaged if (captures / id / "record.bad").exists()]
    missing = [ids[n] for n, d in enumerate(DAMAGES * 2) if d is gone]
    assert set(damaged) - set(kept) == {*missing, old}
    capture = counted(daemon, good, counts[ids.index(good)])
    assert capture["reason"] == "packet_limit" and capture["name"] == f"n{ids.index(good)}"
    # What was made anew is there for good.
    daemon.stop()
    log = len(daemon.log())
    daemon.start()
    for id, written in damaged.items():
        assert daemon.api.capture(id)["ledger"]["written"] == written
    assert "counted anew" not in daemon.log()[log:]
    for id in damaged:
        daemon.api.delete(id)
        assert not (captures / id).exists()


def test_running_captures(daemon):
    """Record, state and index of captures that a killed daemon leaves: nothing durable is lost."""
    seed = crash.seeds(SEED)[1]
    print(f"seed {seed}")
    dice = random.Random(seed)
    captures = daemon.root / "captures"
    ids = [daemon.api.create(name=f"n{n}")["id"] for n in range(15)]
    daemon.api.wait(ids[-1], "1000 packets durable", lambda c: c["ledger"]["durable"] > 1000)
    before = {id: daemon.api.capture(id)["ledger"] for id in ids}
    daemon.kill()
    daemon.allow("durably are not readable")
    for n, id in enumerate(ids):
        name = ("record", "state", "index")[n % 3]
        DAMAGES[n // 3](captures / f"{id}.open" / name, dice)
    daemon.start()
    for n, id in enumerate(ids):
        capture = daemon.api.wait_closed(id)
        path, file = daemon.file(id)
        check_residuals(capcheck.books(capture, file), capture)
        assert (capture["state"], capture["reason"]) == ("failed", "recovered"), capture
        assert len(file) >= before[id]["durable"]
        assert capinfos_count(path) == len(file)
        complaints, _ = capcheck.claims(file, COUNT)
        assert not complaints, complaints[:3]
        assert capture["name"] == ("" if n % 3 == 0 else f"n{n}")
        path.unlink()


def test_hole(daemon):
    """A hole in the middle of a dead capture's file: what is behind it is rescued, the gap is told."""
    id = daemon.api.create(name="holed")["id"]
    capture = daemon.api.wait(id, "lots is durable", lambda c: c["ledger"]["durable"] > 5000)
    daemon.kill()
    lane = daemon.root / "captures" / f"{id}.open" / "lane0.pcapng"
    with open(lane, "r+b") as f:
        f.seek(200_000)
        f.write(bytes(20_000))
    daemon.allow("durable up to byte", "recover")
    daemon.start()
    capture = daemon.api.wait_closed(id)
    path, file = daemon.file(id)
    check_residuals(capcheck.books(capture, file), capture)
    assert capinfos_count(path) == len(file)
    (gap,) = [i for i, n in enumerate(file.dropcount) if n]
    lost = file.dropcount[gap]
    assert lost == capture["ledger"]["dropped"]["writer_stopped"] >= 20_000 // 240
    assert file.where[gap] < 300_000 < file.size and len(file) - gap > 2000
    complaints, _ = capcheck.claims(file, COUNT, first=0)
    assert not complaints, complaints[:3]
    assert f"gap: {lost} packets were lost here" in str(file.data[file.where[gap] :][:600])
    assert any("1 gaps" in e["text"] for e in capture["events"])
    text = daemon.sluice("show", id).stdout
    assert "writer_stopped" in text
    assert "sluice_recovered_gaps_total 1" in daemon.api.request("GET", "/metrics").body.decode()


def test_killed_recovery(sluiced, dir, two_cpus):
    """A daemon that dies while it recovers, again and again: the same bytes as with one that does not."""
    daemon = sluiced(crash.ports(dir, 2, size=1500), engine=crash.engine(2))
    daemon.allow("recover", "merge", "durable up to byte")
    id = daemon.api.create()["id"]
    daemon.api.wait(id, "lots is durable", lambda c: c["ledger"]["durable"] > 8000)
    daemon.kill()
    with open(daemon.root / "captures" / f"{id}.open" / "lane1.pcapng", "r+b") as f:
        f.seek(1_000_000)
        f.write(bytes(50_000))
    place = daemon.root / "captures"
    saved = dir / "saved"
    shutil.copytree(place / f"{id}.open", saved)
    files = set()
    dice = random.Random(SEED)
    for turn in range(3):
        for _ in range(0 if turn == 0 else 6):
            daemon.launch()
            time.sleep(dice.random() * 0.5)
            daemon.kill()
        daemon.start()
        capture = daemon.api.wait_closed(id)
        path, file = daemon.file(id)
        check_residuals(capcheck.books(capture, file), capture)
        files.add(path.read_bytes())
        daemon.kill()
        if turn < 2:
            shutil.rmtree(place / id)
            shutil.copytree(saved, place / f"{id}.open")
    assert len(files) == 1
    daemon.start()
