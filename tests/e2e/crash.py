# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Captures that die with their daemon, and what must be there afterwards. Used by test_crash.py, a few
times, and by scripts/soak, a thousand times."""
import random
import time

import capcheck
import frames
import harness
from harness import capinfos_count, check_residuals, replay, tshark_lengths

COUNT = 10_000
RATE = 4000
KINDS = (
    {},
    {"filter": "udp"},
    {"snaplen": 70},
    {"filter": "tcp"},  # wants nothing
    {"filter": "port 20000", "limits": {"seconds": 3600}},
    {"filter": "udp", "snaplen": 100},
    {"limits": {"packets": 10_000_000}},
    {},
)


def source(dir, stream, size):
    return frames.write_pcap(
        dir / f"s{stream}.pcap", [frames.numbered(stream, n, size) for n in range(COUNT)]
    )


def ports(dir, queues, size=300):
    paths = [source(dir, stream + 1, size) for stream in range(queues)]
    return {"tap0": replay(*paths, infinite=True, rate=RATE, poll="always")}


def engine(queues):
    return {
        "rx_cpus": ",".join(str(harness.CPUS[i % len(harness.CPUS)]) for i in range(queues)),
        "block_memory": "64M",
    }


def made(daemon, **spec):
    """A capture; a disk that does not answer for a moment may have it asked for again."""

    def ask():
        answer = daemon.api.request("POST", "/api/v1/captures", spec)
        assert answer.status == 201 or b"does not answer" in answer.body, answer
        return answer.status == 201 and answer.json()["id"]

    return harness.until("a capture is made", ask, 60, every=0.2)


def begin(daemon, dice, most=8):
    kinds = dice.sample(KINDS, dice.randint(1, most))
    return {made(daemon, name=f"k{i}", **kind): kind for i, kind in enumerate(kinds)}


def look(daemon, ids):
    return {id: daemon.api.capture(id)["ledger"] for id in ids}


def readers(path, file, slow):
    """They read it, without a word; Wireshark's engine, which takes longest, where it is asked for."""
    assert capinfos_count(path) == len(file)
    harness.run("tcpdump", "-n", "-r", path, "-w", "/dev/null")
    if slow:
        assert tshark_lengths(path) == list(file.origlen)


def judge(daemon, id, kind, before, slow=True):
    """Wait for the recovered capture; everything that must hold of it. (capture, packets)"""
    capture = daemon.api.wait_closed(id)
    assert (capture["state"], capture["reason"]) == ("failed", "recovered"), capture
    path, file = daemon.file(id)
    ledger = capture["ledger"]
    check_residuals(capcheck.books(capture, file), capture)
    readers(path, file, slow)
    path.unlink()
    assert (
        len(file) >= before["durable"]
    ), f"{before['durable']} were durable, {len(file)} are there"
    complaints, _ = capcheck.claims(file, COUNT)
    assert not complaints, complaints[:3]
    if kind.get("filter") == "tcp":
        assert len(file) == 0
    if "snaplen" not in kind:
        torn = [n for n, frame in enumerate(file.frames()) if not capcheck.number_intact(frame)]
        assert not torn, f"packets {torn[:3]} of {len(file)} are not what was sent"
    # What was seen lies in the range that is told.
    if (most := ledger["unknown_max"]) is not None:
        assert before["accepted"] <= ledger["accepted"] - ledger["unknown"] + most, (before, ledger)
        for reason, lost in before["dropped"].items():
            assert lost <= ledger["dropped"][reason] + most, (reason, before, ledger)
    return capture, len(file)


def kill_once(daemon, dice, most=8, gone=lambda: None):
    """Begin captures, kill -9, start, judge. What was lost, in packets, of each."""
    kinds = begin(daemon, dice, most)
    time.sleep(dice.choice((0, dice.random() * 0.1, dice.random())))
    before = look(daemon, kinds)
    daemon.kill()
    gone()
    daemon.start()
    lost = []
    for i, (id, kind) in enumerate(kinds.items()):
        capture, n = judge(daemon, id, kind, before[id], slow=i == 0)
        assert capture["ledger"]["unknown_max"] is not None, "the kernel lives, and so do the notes"
        lost.append(max(0, before[id]["accepted"] - n))
        daemon.api.delete(id)
    return lost


def cut_daemon(start, disk, dir, queues):
    """A daemon on the disk. Its machine is dead when it complains of the disk."""
    daemon = start(
        ports(dir, queues),
        engine=engine(queues),
        root=disk.place / "root",
        storage={"durable_every": "400ms", "quota": "90%"},
    )
    daemon.allow("recover", "merge", "Input/output", "[Rr]ead-only", "does not answer")
    return daemon


def cut_once(disk, daemon, dice, most=4):
    """The same with the power. (packets lost of what was accepted, sectors kept, sectors lost)"""
    kinds = begin(daemon, dice, most)
    time.sleep(dice.choice((0, dice.random() * 0.1, dice.random())))
    before = look(daemon, kinds)
    kept, gone = disk.cut(dice.getrandbits(32))
    after = look(daemon, kinds)
    daemon.kill()
    disk.restore()
    daemon.start()
    listed = {c["id"] for c in daemon.api.captures("?limit=1000")["captures"]}
    lost = []
    for i, (id, kind) in enumerate(kinds.items()):
        assert id in listed, "a capture that was running is not there"
        _, n = judge_cut(daemon, id, kind, before[id], after[id], slow=i == 0)
        lost.append(max(0, before[id]["accepted"] - n))
        daemon.api.delete(id)
    return lost, kept, gone


def judge_cut(daemon, id, kind, before, after, slow):
    capture, n = judge(daemon, id, kind, before, slow)
    assert n <= after["accepted"], "more packets than were accepted"
    return capture, n


def seeds(fixed):
    """The fixed seed, and one that nobody tried before."""
    return fixed, random.SystemRandom().getrandbits(32)
