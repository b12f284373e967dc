# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Retention: captures that are too old, accounts above their share; never what is in use, nor, unless it
is wanted so, what is in no bucket yet."""
import re
import socket
import time

import pytest

import fake_s3
import frames
import harness
import uploads
from harness import Api, replay, until

COUNT = 1000
MB = 1_000_000


@pytest.fixture
def ports(dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 1500) for n in range(COUNT)])
    return {"tap0": replay(path, infinite=True, rate=40_000)}


def metric(daemon, name):
    text = daemon.api.request("GET", "/metrics").body.decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])


def deleted(daemon, reason):
    return metric(daemon, f'sluice_retention_deleted_total{{reason="{reason}"}}')


def states(daemon, ids):
    return [daemon.api.capture(id)["state"] for id in ids]


def restart(daemon, section, lines):
    """The daemon again, with more options in a section."""
    daemon.stop()
    text = daemon.config.read_text(encoding="utf-8")
    assert text.count(f"[{section}]\n") == 1
    daemon.config.write_text(text.replace(f"[{section}]\n", f"[{section}]\n{lines}\n"), encoding="utf-8")
    daemon.start()


class Held:
    """A download of which no more than the head has been read."""

    def __init__(self, daemon, id):
        self.socket = socket.socket()
        self.socket.settimeout(20 * harness.SLOW)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.connect(("127.0.0.1", daemon.http))
        self.socket.sendall(
            f"GET /api/v1/captures/{id}/download HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {daemon.api.token}\r\n\r\n".encode()
        )
        self.head = b""
        while b"\r\n\r\n" not in self.head:
            self.head += self.socket.recv(1)
        assert self.head.startswith(b"HTTP/1.1 200"), self.head

    def rest(self):
        """How many bytes of the file come; it ends where it was said to."""
        left = size = int(re.search(rb"(?i)\r\nContent-Length: (\d+)\r\n", self.head)[1])
        while left > 0 and (data := self.socket.recv(1 << 20)):
            left -= len(data)
        self.socket.close()
        return size - left


def test_what_is_old_goes_and_what_is_read_stays(sluiced, ports):
    daemon = sluiced(ports)
    ids = []
    for _ in range(3):
        ids.append(daemon.api.create(limits={"file_bytes": 9 * MB})["id"])
        daemon.settled(ids[-1], readers=False)
    before = [daemon.api.capture(id) for id in ids]
    restart(daemon, "storage", "keep = 2s")
    held = Held(daemon, ids[1])
    running = daemon.api.create(filter="tcp port 1")["id"]
    until("two of them are gone", lambda: states(daemon, ids) == ["deleted", "complete", "deleted"])
    removed = re.findall(r"retention removed capture (\S+):", daemon.log())
    assert removed == [ids[0], ids[2]], "the oldest first"
    time.sleep(1.2)  # it is looked for every second
    assert states(daemon, ids) == ["deleted", "complete", "deleted"]
    assert held.rest() == before[1]["size_bytes"]
    until("nobody reads it", lambda: states(daemon, ids) == ["deleted"] * 3)
    assert deleted(daemon, "age") == 3
    assert metric(daemon, 'sluice_retention_deleted_bytes_total{reason="age"}') == sum(
        capture["size_bytes"] for capture in before
    )
    assert daemon.api.capture(running)["state"] == "running"
    daemon.api.stop(running)
    daemon.settled(running, readers=False)  # in less than it is kept

    for id, was in zip(ids, before):
        now = daemon.api.capture(id)
        assert now["message"] == "removed by retention: older than 2 s"
        assert now["size_bytes"] == 0
        assert now["ledger"] == was["ledger"] and now["ended_at"] == was["ended_at"]
        assert daemon.api.request("GET", f"/api/v1/captures/{id}/download").status == 410
        assert not uploads.capture_path(daemon, id).exists()


def owners(daemon):
    """What ann and bob ask with."""
    for name in ("ann", "bob"):
        body = {"name": name, "role": "operator", "account": name}
        secret = daemon.api.ask("POST", "/api/v1/tokens", body, 201)["secret"]
        yield Api(daemon.http, secret)


def test_an_account_loses_its_own(sluiced, ports):
    daemon = sluiced(ports, **{"account ann": {"quota": "30M"}, "account bob": {}})
    ann, bob = owners(daemon)
    limits = {"file_bytes": 12 * MB}

    def capture(api):
        id = api.create(limits=limits)["id"]
        daemon.settled(id, readers=False)
        return id

    others = [capture(bob), capture(daemon.api)]
    ids = []
    for _ in range(4):
        ids.append(capture(ann))

    def used():
        return sum(c["size_bytes"] for c in ann.captures()["captures"] if c["state"] == "complete")

    until("the share is kept", lambda: used() < 30 << 20)
    now = states(daemon, ids)
    gone = now.count("deleted")
    assert 0 < gone < 4 and now == ["deleted"] * gone + ["complete"] * (4 - gone), now
    assert deleted(daemon, "account") == gone and deleted(daemon, "quota") == 0
    word = f"removed by retention: account ann had reached its quota of {30 << 20} bytes"
    assert daemon.api.capture(ids[0])["message"] == word
    assert states(daemon, others) == ["complete"] * 2, "nobody loses anything for ann"

    gone_before = daemon.api.capture(ids[0])
    restart(daemon, "storage", "when_full = refuse")
    assert daemon.api.capture(ids[0]) == gone_before
    for _ in range(4):
        answer = ann.request("POST", "/api/v1/captures", {"limits": limits})
        if answer.status != 201:
            break
        daemon.settled(answer.json()["id"], readers=False)
    assert answer.status == 507, answer
    text = answer.body.decode()
    assert f"its quota is {30 << 20} ([account ann] quota)" in text and f"take {used()} bytes" in text
    capture(bob)
    assert deleted(daemon, "account") == 0 and states(daemon, others) == ["complete"] * 2


def test_lost_only_where_it_is_wanted(sluiced, dir):
    """A capture whose upload was given up stays, however old, until the policy says otherwise."""
    with fake_s3.FakeS3() as fake:
        daemon = sluiced(
            uploads.source(dir), storage={"keep": "1s"}, **uploads.bucket(fake, dir, give_up="1s")
        )
        daemon.allow(*uploads.NEWS, "is given up")
        fake.rule("part", part=2, times=None, status=500)
        id = uploads.begin(daemon, "x")
        daemon.api.wait(id, "is given up", lambda c: c["state"] == "failed")
        capture, _ = daemon.settled(id, readers=False)
        time.sleep(1.5)
        assert states(daemon, [id]) == ["failed"] and deleted(daemon, "age") == 0
        restart(daemon, "storage", "delete_unuploaded = yes")
        daemon.allow("is in no bucket")
        until("it is removed", lambda: states(daemon, [id]) == ["deleted"])
        until("that is noted", lambda: "is in no bucket" in daemon.log())
        count = capture["ledger"]["written"]
        assert f"capture {id} was removed by retention and is in no bucket: {count} packets" in daemon.log()
        now = daemon.api.capture(id)
        assert now["message"].startswith("removed by retention: older than 1 s; before: upload_failed")
        assert now["events"][-1]["text"].endswith(f"before it was uploaded: {count} packets are lost")
        assert metric(daemon, "sluice_retention_lost_captures_total") == 1
        assert metric(daemon, "sluice_retention_lost_packets_total") == count
