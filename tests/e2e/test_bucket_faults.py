# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Uploads to a server that misbehaves: each object comes to be once and is the file, nothing else is
left there, and no local file goes before that is proved. `scripts/soak upload N` runs the long form."""
import os
import time

import pytest

import fake_s3
import s3
import uploads
from harness import until
from uploads import TWO_PARTS


@pytest.fixture
def fake():
    with fake_s3.FakeS3() as server:
        yield server


@pytest.fixture
def start(sluiced, dir, fake):
    """start(**options of [bucket caps]) is a daemon whose bucket is the fake one."""

    def make(**options):
        daemon = sluiced(uploads.source(dir), **uploads.bucket(fake, dir, **options))
        daemon.allow(*uploads.NEWS)
        return daemon

    return make


@pytest.mark.parametrize("seed", [1, int.from_bytes(os.urandom(4), "little")])
def test_each_fault(start, fake, seed):
    """All that is healed by trying again, side by side: one capture for each kind of it, then a few
    with several faults each."""
    dice, daemon = uploads.dice(seed), start()
    before = daemon.rss()
    faults = {
        name: fault
        for name, fault in uploads.kinds(dice).items()
        if not any(word in name for word in uploads.SLOW)
    }
    assert uploads.run_faults(daemon, fake, faults) == len(faults) >= 14
    assert uploads.run_random(daemon, fake, dice, 4) > 0
    assert daemon.rss() - before < 48 << 20


def test_one_piece(start, fake):
    """What fits into one part is sent without a multipart upload."""
    daemon = start()
    for n, rule in enumerate(
        (
            {},
            {"status": 500},
            {"lose": True},
            {"corrupt": True},
            {"etag": "wrong"},
            {"cut_request": 100},
        )
    ):
        if rule:
            fake.rule("put", key=f"p{n}/", **rule)
        uploads.begin(daemon, f"p{n}", 10)
    ids = [c["id"] for c in daemon.api.captures()["captures"]]
    for id in ids:
        capture = uploads.verified(daemon, id)
        assert uploads.packets(daemon, fake, capture) == 10
    assert fake.count("create") == 0
    uploads.balance(daemon, fake, ids)


def test_a_server_that_knows_no_conditions(start, fake):
    fake.conditional = False
    daemon = start()
    fake.rule("complete", key="a/", lose=True)
    fake.rule("put", key="b/", lose=True)
    ids = [uploads.begin(daemon, "a"), uploads.begin(daemon, "b", 10)]
    for id in ids:
        uploads.verified(daemon, id)
    uploads.balance(daemon, fake, ids)


def test_credentials_that_expire(start, fake, dir):
    """No right is no end: with new keys in the file the upload goes on where it stopped."""
    daemon = start()
    fake.rule("part", part=2, status=503, code="SlowDown", times=None)
    id = uploads.begin(daemon, "x")
    until("part 2 was refused", lambda: fake.count("part", False))
    fake.keys = {"AKNEW": "SKNEWSECRET"}
    fake.tokens = {"AKNEW": "token-2"}
    fake.heal()
    capture = daemon.api.wait(
        id, "the old keys were refused", lambda c: "InvalidAccessKeyId" in str(c["upload"])
    )
    assert capture["state"] == "uploading" and uploads.local(daemon, id)
    keys = next(dir.glob("keys-*"))
    s3.write_keys(keys, "AKNEW", "SKNEWSECRET", "token-1")
    daemon.api.wait(id, "the old token was refused", lambda c: "ExpiredToken" in str(c["upload"]))
    s3.write_keys(keys, "AKNEW", "SKNEWSECRET", "token-2")
    uploads.verified(daemon, id)
    assert {code for *_, code in fake.bad_signatures} == {"InvalidAccessKeyId"}
    fake.bad_signatures.clear()
    uploads.balance(daemon, fake, [id])
    assert len([c for c in fake.calls if c.part == 1]) == 1, "part 1 was sent again"
    for text in (daemon.log(), str(daemon.api.captures())):
        assert "SKFAKESECRET" not in text and "SKNEWSECRET" not in text and "token-" not in text


def test_given_up(start, fake):
    """A bucket that takes nothing for too long: the capture fails, its file stays."""
    daemon = start(give_up="1s")
    daemon.allow("is given up")
    fake.rule("part", part=2, times=None, status=500)
    id = uploads.begin(daemon, "x")
    capture = daemon.api.wait(id, "is given up", lambda c: c["state"] == "failed")
    assert capture["upload"]["state"] == "failed" and "upload_failed" in capture["message"]
    path, file = daemon.file(id)
    assert len(file) == TWO_PARTS
    path.unlink()
    until("nothing is left there", lambda: not fake.uploads, 60)
    uploads.balance(daemon, fake, [id])


KILLS = (
    {  # where the daemon is killed: the rule that holds it there, and how many parts it has sent
        "in part 2": ("part", {"part": 2, "delay": 2}, 1),
        "before complete": ("complete", {"delay": 2}, 2),
        "after complete": ("head", {"nth": 2, "delay": 2}, 2),
        "after a create that got lost": ("create", {"lose": True, "delay": 1}, 0),
    }
)


@pytest.mark.parametrize(
    "places,hard",
    [
        (["in part 2", "before complete"], True),
        (["after complete", "after a create that got lost"], True),
        (["in part 2", "after complete"], False),
    ],
    ids=["killed", "killed in between", "stopped"],
)
def test_restarted_in_the_middle(start, fake, places, hard):
    """Kill or stop at each place: the next daemon goes on there, and nothing is there twice."""
    daemon, ids = start(keep="no", timeout="10s"), {}
    for n, name in enumerate(places):
        op, rule, _ = KILLS[name]
        held = fake.rule(op, key=f"k{n}/", **rule)
        ids[name] = uploads.begin(daemon, f"k{n}")
        until(f"it is held {name}", lambda h=held: h.done)
    time.sleep(0.1)
    since = len(fake.calls)
    if hard:
        daemon.kill()
    else:
        daemon.stop()
    files = {name: uploads.local(daemon, id) for name, id in ids.items()}
    assert all(files.values()), f"a file is gone before its object was verified: {files}"
    daemon.start()
    for n, name in enumerate(places):
        uploads.verified(daemon, ids[name])
        with fake.lock:
            done = [c for c in fake.calls[since:] if c.op == "part" and c.key.startswith(f"k{n}/")]
            (object,) = [o for k, o in fake.objects.items() if k.startswith(f"k{n}/")]
        # What was held may have arrived, too: it counts as sent after the kill.
        assert len({c.part for c in done}) <= 2 - KILLS[name][2], f"{name}: sent again {done}"
        assert (len(object.data), object.sha256) == files[name]
        until("the local file is gone", lambda i=ids[name]: uploads.local(daemon, i) is None)
    uploads.until_finished(fake)
    uploads.balance(daemon, fake, ids.values())


def test_the_file_stays_until_its_object_is_proved(start, fake):
    """keep = no. Watched all the time: no file is gone before its object was seen to be there."""
    daemon = start(keep="no")
    for n, rule in enumerate(
        (
            {"op": "complete", "error200": "InternalError", "times": 2},
            {"op": "head", "nth": 2, "status": 404, "times": 1},
            {"op": "complete", "lose": True},
            {"op": "head", "nth": 2, "delay": 0.7},
        )
    ):
        op = rule.pop("op")
        fake.rule(op, key=f"s{n}/", **rule)
    ids = {uploads.begin(daemon, f"s{n}"): n for n in range(4)}
    files = {id: uploads.local(daemon, id) for id in ids}
    while ids:
        for id, n in list(ids.items()):
            if uploads.capture_path(daemon, id).exists():
                continue
            with fake.lock:
                key = next(k for k in fake.objects if k.startswith(f"s{n}/"))
                object = fake.objects[key]
                heads = [c for c in fake.calls if c.op == "head" and c.key == key]
            assert heads[-1].status == 200, "nobody had looked"
            if files[id]:
                assert (len(object.data), object.sha256) == files[id]
            del ids[id]
        time.sleep(0.005)
    listed = daemon.api.captures()["captures"]
    for capture in listed:
        assert capture["upload"]["local"] is False
        answer = daemon.api.request("GET", f"/api/v1/captures/{capture['id']}/download")
        assert answer.status in (409, 410), answer
    uploads.balance(daemon, fake, [c["id"] for c in listed])


def test_deleted_in_the_middle(start, fake):
    """Nothing of a capture that is deleted while it is sent stays, whatever the bucket is at."""
    daemon = start()
    for n, (op, rule) in enumerate(
        (
            ("part", {"part": 2, "delay": 0.6}),
            ("complete", {"delay": 0.6}),
            ("head", {"nth": 2, "delay": 0.6}),
            ("part", {"part": 1, "status": 503, "times": None}),
        )
    ):
        held = fake.rule(op, key=f"d{n}/", **rule)
        id = uploads.begin(daemon, f"d{n}")
        until("it is held", lambda h=held: h.done)
        daemon.api.delete(id)
        assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404
    until("nothing is left", lambda: uploads.held(fake) == ({}, []), 90)
    assert not fake.bad_signatures


def test_nothing_else_is_connected_to(start, fake):
    """Not where an answer points to, nor where the configuration does not let us."""
    daemon = start()
    with uploads.Listener() as forbidden:
        where = (f"http://127.0.0.1:{forbidden.port}/x", "http://169.254.169.254/latest/meta-data")
        ids = []
        for n, op in enumerate(("create", "part", "complete", "head")):
            for m, to in enumerate(where):
                fake.rule(op, key=f"n{n}{m}/", redirect=to, times=None)
                ids.append(uploads.begin(daemon, f"n{n}{m}"))
        for id in ids:
            capture = daemon.api.wait(id, "has failed once", lambda c: c["upload"]["message"])
            assert capture["state"] == "uploading" and uploads.local(daemon, id)
        assert forbidden.count == 0
        for id in ids:
            daemon.api.delete(id)
    fake.heal()
    until("nothing is left", lambda: uploads.held(fake) == ({}, []), 90)


def test_an_endpoint_that_is_not_allowed(start, fake):
    daemon = start(allow="10.0.0.0/8")
    id = uploads.begin(daemon, "x")
    capture = daemon.api.wait(id, "has failed once", lambda c: c["upload"]["message"])
    assert "loopback" in capture["upload"]["message"], capture["upload"]
    assert fake.calls == [] and uploads.local(daemon, id)
    daemon.api.delete(id)


def test_answers_without_end(start, fake):
    """What a hostile server sends is bounded in memory and in time, whichever call it answers."""
    daemon = start()
    ids, before, most = [], daemon.rss(), 0
    for n, call in enumerate(("create", "part", "complete", "head")):
        rule = {"endless": b"<UploadId>"} if n < 3 else {"header": 64 << 20}
        fake.rule(call, key=f"e{n}/", times=None, **rule)
        ids.append(uploads.begin(daemon, f"e{n}"))
    waiting = set(ids)
    while waiting:
        most = max(most, daemon.rss())
        waiting = {id for id in waiting if not daemon.api.capture(id)["upload"]["message"]}
    assert most - before < 64 << 20, f"{most - before >> 20} MiB for answers that nobody wants"
    assert fake.sent_bytes < len(ids) * (64 << 20)
    for id in ids:
        daemon.api.delete(id)
    fake.heal()
    until("nothing is left", lambda: uploads.held(fake) == ({}, []), 90)


def test_a_server_that_is_not_there(start, fake):
    """Captures go on while the bucket is down, and arrive once it is back."""
    daemon = start()
    port = fake.port
    fake.close()
    ids = [uploads.begin(daemon, f"w{n}") for n in range(2)]
    daemon.api.wait(ids[0], "has failed once", lambda c: c["upload"]["message"])
    daemon.stop()
    with fake_s3.FakeS3(port=port) as back:
        daemon.start()
        for id in ids:
            uploads.verified(daemon, id)
            assert daemon.api.capture(id)["ledger"]["written"] == TWO_PARTS
        uploads.balance(daemon, back, ids)
    assert daemon.process.poll() is None
