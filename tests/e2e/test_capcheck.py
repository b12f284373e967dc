# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The judge is judged: capcheck accepts a right file and finds every fault that is put into it."""
import copy
import struct

import pytest

import capcheck
import frames


def option(code, value):
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) & 3)


END = option(0, b"")


def block(kind, body):
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def shb(options=option(2, b"cpu") + option(3, b"linux") + option(4, b"test") + END, minor=0):
    return block(capcheck.SHB, struct.pack("<IHHq", 0x1A2B3C4D, 1, minor, -1) + options)


def idb(options=option(2, b"tap0") + option(9, b"\x09") + END, snaplen=200, linktype=1):
    return block(capcheck.IDB, struct.pack("<HHI", linktype, 0, snaplen) + options)


def epb(frame, stamp=1, interface=0, drops=0, origlen=None, pad=b"\0\0\0"):
    head = struct.pack(
        "<IIIII", interface, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), origlen or len(frame)
    )
    tail = option(4, struct.pack("<Q", drops)) + END if drops else b""
    return block(capcheck.EPB, head + frame + pad[: -len(frame) & 3] + tail)


def isb(accepted=6, dropped=3, delivered=3, tail_gap=1, interface=0):
    values = {2: 0, 3: 9, 6: accepted, 7: dropped, 8: delivered}
    options = b"".join(option(code, struct.pack("<Q", value)) for code, value in values.items())
    options += option(1, f"tail_gap={tail_gap}".encode()) + END
    return block(capcheck.ISB, struct.pack("<III", interface, 0, 9) + options)


def good():
    """Numbers 0, 1, 4: two lost before the third, one after it."""
    return [
        shb(),
        idb(),
        epb(frames.numbered(1, 0, 63)),
        epb(frames.numbered(1, 1, 64), 2),
        epb(frames.numbered(1, 4, 65), 3, drops=2),
        isb(),
    ]


def capture(size):
    return {
        "state": "complete",
        "reason": "stopped",
        "size_bytes": size,
        "ledger": {
            "offered": 10,
            "filtered": 4,
            "sampled_out": 0,
            "over_limit": 0,
            "accepted": 6,
            "written": 3,
            "durable": 3,
            "in_flight": 0,
            "unknown": 0,
            "unknown_max": 0,
            "dropped": {"no_block": 2, "oversize": 1},
        },
    }


def judge(path, blocks):
    path.write_bytes(b"".join(blocks))
    return capcheck.read(path)


def test_good_file(tmp_path):
    file = judge(tmp_path / "f", good())
    assert len(file) == 3 and [capcheck.number(f) for f in file.frames()] == [
        (1, 0),
        (1, 1),
        (1, 4),
    ]
    assert capcheck.claims(file, first=0) == ([], {1: 4})
    residuals = capcheck.books(capture(file.size), file)
    assert not any(residuals.values()), residuals


def change(at, new):
    blocks = good()
    blocks[at : at + 1] = new
    return blocks


FRAME = frames.numbered(1, 0, 63)
BAD_FILES = {
    "no section": good()[1:],
    "two sections": good() + good(),
    "version": change(0, [shb(minor=2)]),
    "no application": change(0, [shb(option(2, b"c") + option(3, b"l") + END)]),
    "no tsresol": change(1, [idb(option(2, b"tap0") + END)]),
    "microseconds": change(1, [idb(option(2, b"tap0") + option(9, b"\x06") + END)]),
    "no name": change(1, [idb(option(9, b"\x09") + END)]),
    "link type": change(1, [idb(linktype=101)]),
    "no end of options": change(1, [idb(option(2, b"tap0") + option(9, b"\x09"))]),
    "option padding": change(1, [idb(option(2, b"tap0") + b"\x09\0\1\0\x09\0\0\1" + END)]),
    "option too long": change(1, [idb(b"\x02\0\xff\0tap0" + END)]),
    "above snaplen": change(1, [idb(snaplen=63)]),
    "packet padding": change(2, [epb(FRAME, pad=b"x\0\0")]),
    "interface": change(2, [epb(FRAME, interface=1)]),
    "original shorter": change(2, [epb(FRAME, origlen=62)]),
    "time": change(2, [epb(FRAME, stamp=7)]),
    "statistics missing": good()[:-1],
    "statistics twice": good() + [isb()],
    "packet behind statistics": good() + [epb(FRAME, 9)],
    "interface among packets": good()[:-1] + [idb(), isb(), isb(interface=1)],
    "custom block": change(3, [block(0xBAD, b"")]),
    "hole": change(3, [b"\0" * 100]),
    "slack at the end": good() + [b"\0" * 4],
    "cut off": good()[:-1] + [isb()[:-4]],
    "two lengths": change(2, [epb(FRAME)[:-4] + b"\xff\0\0\0"]),
    "odd length": change(2, [b"\x06\0\0\0\x0d\0\0\0\0\0\0\0\x0d"]),
    "endless length": change(2, [b"\x06\0\0\0\xfc\xff\xff\xff" + b"\0" * 8]),
    "empty": [],
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(tmp_path, name):
    with pytest.raises(capcheck.Bad) as bad:
        judge(tmp_path / "f", BAD_FILES[name])
    print(bad.value)


@pytest.mark.parametrize(
    "field,by",
    [
        (field, by)
        for field in ("offered", "filtered", "accepted", "written", "in_flight", "unknown")
        for by in (1, -1)
    ]
    + [("durable", 1), ("durable", -1), ("size", 4)],
)
def test_books_that_do_not_balance(tmp_path, field, by):
    file = judge(tmp_path / "f", good())
    wrong = copy.deepcopy(capture(file.size))
    if field == "size":
        wrong["size_bytes"] += by
    else:
        wrong["ledger"][field] += by
    assert any(capcheck.books(wrong, file).values())


@pytest.mark.parametrize(
    "statistics",
    [
        {"accepted": 5},
        {"dropped": 2},
        {"delivered": 2},
        {"tail_gap": 0},
        {"tail_gap": 2},
    ],
)
def test_statistics_that_do_not_balance(tmp_path, statistics):
    file = judge(tmp_path / "f", change(5, [isb(**statistics)]))
    assert any(capcheck.books(capture(file.size), file).values())


@pytest.mark.parametrize(
    "blocks",
    [
        change(4, [epb(frames.numbered(1, 4), 3)]),
        change(4, [epb(frames.numbered(1, 4), 3, drops=1)]),
        change(3, [epb(frames.numbered(1, 1), 2, drops=2)]),
        change(3, [epb(frames.numbered(1, 0), 2)]),
        change(3, [epb(frames.numbered(1, 1)[:-1] + b"!", 2)]),
        change(2, [epb(frames.numbered(1, 1))]),
        change(2, [epb(b"x" * 64)]),
    ],
    ids=[
        "not claimed",
        "too few",
        "at the wrong place",
        "twice",
        "damaged",
        "first missing",
        "no number",
    ],
)
def test_gaps_that_nobody_claims(tmp_path, blocks):
    complaints, _ = capcheck.claims(judge(tmp_path / "f", blocks), first=0)
    assert complaints


def test_port_books():
    counters = {
        "offered": 10,
        "rx": 7,
        "nic_missed": 2,
        "nic_errors": 1,
        "nic_nombuf": 0,
        "matched": 4,
        "unmatched": 3,
    }
    port = {"name": "p", "loss_visibility": "exact", "counters": counters}
    assert not any(capcheck.port_books(port).values())
    for name in counters:
        if name != "nic_nombuf":
            counters[name] += 1
            assert any(capcheck.port_books(port).values()), name
            counters[name] -= 1


KEY = "x/11111111-2222-3333-4444-555555555555.pcapng"
ID = "11111111-2222-3333-4444-555555555555"


def delivered(state="complete", upload="verified"):
    return {
        "id": ID,
        "state": state,
        "size_bytes": 7,
        "upload": {"state": upload, "url": f"s3://caps/{KEY}"},
    }


BUCKETS = {  # what is there: captures, objects, uploads, files; and how many residuals are not 0
    "all well": ([delivered()], {KEY: (7, "a")}, [], {ID: (7, "a")}, 0),
    "file gone": ([delivered()], {KEY: (7, "a")}, [], {}, 0),
    "still uploading": ([delivered("uploading", "sending")], {}, [], {ID: (7, "a")}, 0),
    "given up": ([delivered("failed", "failed")], {}, [], {ID: (7, "a")}, 0),
    "no object": ([delivered()], {}, [], {ID: (7, "a")}, 1),
    "size": ([delivered()], {KEY: (6, "a")}, [], {}, 1),
    "contents": ([delivered()], {KEY: (7, "b")}, [], {ID: (7, "a")}, 1),
    "twice": ([delivered()], {KEY: (7, "a"), "y/" + KEY: (7, "a")}, [], {}, 2),
    "nobody's": ([], {KEY: (7, "a")}, [], {}, 1),
    "orphan": ([delivered()], {KEY: (7, "a")}, [("k", "u")], {}, 1),
    "gone too early": ([delivered("failed", "failed")], {}, [], {}, 1),
}


@pytest.mark.parametrize("name", BUCKETS)
def test_bucket(name):
    *there, wrong = BUCKETS[name]
    residuals = capcheck.bucket_books(*there)
    assert sum(map(bool, residuals.values())) == wrong, residuals
