# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Full, failing and hanging disks, made below the file system (disks.py). Whatever the disk does: it is
reported (in the API, the log and the metrics; the time that took is printed), each lost packet is counted
by reason, the file is whole blocks without a hole that any reader takes, and a capture that has nothing to
do with the disk loses nothing."""
import concurrent.futures
import re
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
            "stalled", lambda: (s := daemon.api.status())["storage"]["stalled_since"] and s, 2.0
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
