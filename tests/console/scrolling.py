# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The packet list of a capture of millions, held against tshark; for tests and scripts/soak."""
import datetime
import random

import harness

AROUND = 40  # rows below a place that are asked of tshark
ROWS = (
    "[...document.querySelectorAll('.viewport .prow:not([hidden])')].filter((row) => {"
    " const frame = row.closest('.viewport').getBoundingClientRect(), box = row.getBoundingClientRect();"
    " return box.bottom > frame.top && box.top < frame.bottom })"
    ".map((row) => [...row.children].map((cell) => cell.textContent))"
)
BAR = "document.querySelector('.viewport').scroll{}"


def number(text):
    return int(text.replace(",", ""))


def by_tshark(path, starts, place):
    """{number: (time, length)} of AROUND packets from each of starts."""
    part = place / "part.pcapng"
    last = harness.capinfos_count(path)
    wanted = [n for start in starts for n in range(start, min(start + AROUND, last + 1))]
    ranges = [f"{start}-{start + AROUND - 1}" for start in starts]
    harness.run("editcap", "-r", path, part, *ranges)
    lines = harness.quiet("tshark", "-n", "-r", part, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len").splitlines()
    part.unlink()
    return dict(zip(wanted, map(_row, lines), strict=True))


def _row(line):
    stamp, length = line.split("\t")
    whole, part = stamp.split(".")
    clock = datetime.datetime.fromtimestamp(int(whole), datetime.timezone.utc).strftime("%H:%M:%S")
    return f"{clock}.{part[:6]}", length


def rows_there(view, right):
    """What the rows say once all have come and are the right ones: [(number, time, length)]."""

    def look():
        rows = view.js(ROWS)
        full = rows and all(row[1] != "…" for row in rows)
        rows = [(number(row[0]), row[1], row[5]) for row in rows] if full else []
        return rows if rows and right([row[0] for row in rows]) else None

    return harness.until("the right rows are there", look, 60, every=0.05)


def look_everywhere(view, path, total, place, count=10, seed=11):
    """By keys to both ends, then by the bar and by number to the middle and to random places; each row is as
    tshark says. Returns how many rows were compared."""
    dice, seen = random.Random(seed), []
    room = view.js(f"{BAR.format('Height')} - document.querySelector('.viewport').clientHeight")
    view.do(".viewport", "focus")
    view.press("End")
    seen += rows_there(view, lambda rows: rows[-1] == total)
    assert view.js(BAR.format("Top")) >= room - 1
    view.press("Home")
    seen += rows_there(view, lambda rows: rows[0] == 1)
    assert view.js(BAR.format("Top")) == 0
    for n in (total // 2, *(dice.randrange(total) for _ in range(count))):
        view.js(f"{BAR.format('Top')} = {n / total * room}")
        seen += rows_there(view, lambda rows: abs(rows[0] - n) <= 30 + 2 * total / room)
        view.fill(".go", str(n + 1))
        view.press("Enter")
        seen += rows_there(view, lambda rows: n + 1 in rows)
    starts = sorted({(row[0] - 1) // AROUND * AROUND + 1 for row in seen})
    told = by_tshark(path, starts, place)
    for n, stamp, length in seen:
        assert told[n] == (stamp, length), n
    return len(seen)
