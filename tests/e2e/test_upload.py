# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Captures that go to a bucket: the file becomes an object, once, whole and verified."""
import hashlib
import re

import pytest

import fake_s3
import frames
import harness

PART = 5 << 20


@pytest.fixture
def fake():
    with fake_s3.FakeS3() as server:
        yield server


def credentials(place, key, secret, mode=0o600):
    path = place / "credentials"
    path.write_text(f"access_key = {key}\nsecret_key = {secret}\n", encoding="ascii")
    path.chmod(mode)
    return path


def bucket_section(place, client, **options):
    keys = credentials(place, client.key, client.secret)
    defaults = {"credentials": keys, "part_size": "5M", "timeout": "5s"}
    return client.section(place, **{**defaults, **options})


@pytest.fixture
def uploading(sluiced, dir):
    """uploading(client, packets, **options): a daemon that replays so many packets and has client's
    bucket as [bucket store]."""

    def start(client, packets, size=1000, begin=True, **options):
        path = dir / "source.pcap"
        frames.write_pcap(path, [frames.numbered(1, n, size) for n in range(packets)])
        section = bucket_section(dir, client, **options)
        return sluiced(
            {"tap0": harness.replay(path)}, begin=begin, **{"bucket store": section}
        )

    return start


def capture(daemon, packets, **output):
    made = daemon.api.create(output={"type": "s3", "bucket": "store", **output})
    daemon.api.wait_offered(made["id"], packets)
    daemon.api.stop(made["id"])
    return made["id"]


def check_object(daemon, client, id, packets, key=None):
    """The object is the file, the only one, and nothing is left unfinished."""
    done, file = daemon.settled(id, readers=False)
    assert len(file) == packets
    upload = done["upload"]
    key = key or f"{id}.pcapng"
    assert done["state"] == "complete" and done["message"] is None
    assert upload["state"] == "verified" and upload["message"] is None
    assert upload["url"] == f"s3://{client.bucket}/{key}"
    assert upload["bytes"] == upload["total_bytes"] == done["size_bytes"]
    local = (daemon.root / "captures" / id / "capture.pcapng").read_bytes()
    assert hashlib.sha256(client.get(key)).digest() == hashlib.sha256(local).digest()
    assert client.list() == {key: len(local)} and client.uploads() == []
    return done


def metric(daemon, name):
    text = daemon.api.request("GET", "/metrics").body.decode()
    return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M)[1])


def test_gateway(uploading, bucket):
    """Against a real server that checks each signature: several parts, then one piece."""
    daemon = uploading(bucket, 14000)
    id = capture(daemon, 14000, prefix="a b/ü+=:@")
    done = check_object(daemon, bucket, id, 14000, key=f"a b/ü+=:@/{id}.pcapng")
    assert done["size_bytes"] > 2 * PART and done["upload"]["attempts"] == 1
    assert metric(daemon, "sluice_upload_parts_total") == 3
    assert metric(daemon, 'sluice_uploads{state="verified"}') == 1
    daemon.api.delete(id)
    harness.until("the object is gone, too", lambda: not bucket.list())
    id = capture(daemon, 14000)
    check_object(daemon, bucket, id, 14000)
    daemon.stop()


def test_small_and_empty(uploading, fake):
    # By its name: resolving is among the things that a fenced daemon must still be able to do.
    daemon = uploading(
        fake.client(), 10, prefix="site1", endpoint=f"http://localhost:{fake.port}"
    )
    for limit in (10, 1):
        fake.objects.clear()
        made = daemon.api.create(
            output={"type": "s3", "bucket": "store"}, limits={"packets": limit}
        )
        check_object(daemon, fake.client(), made["id"], limit, key=f"site1/{made['id']}.pcapng")
    fake.objects.clear()
    empty = daemon.api.create(
        output={"type": "s3", "bucket": "store", "prefix": "x"}, filter="tcp"
    )["id"]
    daemon.api.stop(empty)
    check_object(daemon, fake.client(), empty, 0, key=f"site1/x/{empty}.pcapng")
    assert fake.count("create") == 0


FAULTS = {
    "create": [{"status": 503, "code": "SlowDown"}, {"lose": True}],
    "part": [
        {"part": 2, "status": 500},
        {"part": 1, "cut_request": 100000},
        {"part": 2, "lose": True},
        {"part": 2, "etag": "wrong"},
        {"part": 1, "etag": "missing"},
        {"part": 3, "corrupt": True},
        {"part": 2, "status": 403, "code": "AccessDenied"},
    ],
    "complete": [
        {"error200": "InternalError"},
        {"lose": True},
        {"status": 500},
        {"error200": "InvalidPart"},
    ],
    "head": [{"status": 503}, {"nth": 2, "size": 7}, {"nth": 2, "cut_answer": 30}],
}


def test_every_call_fails_once(uploading, fake):
    """One capture for each fault, their uploads side by side: each ends as one object, and no upload is left."""
    rules = [(op, rule) for op, several in FAULTS.items() for rule in several]
    daemon = uploading(fake.client(), 12000)
    daemon.allow(r"is not uploaded yet")
    ids = {}
    for op, rule in rules:
        made = daemon.api.create(output={"type": "s3", "bucket": "store"})
        fake.rule(op, key=made["id"], **rule)
        ids[made["id"]] = (op, rule)
        daemon.api.wait_offered(made["id"], 12000)
        daemon.api.stop(made["id"])
    for id, fault in ids.items():
        done = daemon.api.wait_closed(id)
        local = (daemon.root / "captures" / id / "capture.pcapng").read_bytes()
        assert done["state"] == "complete" and done["upload"]["state"] == "verified", fault
        assert fake.objects[f"{id}.pcapng"].data == local, fault
        assert [key for key, _ in fake.made].count(f"{id}.pcapng") == 1, fault
    assert len(fake.objects) == len(ids) and not fake.uploads and not fake.bad_signatures
    assert metric(daemon, "sluice_upload_retries_total") > 0
    assert metric(daemon, "sluice_upload_verified_total") == len(ids)


def test_restart_goes_on(uploading, fake):
    """Killed in the middle: what got through is not sent again, and nothing is left over."""
    daemon = uploading(fake.client(), 22000)
    daemon.allow(r"is not uploaded yet", "journal")
    fake.rule("part", part=3, times=None, status=503)
    id = capture(daemon, 22000)
    harness.until("two parts are there", lambda: fake.count("part", ok=True) >= 2)
    waiting = daemon.api.wait(id, "it waits", lambda c: c["upload"]["next_at"] is not None)
    assert waiting["state"] == "uploading" and "503" in waiting["upload"]["message"]
    assert waiting["upload"]["bytes"] <= waiting["upload"]["total_bytes"]
    daemon.kill()
    fake.heal()
    daemon.start()
    check_object(daemon, fake.client(), id, 22000)
    parts = [call.part for call in fake.calls if call.op == "part" and call.status == 200]
    assert sorted(parts) == sorted(set(parts))


def test_local_file_goes_after_its_object_is_verified(uploading, fake):
    daemon = uploading(fake.client(), 100, keep="no")
    daemon.allow(r"is not uploaded yet")
    fake.rule("head", nth=2, times=3, status=503)
    id = capture(daemon, 100)
    path = daemon.root / "captures" / id / "capture.pcapng"
    harness.until("it was sent", lambda: fake.objects)
    size = len(fake.objects[f"{id}.pcapng"].data)
    daemon.api.wait(id, "it waits", lambda c: c["upload"]["next_at"] is not None)
    assert path.stat().st_size == size
    done = daemon.api.wait_closed(id)
    harness.until("the local file is gone", lambda: not path.exists())
    done = daemon.api.wait(id, "it says so", lambda c: not c["upload"]["local"])
    assert done["state"] == "complete" and done["size_bytes"] == size
    answer = daemon.api.request("GET", f"/api/v1/captures/{id}/download")
    assert answer.status == 410 and done["upload"]["url"] in answer.json()["detail"]
    assert daemon.api.status()["storage"]["used_bytes"] == 0
    daemon.stop()
    # Dead uploads: one of a capture that is known here, one that may be another host's.
    stranger = "01234567-89ab-4def-8123-456789abcdef.pcapng"
    for key in (f"{id}.pcapng", stranger):
        fake.client().ask("POST", key, "uploads=")
    daemon.start()
    assert daemon.api.capture(id)["upload"] == done["upload"]
    harness.until("ours is gone", lambda: len(fake.uploads) == 1)
    assert [key for key, _ in fake.client().uploads()] == [stranger]
    daemon.api.delete(id)
    harness.until("the object is gone", lambda: not fake.objects)


def test_given_up(uploading, fake):
    """A bucket that stays away: the capture fails, says why, keeps its file and leaves nothing."""
    daemon = uploading(fake.client(), 12000, give_up="1s")
    daemon.allow(r"is not uploaded yet", r"is given up", r"cannot be listed", r"is still in")
    harness.until("the start's own look for debts is over", lambda: fake.count("uploads", ok=True))
    fake.rule("part", part=2, times=None, status=503)
    id = capture(daemon, 12000)
    failed, file = daemon.settled(id, readers=False)
    assert failed["state"] == "failed" and failed["upload"]["state"] == "failed"
    assert failed["message"].startswith("upload_failed: the server failed (503")
    assert failed["upload"]["local"] and len(file) == 12000
    harness.until("the upload is aborted", lambda: not fake.uploads)
    assert not fake.objects


def test_delete_while_uploading(uploading, fake):
    """Whatever is being sent, a deletion leaves nothing: no object, no upload, no debt."""
    daemon = uploading(fake.client(), 12000)
    daemon.allow(r"is not uploaded yet", r"is still in bucket")
    fake.rule("part", part=2, times=None, delay=30.0)
    id = capture(daemon, 12000)
    harness.until("a part is there", lambda: fake.count("part", ok=True) >= 1)
    daemon.api.delete(id)
    fake.heal()
    harness.until("the upload is gone", lambda: not fake.uploads and not fake.objects)
    assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404
    # The bucket is away when another is deleted, and the daemon ends before it is back.
    id = capture(daemon, 12000)
    daemon.api.wait_closed(id)
    fake.rule("*", times=None, status=503)
    daemon.api.delete(id)
    daemon.stop()
    assert fake.objects
    fake.heal()
    daemon.start()
    harness.until("the debt is paid", lambda: not fake.objects and not fake.uploads)


def test_delete_before_uploading(uploading, fake):
    """What is deleted while it runs is not uploaded first."""
    daemon = uploading(fake.client(), 12000)
    id = daemon.api.create(output={"type": "s3", "bucket": "store"})["id"]
    daemon.api.wait_offered(id, 12000)
    daemon.api.delete(id)
    assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404
    assert not fake.objects and not fake.uploads
    assert fake.count("put") == fake.count("create") == 0


def in_core(pid, word):
    """Whether a core dump of pid would show word: what is mapped and not marked "dd"."""
    found = []
    with open(f"/proc/{pid}/smaps", encoding="ascii") as maps, open(
        f"/proc/{pid}/mem", "rb", buffering=0
    ) as memory:
        for line in maps:
            fields = line.split()
            if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", fields[0]):
                first, last = (int(x, 16) for x in fields[0].split("-"))
                readable, resident = fields[1].startswith("rw"), 0
            elif fields[0] == "Rss:":
                resident = int(fields[1])
            elif fields[0] == "VmFlags:" and readable and resident and "dd" not in fields:
                try:
                    memory.seek(first)
                    if word in memory.read(last - first):
                        found.append(hex(first))
                except (OSError, ValueError, OverflowError):
                    continue
    return found


def test_credentials_are_read_anew(uploading, fake, dir):
    """Wrong ones, ones that others may read, then good ones: no restart is needed."""
    daemon = uploading(fake.client(), 100)
    daemon.allow(r"is not uploaded yet", r"cannot be used", r"cannot be listed")
    credentials(dir, fake.key, "SKWRONGCANARY")
    id = capture(daemon, 100)
    refused = daemon.api.wait(id, "it is refused", lambda c: c["upload"]["message"] is not None)
    assert "credentials" in refused["upload"]["message"]
    credentials(dir, fake.key, fake.secret, 0o644)
    daemon.api.wait(id, "it is refused", lambda c: "cannot be read" in c["upload"]["message"])
    assert "others may read" in daemon.log()
    fake.rule("put", delay=1.0)
    credentials(dir, fake.key, fake.secret)
    daemon.api.wait(id, "it is being sent", lambda c: c["upload"]["state"] == "sending")
    harness.until("it is being answered", lambda: fake.count("head") > 2)
    assert in_core(daemon.pid, f"{id}.pcapng".encode()), "what is there is found"
    assert not in_core(daemon.pid, fake.secret.encode())
    check_object(daemon, fake.client(), id, 100)
    assert not in_core(daemon.pid, fake.secret.encode())
    for text in (daemon.log(), str(daemon.api.captures())):
        assert fake.secret not in text and "CANARY" not in text and str(dir) not in str(refused)


def test_requests_are_judged(sluiced, dir, fake):
    path = dir / "source.pcap"
    frames.write_pcap(path, [frames.numbered(1, 0)])
    daemon = sluiced(
        {"tap0": harness.replay(path)},
        **{
            "account one": {},
            "account two": {},
            "bucket store": bucket_section(dir, fake.client(), accounts="one"),
            "bucket other": bucket_section(dir, fake.client(), accounts="two"),
        },
    )
    secret = daemon.api.ask(
        "POST", "/api/v1/tokens", {"name": "t", "role": "operator", "account": "one"}, 201
    )["secret"]
    api = harness.Api(daemon.http, secret)

    def refused(field, word, **output):
        body = {"output": {"type": "s3", **output}}
        problem = api.ask("POST", "/api/v1/captures", body, 400)
        assert problem["pointer"] == "/output/" + field and word in problem["detail"], problem

    refused("bucket", "required")
    refused("bucket", "allowed: store", bucket="nothing")
    refused("bucket", "allowed: store", bucket="other")
    for prefix in ("/a", "a/", "a//b", "..", "a/../b", ".", "a/.", "a" * 513):
        refused("prefix", "512", bucket="store", prefix=prefix)
    refused("prefix", "", bucket="store", prefix="a\nb")
    out = daemon.sluice("start", "--bucket", "other/a/b", "-c", "1").stdout.split()
    shown = daemon.sluice("show", out[0]).stdout
    assert f"s3://{fake.bucket}/a/b/{out[0]}.pcapng" in shown
    made = api.create(output={"type": "s3", "bucket": "store", "prefix": "ä" * 256})
    assert made["output"] == {"type": "s3", "bucket": "store", "prefix": "ä" * 256}
    assert made["upload"]["state"] == "none" and made["upload"]["attempts"] == 0
    api.stop(made["id"])
    api.wait_closed(made["id"])
