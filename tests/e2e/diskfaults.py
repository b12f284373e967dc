# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A disk that goes wrong in every way there is, at random, under captures: what must hold whatever it does.
Used by scripts/soak disks N; test_disks.py has each way once, with what it must look like."""
import contextlib
import os
import shutil
import time

import capcheck
import crash
import disks
import frames
import harness
import test_disks
from harness import replay, until

COUNT = 1000
MB = 1 << 20
SIZE = 512 * MB
RATE = 8000  # a queue: 12 MB/s
SPECS = ({}, {"snaplen": 200}, {"filter": "udp"}, {"filter": "udp", "snaplen": 700})
NEWS = (
    r"space|disk|quota|storage|Input/output|cannot|could not|Read-only|somebody else|recover|No such file|"
    r"answer|left|merge|io_error|durable|room|damaged|anew|index",
)
MEDDLERS = (
    test_disks.meddle_remove,
    test_disks.meddle_move,
    test_disks.meddle_link,
    test_disks.meddle_replace,
    test_disks.meddle_cut,
)


class Tally:
    """What is told at the end."""

    def __init__(self):
        self.rounds = self.captures = self.packets = self.lost = self.kills = self.remounts = 0
        self.silent = self.torn = self.residual = self.undurable = 0
        self.kinds, self.reported = {}, {}

    def report(self, kind, seconds):
        self.reported[kind] = max(self.reported.get(kind, 0.0), seconds)

    def good(self):
        return not (self.silent or self.torn or self.residual or self.undurable)

    def __str__(self):
        kinds = ", ".join(f"{name} {n}" for name, n in sorted(self.kinds.items()))
        times = ", ".join(f"{name} {s:.2f} s" for name, s in sorted(self.reported.items()))
        return (
            f"{self.rounds} rounds ({kinds}), {self.kills} with kill -9, {self.remounts} mounted anew;"
            f" {self.captures} captures, {self.packets} packets kept, {self.lost} lost and counted;"
            f" reported within {max(self.reported.values(), default=0):.2f} s ({times});"
            f" silent losses {self.silent}, torn blocks {self.torn}, durable packets lost"
            f" {self.undurable}, residual {self.residual}"
        )


class Round:
    def __init__(self, place, tally, dice):
        self.place, self.tally, self.dice = place, tally, dice
        self.daemon, self.disk, self.api = place.daemon, place.disk, place.daemon.api
        specs = [dice.choice(SPECS) for _ in range(dice.randint(1, 3))]
        self.ids = [self.api.create_with_room(ports=["tap0"], **spec)["id"] for spec in specs]
        self.meddled, self.killed = None, False

    def run(self):
        wanted = self.dice.choice((0, 500, 3000))
        self.before = {
            id: self.api.wait(id, "durable packets", lambda c: c["ledger"]["durable"] >= wanted)
            for id in self.ids
        }
        self.kind = self.dice.choice(sorted(FAULTS))
        self.tally.kinds[self.kind] = self.tally.kinds.get(self.kind, 0) + 1
        FAULTS[self.kind](self)
        ruined = self.place.ruined()
        if ruined or self.dice.random() < 0.15:
            self.place.start_anew(ruined)
            self.killed = True
            self.tally.kills += 1
            self.tally.remounts += ruined
        for id in self.ids:
            self.judge(id)
        self.place.tidy()
        self.tally.rounds += 1

    def lane(self, id):
        return self.daemon.root / "captures" / f"{id}.open" / "lane0.pcapng"

    def clocked(self, check):
        """Since the disk first refused something, where it is the disk that refuses."""
        begin = time.monotonic()
        until("it is reported", check, 60, every=0.005)
        self.tally.report(self.kind, time.monotonic() - (self.disk.failed_at() or begin))

    def told(self):
        """One of the captures says it by itself."""
        found = [self.api.capture(id) for id in self.ids]
        return any(c["reason"] or c["message"] for c in found)

    def lost(self):
        return any(any(self.api.capture(id)["ledger"]["dropped"].values()) for id in self.ids)

    def linger(self, most=1.5):
        time.sleep(self.dice.random() * most)

    def judge(self, id):
        """Closed by now, or soon; everything that must hold of it."""
        self.tally.captures += 1
        if id == self.meddled and self.killed and not self.known(id):
            return  # with its directory went all that a restart can know of it
        capture = self.api.capture(id)
        if capture["state"] == "running":
            self.api.stop(id)
        capture = self.api.wait_closed(id)
        if id == self.meddled:
            assert capture["state"] == "failed", capture
            self.balance(capture)
            return
        if not self.closes(id):
            # Its journal was given up only when somebody wrote to it again.
            assert self.place.ruined(), "the disk works, and the file is not closed"
            self.place.start_anew(True)
            self.tally.remounts += 1
            assert self.closes(id), "the file is not closed"
        capture = self.api.wait_closed(id)
        path = self.daemon.dir / f"{id}.pcapng"
        self.api.download(id, path)
        try:
            file = capcheck.read(path)
        except capcheck.Bad as bad:
            self.tally.torn += 1
            raise AssertionError(f"{self.kind}: {id}: {bad}") from None
        self.balance(capture, file)
        complaints, _ = capcheck.claims(file, COUNT)
        self.tally.silent += len(complaints)
        assert not complaints, (self.kind, complaints[:3])
        durable = self.before[id]["ledger"]["durable"]
        self.tally.undurable += max(0, durable - len(file))
        assert len(file) >= durable, f"{self.kind}: {durable} were durable, {len(file)} are there"
        crash.readers(path, file, slow=False)
        path.unlink()
        self.tally.packets += len(file)

    def known(self, id):
        return self.api.request("GET", f"/api/v1/captures/{id}").status == 200

    def closes(self, id):
        def closed():
            capture = self.api.capture(id)
            return capture["state"] in ("complete", "failed") and capture["size_bytes"] > 0

        with contextlib.suppress(AssertionError):
            return until("the file is closed", closed, 12)
        return False

    def balance(self, capture, file=None):
        residuals = capcheck.books(capture, file)
        self.tally.residual = max(self.tally.residual, *(abs(v) for v in residuals.values()))
        self.tally.lost += sum(capture["ledger"]["dropped"].values())
        harness.check_residuals(residuals, capture)


# The ways


def full(r):
    r.disk.fill(r.dice.choice((0, 4096, 64 << 10, r.dice.randrange(8 * MB))))
    if r.place.waits:  # who waits goes on in the room that it has
        until("that is used up", lambda: r.lost() or r.told(), 60, every=0.005)
    r.clocked(r.told)
    r.linger()
    r.disk.release()


def thin(r):
    with r.disk.failing(pool=0):
        r.clocked(r.told)
        r.linger()


def data_error(r):
    lane = r.lane(r.dice.choice(r.ids))
    with r.disk.failing(write={"ranges": r.disk.extents(lane)}):
        r.clocked(r.told)
        r.linger()


def some_errors(r):
    lane = r.lane(r.dice.choice(r.ids))
    rule = {"ranges": r.disk.extents(lane), "rate": r.dice.choice((0.001, 0.01, 0.1))}
    with r.disk.failing(write=rule, seed=r.dice.getrandbits(30)):
        r.linger()


def flush_error(r):
    with r.disk.failing(flush={}):
        r.clocked(r.told)
        r.linger()


def metadata_error(r):
    """Everywhere but in the lanes: the journal, inodes, directories."""
    lanes = [e for id in r.ids for e in r.disk.extents(r.lane(id))]
    edges = [0, *(at for extent in sorted(lanes) for at in extent), SIZE]
    with r.disk.failing(write={"ranges": list(zip(edges[::2], edges[1::2]))}):
        r.linger()


def all_errors(r):
    with r.disk.failing(write={}, flush={}):
        r.clocked(r.told)
        r.linger()


def read_only(r):
    r.disk.read_only()
    r.clocked(r.told)
    r.linger()


def slow(r):
    with r.disk.failing(delay=r.dice.choice((0.003, 0.01, 0.05))):
        r.linger(3)


def hang(r):
    with r.disk.failing(pause=True):
        if r.dice.random() < 0.5:
            r.clocked(lambda: r.api.status()["storage"]["stalled_since"])
        r.linger(3)


def meddle(r):
    r.meddled = r.dice.choice(r.ids)
    how = r.dice.choice(MEDDLERS)
    how(r.lane(r.meddled).parent, r.place.scratch())
    if how in (test_disks.meddle_remove, test_disks.meddle_cut):
        r.clocked(lambda: r.api.capture(r.meddled)["reason"])


FAULTS = {
    f.__name__: f
    for f in (
        full, thin, data_error, some_errors, flush_error, metadata_error, all_errors, read_only, slow,
        hang, meddle,
    )
}  # fmt: skip


class Place:
    """A disk and a daemon on it, and a capture beside that has nothing to do with the disk."""

    def __init__(self, scratch, disk, start, dice):
        self.disk, self.queues = disk, dice.randint(1, 2)
        durable_every = dice.choice(("200ms", "1s"))
        self.waits = dice.random() < 0.5
        self.dir, self.serial = scratch, 0
        paths = [
            frames.write_pcap(
                scratch / f"s{s}.pcap", [frames.numbered(s, n, 1500) for n in range(COUNT)]
            )
            for s in range(self.queues + 1)
        ]
        self.daemon = start(
            {
                "tap0": replay(*paths[1:], infinite=True, rate=RATE, poll="always"),
                "tap1": replay(paths[0], infinite=True, rate=RATE, device="net_pcap1"),
            },
            root=disk.path / "root",
            engine={**crash.engine(self.queues), "block_memory": "32M"},
            storage={
                "durable_every": durable_every,
                "on_full": "wait" if self.waits else "stop",
                "when_full": "refuse",
                "quota": "95%",
            },
        )
        self.daemon.allow(*NEWS)
        self.daemon.unfinished_allowed = True
        self.begin_beside()

    def scratch(self):
        """A directory that nobody has seen."""
        self.serial += 1
        path = self.dir / f"scratch{self.serial}"
        (path / "elsewhere").mkdir(parents=True)
        return path

    def begin_beside(self):
        self.beside = self.daemon.api.create(ports=["tap1"], output={"type": "none"})["id"]

    def check_beside(self):
        ledger = self.daemon.api.capture(self.beside)["ledger"]
        assert not any(ledger["dropped"].values()), f"beside: {ledger}"

    def ruined(self):
        """ext4 has had enough of it."""
        probe = self.disk.path / "probe"
        try:
            with open(probe, "wb") as f:
                f.write(b"x")
                os.fsync(f.fileno())
            probe.unlink()
        except OSError:
            return True
        return False

    def start_anew(self, remount):
        """After kill -9; on a file system that was repaired where it was ruined."""
        self.check_beside()
        self.daemon.kill()
        if remount:
            self.disk.mount_anew()
        self.daemon.start()
        self.begin_beside()

    def tidy(self):
        """Nothing of the round is left."""
        api = self.daemon.api
        self.check_beside()
        until("the disk answers", lambda: not api.status()["storage"]["stalled_since"])
        for capture in api.captures("?limit=1000")["captures"]:
            if capture["id"] != self.beside:
                api.delete(capture["id"])
        for left in (self.daemon.root / "captures").iterdir():
            if left.is_symlink():
                left.unlink()
            else:
                shutil.rmtree(left)
        for elsewhere in self.dir.glob("scratch*/elsewhere"):
            assert not any(elsewhere.iterdir()), "something was written where a link led"
        for path in self.dir.glob("scratch*"):
            shutil.rmtree(path)


@contextlib.contextmanager
def place(scratch, start, dice):
    with disks.FaultyDisk(SIZE) as disk:
        made = Place(scratch, disk, start, dice)
        yield made
        made.check_beside()
        made.daemon.stop()
