# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Full, failing and hanging disks, made below the file system (disks.py). Whatever the disk does: it is
reported (in the API, the log and the metrics; the time that took is printed), each lost packet is counted
by reason, the file is whole blocks without a hole that any reader takes, and a capture that has nothing to
do with the disk loses nothing."""
import concurrent.futures
import os
import re
import shutil
import time

import pytest

import capcheck
import disks
import frames
import harness
from harness import replay, until

COUNT = 1000
MB = 1 << 20
RATE = 10_000  # 15 MB/s


def source(dir, stream=1, size=1500):
    return frames.write_pcap(
        dir / f"s{stream}.pcap", [frames.numbered(stream, n, size) for n in range(COUNT)]
    )


def two_ports(dir, rate=RATE):
    """One for the disk, one beside it."""
    return {
        f"tap{i}": replay(source(dir, i), infinite=True, rate=rate, device=f"net_pcap{i}")
        for i in range(2)
    }


class Beside:
    """A capture of the other port that keeps nothing: the disk must not be felt in it."""

    def __init__(self, daemon):
        self.api = daemon.api
        self.daemon = daemon
        self.id = self.api.create(ports=["tap1"], output={"type": "none"})["id"]

    def check(self):
        self.api.wait(self.id, "goes on", lambda c: c["ledger"]["written"] > 0)
        before = self.api.capture(self.id)["ledger"]["written"]
        self.api.wait(self.id, "goes on", lambda c: c["ledger"]["written"] > before)
        self.api.stop(self.id)
        ledger = self.api.capture(self.id)["ledger"]
        assert not any(ledger["dropped"].values()), ledger
        self.daemon.sluice("balance", self.id)


def clocked(what, check, limit, seconds=20.0):
    """How long until check() holds, at most limit (stretched for slow builds); and what it returned."""
    begin = time.monotonic()
    found = until(what, check, seconds, every=0.01)
    took = time.monotonic() - begin
    print(f"{what}: {took:.2f} s")
    assert took <= limit * harness.SLOW, f"{what} took {took:.2f} s"
    return found


def reported(daemon, id, limit=1.0):
    """The session says by itself that something is wrong."""
    return clocked(
        "reported", lambda: (c := daemon.api.capture(id))["message"] and c, limit
    )


def metric(daemon, name):
    text = daemon.api.request("GET", "/metrics").body.decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])


def whole(daemon, id, first=0):
    """The closed capture's books balance, and all three readers take its file."""
    capture, file = daemon.settled(id)
    complaints, _ = capcheck.claims(file, COUNT, first=first)
    assert not complaints, complaints[:5]
    path, _ = daemon.file(id)
    harness.run("tcpdump", "-n", "-r", path, "-w", "/dev/null")
    path.unlink()
    print(f"{capture['state']} {capture['reason']}: {len(file)} packets, residual 0, "
          f"dropped { {k: v for k, v in capture['ledger']['dropped'].items() if v} }")  # fmt: skip
    return capture, file


# A disk that does not answer


def answers(daemon, id):
    """Every path that has an answer while the disk has none, with the time that took."""
    api = daemon.api
    asks = {
        "show": ("GET", f"/api/v1/captures/{id}", None),
        "list": ("GET", "/api/v1/captures", None),
        "status": ("GET", "/api/v1/status", None),
        "ports": ("GET", "/api/v1/ports", None),
        "metrics": ("GET", "/metrics", None),
        "health": ("GET", "/healthz", None),
        "create": ("POST", "/api/v1/captures", {"ports": ["tap0"]}),
        "stop": ("POST", f"/api/v1/captures/{id}/stop", None),
        "delete": ("DELETE", f"/api/v1/captures/{id}", None),
    }
    took = {}
    with concurrent.futures.ThreadPoolExecutor(len(asks)) as pool:

        def ask(name):
            begin = time.monotonic()
            answer = api.request(*asks[name])
            took[name] = time.monotonic() - begin
            return answer

        # The order matters: what ends the capture comes last.
        found = {n: f.result() for n, f in [(n, pool.submit(ask, n)) for n in asks if n != "delete"]}
        found["delete"] = ask("delete")
    print("answers:", " ".join(f"{n} {found[n].status} {took[n]:.2f}s" for n in asks))
    return found, took


def test_a_hanging_disk(sluiced, dir, disk):
    place = disk(disks.FaultyDisk, 512 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root", engine={"block_memory": "16M"})
    daemon.allow("does not answer")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait(id, "durable packets", lambda c: c["ledger"]["durable"] > 1000)
    with place.failing(pause=True):
        status = clocked(
            "stalled", lambda: (s := daemon.api.status())["storage"]["stalled_since"] and s, 1.0
        )
        assert status["bottleneck"] == "disk" and "does not answer" in status["explanation"]
        assert "does not answer" in daemon.api.capture(id)["events"][-1]["text"]
        assert metric(daemon, "sluice_storage_stalled") == 1
        before = daemon.api.capture(id)["ledger"]
        found, took = answers(daemon, id)
        assert found["create"].status == 503 and "does not answer" in found["create"].body.decode()
        assert found["stop"].status == 200 and found["stop"].json()["state"] == "stopping"
        assert found["delete"].status == 503
        for name in ("show", "list", "status", "ports", "metrics", "health"):
            assert found[name].status == 200
        assert max(took.values()) < 1 * harness.SLOW, took
        other = daemon.api.create(ports=["tap1"], output={"type": "none"}, limits={"packets": 100})["id"]
        assert daemon.api.wait_closed(other)["ledger"]["written"] == 100
        daemon.api.delete(other)
        assert daemon.api.capture(id)["ledger"]["durable"] == before["durable"]
    clocked("answers again", lambda: not daemon.api.status()["storage"]["stalled_since"], 2.0)
    until("it is removed", lambda: daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404)
    assert metric(daemon, "sluice_storage_stalls_total") == 1
    assert "the storage answers again" in daemon.log()
    beside.check()
    id = daemon.api.create(ports=["tap0"], limits={"packets": 500})["id"]
    whole(daemon, id, first=None)


def test_a_hang_is_outlived(sluiced, dir, disk):
    """A capture goes on when the disk comes back: what found no memory is counted where it is missing."""
    place = disk(disks.FaultyDisk, 512 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root", engine={"block_memory": "16M"})
    daemon.allow("does not answer")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, 5000)
    with place.failing(pause=True):
        daemon.api.wait(id, "loss", lambda c: c["ledger"]["dropped"]["no_block"] > 100)
        daemon.api.wait(id, "the stall is told", lambda c: c["events"])
    written = daemon.api.capture(id)["ledger"]["written"]
    daemon.api.wait(id, "goes on", lambda c: c["ledger"]["written"] > written + 20_000)
    daemon.api.stop(id)
    capture, _ = whole(daemon, id)
    assert capture["state"] == "complete" and capture["ledger"]["dropped"]["no_block"] > 100
    assert ["answer" in e["text"] for e in capture["events"]] == [True, True], capture["events"]
    beside.check()


def test_stop_of_the_daemon_during_a_hang(sluiced, dir, disk):
    place = disk(disks.FaultyDisk, 512 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root")
    daemon.allow("does not answer")
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, 5000)
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with place.failing(pause=True):
            ended = pool.submit(daemon.stop)
            time.sleep(2.5)
            assert not ended.done()
        ended.result()
    print(f"SIGTERM during a hang of 2.5 s: ended after {time.monotonic() - begin:.1f} s")
    daemon.start()
    capture, _ = whole(daemon, id)
    assert (capture["state"], capture["reason"]) == ("complete", "shutdown")


def test_a_slow_disk(sluiced, dir, disk):
    """It takes less than comes: what finds no memory is counted where it is missing, all else is kept."""
    place = disk(disks.FaultyDisk, 512 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root", engine={"block_memory": "16M"})
    daemon.allow("does not answer")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, 2000)
    with place.failing(delay=0.25):
        daemon.api.wait(id, "loss", lambda c: c["ledger"]["dropped"]["no_block"] > 2000)
        begin = daemon.api.capture(id)["ledger"]["written"]
        daemon.api.wait(id, "it writes on", lambda c: c["ledger"]["written"] > begin)
    written = daemon.api.capture(id)["ledger"]["written"]
    daemon.api.wait(id, "goes on", lambda c: c["ledger"]["written"] > written + 20_000)
    daemon.api.stop(id)
    capture, file = whole(daemon, id)
    assert (capture["state"], capture["reason"]) == ("complete", "stopped")
    assert {k for k, v in capture["ledger"]["dropped"].items() if v} == {"no_block"}
    assert sum(file.dropcount) > 2000, "gaps are told where they are"
    beside.check()


# A disk that is full


@pytest.mark.parametrize("kind", ["honest", "thin"])
def test_full_and_stop(sluiced, dir, disk, kind):
    """The capture ends, says so, and what is in the file is readable."""
    place = disk(disks.HonestDisk if kind == "honest" else disks.FaultyDisk, 256 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root", storage={"quota": "95%"})
    daemon.allow("space|disk|quota|storage")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, 5000)
    if kind == "honest":
        place.fill(0)
    else:
        place.rules(pool=0)
    clocked("reported", lambda: daemon.api.capture(id)["reason"], 1.0)
    capture = daemon.api.wait_closed(id)
    assert (capture["state"], capture["reason"]) == ("failed", "disk_full") and capture["message"]
    if kind == "honest":
        place.release()
    else:
        place.rules()
    until("the file is closed", lambda: daemon.api.capture(id)["size_bytes"] > 0, 15)
    capture, _ = whole(daemon, id)
    assert {k for k, v in capture["ledger"]["dropped"].items() if v} <= {"no_space"}
    beside.check()


def test_full_to_the_byte(sluiced, dir, disk):
    """Where the last piece that can be allocated ends, and just before and behind it."""
    place = disk(disks.HonestDisk, 96 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root", storage={"quota": "95%"})
    daemon.allow("space|disk|quota|storage")
    for leave in (60 << 10, 64 << 10, 68 << 10):
        id = daemon.api.create_with_room(ports=["tap0"])["id"]
        daemon.api.wait_offered(id, 200)
        place.fill(leave)
        capture = daemon.api.wait_closed(id)
        assert (capture["state"], capture["reason"]) == ("failed", "disk_full"), leave
        place.release()
        until("the file is closed", lambda: daemon.api.capture(id)["size_bytes"] > 0, 15)
        capture, _ = whole(daemon, id, first=None)
        assert {k for k, v in capture["ledger"]["dropped"].items() if v} <= {"no_space"}
        daemon.api.delete(id)


def test_no_inode_left(sluiced, dir, disk):
    """Space there is, but no more files: a create says so and harms nobody; who runs can be closed."""
    place = disk(disks.HonestDisk, 256 * MB, "-b", "4096", "-N", "64")
    daemon = sluiced(
        two_ports(dir, rate=500), root=place.path / "root", storage={"quota": "95%"}
    )
    beside, ids, answer = Beside(daemon), [], None
    for _ in range(64):
        answer = daemon.api.request("POST", "/api/v1/captures", {"ports": ["tap0"]})
        if answer.status != 201:
            break
        ids.append(answer.json()["id"])
    assert answer.status == 507 and "no inode left" in answer.body.decode(), answer
    assert len(ids) > 2 and {c["id"] for c in daemon.api.captures()["captures"]} == {beside.id, *ids}
    assert not list((daemon.root / "trash").iterdir()), "a refused capture leaves nothing"
    # What little is left goes, too.
    for n in range(64):
        try:
            (place.path / f"taken{n}").touch()
        except OSError:
            break
    assert os.statvfs(place.path).f_favail == 0
    for id in ids:
        daemon.api.wait_offered(id, 500)
        daemon.api.stop(id)
        capture, file = daemon.settled(id, readers=id in ids[:2])
        assert capture["state"] == "complete" and not capture["events"], capture
        assert not any(capture["ledger"]["dropped"].values()) and len(file) >= 500
    id = daemon.api.create(ports=["tap0"], limits={"packets": 10})["id"]
    daemon.settled(id)
    beside.check()


def test_full_and_wait(sluiced, dir, disk):
    """Packets are lost as no_space until there is room; then it goes on, with the gap where it was."""
    place = disk(disks.HonestDisk, 200 * MB)
    daemon = sluiced(
        two_ports(dir), root=place.path / "root", storage={"quota": "95%", "on_full": "wait"}
    )
    daemon.allow("space|disk is full|quota")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, 5000)
    for leave in (0, 4 * MB):
        lost = daemon.api.capture(id)["ledger"]["dropped"]["no_space"]
        place.fill(leave)
        # It goes on for a while in what was set aside for it: a second counts from the first loss.
        capture = reported(daemon, id, 10.0)
        assert capture["ledger"]["dropped"]["no_space"] - lost <= RATE
        assert capture["state"] == "running" and "disk is full" in capture["message"]
        daemon.api.wait(id, "loss", lambda c: c["ledger"]["dropped"]["no_space"] > lost + 5000)
        assert daemon.api.request("POST", "/api/v1/captures", {"ports": ["tap0"]}).status == 507
        place.release()
        clocked("goes on", lambda: daemon.api.capture(id)["message"] is None, 2.0)
        written = daemon.api.capture(id)["ledger"]["written"]
        daemon.api.wait(id, "goes on", lambda c: c["ledger"]["written"] > written + 5000)
    daemon.api.stop(id)
    capture, file = whole(daemon, id)
    assert (capture["state"], capture["reason"]) == ("complete", "stopped")
    assert sum(d > 0 for d in file.dropcount) >= 2, "gaps are told where they are"
    texts = [e["text"] for e in capture["events"]]
    assert ["full" in t for t in texts] == [True, False, True, False], texts
    beside.check()


def test_a_thin_disk_grows(sluiced, dir, disk):
    """df promised space that is not there; a write that found none is written when there is some."""
    place = disk(disks.FaultyDisk, 1024 * MB)
    daemon = sluiced(
        two_ports(dir), root=place.path / "root", storage={"on_full": "wait", "durable_every": "1h"}
    )
    daemon.allow("disk is full|room again|answer")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, 5000)
    with place.failing(pool=0):
        assert "disk is full" in reported(daemon, id)["message"]
        daemon.api.wait(id, "loss", lambda c: c["ledger"]["dropped"]["no_space"] > 5000)
    clocked("goes on", lambda: daemon.api.capture(id)["message"] is None, 2.0)
    written = daemon.api.capture(id)["ledger"]["written"]
    daemon.api.wait(id, "goes on", lambda c: c["ledger"]["written"] > written + 5000)
    daemon.api.stop(id)
    capture, _ = whole(daemon, id)
    assert (capture["state"], capture["reason"]) == ("complete", "stopped")
    beside.check()


# A disk that fails


def errors_of_data(place, lane):
    return {"write": {"ranges": place.extents(lane)}}


FAULTS = {
    "data": errors_of_data,
    "some": lambda place, lane: {"write": {**errors_of_data(place, lane)["write"], "rate": 0.05}},
    "flush": lambda place, lane: {"flush": {}},
    "all": lambda place, lane: {"write": {}, "flush": {}},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_errors(sluiced, dir, disk, fault):
    place = disk(disks.FaultyDisk, 512 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root")
    daemon.allow("Input/output|cannot be|storage")
    daemon.unfinished_allowed = fault in ("flush", "all")
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait(id, "durable packets", lambda c: c["ledger"]["durable"] > 5000)
    lane = daemon.root / "captures" / f"{id}.open" / "lane0.pcapng"
    rules = FAULTS[fault](place, lane)
    before = daemon.api.capture(id)["ledger"]["durable"]
    with place.failing(**rules):
        clocked("reported", lambda: daemon.api.capture(id)["reason"], 1.0)
        capture = daemon.api.wait_closed(id)
        assert (capture["state"], capture["reason"]) == ("failed", "io_error")
        assert capture["message"], capture
        assert "io_error" in daemon.log() and metric(daemon, "sluice_storage_stalled") == 0
        if fault == "flush":
            assert capture["ledger"]["durable"] - before <= RATE, "nothing was durable since"
        capcheck_books = capcheck.books(capture)
        assert not any(capcheck_books.values()), capcheck_books
    if fault in ("data", "some"):
        until("the file is closed", lambda: daemon.api.capture(id)["size_bytes"] > 0, 15)
        capture, _ = whole(daemon, id)
        assert {k for k, v in capture["ledger"]["dropped"].items() if v} <= {"io_error"}
        assert capture["ledger"]["written"] >= before
    beside.check()


def test_read_only(sluiced, dir, disk):
    place = disk(disks.HonestDisk, 256 * MB)
    daemon = sluiced(two_ports(dir), root=place.path / "root")
    daemon.allow("Read-only|cannot be|recover|left")
    daemon.unfinished_allowed = True
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait(id, "durable packets", lambda c: c["ledger"]["durable"] > 5000)
    place.read_only()
    clocked("reported", lambda: daemon.api.capture(id)["reason"], 1.0)
    capture = daemon.api.wait_closed(id)
    assert (capture["state"], capture["reason"]) == ("failed", "io_error") and capture["message"]
    answer = daemon.api.request("POST", "/api/v1/captures", {"ports": ["tap0"]})
    assert answer.status >= 500 and "Read-only" in answer.body.decode(), answer
    used = daemon.api.status()["storage"]["used_bytes"]
    assert used >= 5 * MB, "what could not be closed is counted"
    beside.check()


# Files that end where something else does

ENDS = tuple(at + off for at in (4096, 64 << 10, 1 * MB) for off in (-4, 0, 4))


def frames_for(port, payload, extra):
    """Frames to port whose packet blocks, each extra bytes longer than its frame, are payload bytes."""
    sizes = []
    while payload > 0:
        size = min(8000, payload - extra)
        if 0 < payload - extra - size < 128:
            size -= 128
        sizes.append(size)
        payload -= extra + size
    return [frames.numbered(port, n, size, dport=port) for n, size in enumerate(sizes)]


def test_ends_at_boundaries(sluiced, dir):
    """The last packet, or the file, ends with a page, a block, what was allocated, and 4 bytes beside."""
    path = frames.write_pcap(dir / "one.pcap", [frames.numbered(1, 0, 100, dport=30000)])
    probe = sluiced({"tap0": replay(path, infinite=True, rate=5000, mtu=9200)})
    id = probe.api.create(filter="udp dst port 30000", limits={"packets": 1})["id"]
    _, file = probe.settled(id)
    head = file.where[0] - 28
    extra = int.from_bytes(file.data[head + 4 : head + 8], "little") - 100
    tail = file.size - head - extra - 100
    cases = [(end, behind) for end in ENDS for behind in (0, tail)]
    sent = {
        30_000 + n: frames_for(30_000 + n, end - head - behind, extra)
        for n, (end, behind) in enumerate(cases)
    }
    path = frames.write_pcap(dir / "all.pcap", [f for some in sent.values() for f in some])
    daemon = sluiced({"tap0": replay(path, infinite=True, rate=5000, mtu=9200)})
    ids = [
        daemon.api.create(filter=f"udp dst port {port}", limits={"packets": len(some)})["id"]
        for port, some in sent.items()
    ]
    for id, some, (end, behind) in zip(ids, sent.values(), cases):
        capture, file = daemon.settled(id, readers=(end, behind) == (64 << 10, tail))
        assert file.size == end - behind + tail, (end, behind)
        assert sorted(file.frames()) == sorted(some) and capture["reason"] == "packet_limit"


# Others who meddle


def meddle_remove(open_dir, dir):
    shutil.rmtree(open_dir)


def meddle_move(open_dir, dir):
    open_dir.rename(open_dir.with_name("moved"))


def meddle_link(open_dir, dir):
    open_dir.rename(open_dir.with_name("moved"))
    open_dir.symlink_to(dir / "elsewhere")


def meddle_replace(open_dir, dir):
    shutil.copytree(open_dir, dir / "copy")
    open_dir.rename(open_dir.with_name("moved"))
    shutil.copytree(dir / "copy", open_dir)


def meddle_cut(open_dir, dir):
    lane = open_dir / "lane0.pcapng"
    os.truncate(lane, min(1 * MB, lane.stat().st_size // 2))


@pytest.mark.parametrize(
    "meddle", [meddle_remove, meddle_move, meddle_link, meddle_replace, meddle_cut]
)
def test_meddling(sluiced, dir, meddle):
    """It is seen, at the latest when the capture is closed; nothing is written anywhere else, and nothing of
    what somebody put there is taken for the capture's."""
    (dir / "elsewhere").mkdir()
    daemon = sluiced(two_ports(dir))
    daemon.allow("somebody else|cannot be|No such file")
    daemon.unfinished_allowed = True
    beside = Beside(daemon)
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait(id, "packets", lambda c: c["ledger"]["durable"] > 2000)
    open_dir = daemon.root / "captures" / f"{id}.open"
    meddle(open_dir, dir)
    if meddle in (meddle_remove, meddle_cut):
        clocked("reported", lambda: daemon.api.capture(id)["reason"], 1.0)
    else:
        daemon.api.stop(id)
    capture = daemon.api.wait_closed(id)
    assert (capture["state"], capture["reason"]) == ("failed", "io_error")
    assert "somebody else has" in capture["message"] or "No such file" in capture["message"]
    assert not list((dir / "elsewhere").iterdir())
    assert not (daemon.root / "captures" / id).exists()
    if meddle is meddle_replace:
        assert (open_dir / "lane0.pcapng").exists(), "what somebody put there is left alone"
    assert daemon.api.request("GET", f"/api/v1/captures/{id}/download").status in (404, 409, 410)
    daemon.api.delete(id)
    assert not os.path.lexists(open_dir)
    assert not list((dir / "elsewhere").iterdir())
    beside.check()
