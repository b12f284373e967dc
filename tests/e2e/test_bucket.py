# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Captures into a bucket of a real S3 service (Ceph's RADOS Gateway): objects are the files, each is
there once, nothing unfinished stays, and what is deleted here goes there. Servers that misbehave are
test_bucket_faults.py's."""
import hashlib
import os
import random
import time

import pytest

import uploads
from harness import until
from uploads import THREE_PARTS, TWO_PARTS


@pytest.fixture
def start(sluiced, dir, bucket):
    """start(**options of [bucket caps]) is a daemon whose bucket is a new one of the gateway."""

    def make(**options):
        return sluiced(
            uploads.source(dir), **uploads.bucket(bucket, dir, **{"timeout": "30s", **options})
        )

    return make


def test_objects_are_the_files(start, bucket):
    daemon = start(prefix="site 1/ü")
    ids = [uploads.begin(daemon, "a=b/c+d", n) for n in (10, TWO_PARTS, THREE_PARTS)]
    captures = [uploads.verified(daemon, id) for id in ids]
    uploads.balance(daemon, bucket, ids)
    for capture, count in zip(captures, (10, TWO_PARTS, THREE_PARTS)):
        key = f"site 1/ü/a=b/c+d/{capture['id']}.pcapng"
        assert capture["upload"]["url"] == f"s3://{bucket.bucket}/{key}"
        assert capture["state"] == "complete" and capture["reason"] == "packet_limit"
        head = bucket.head(key)
        sha256 = hashlib.sha256(bucket.get(key)).hexdigest()
        assert head.headers["x-amz-meta-sha256"] == sha256
        assert uploads.packets(daemon, bucket, capture) == count
        # What is downloaded is the object.
        path, file = daemon.file(capture["id"])
        assert len(file) == count
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    for id in ids:
        daemon.api.delete(id)
    until("the objects went with their captures", lambda: not bucket.list())
    assert bucket.uploads() == []


def test_what_is_configured_to_stay_or_go(start, bucket):
    daemon = start(keep="no", remove="no")
    id = uploads.begin(daemon, "x")
    capture = uploads.verified(daemon, id)
    until("the local file is gone", lambda: not uploads.capture_path(daemon, id).exists())
    assert daemon.api.capture(id)["upload"]["local"] is False
    assert uploads.packets(daemon, bucket, capture) == TWO_PARTS
    uploads.balance(daemon, bucket, [id])
    daemon.stop()
    daemon.start()
    assert daemon.api.capture(id)["upload"]["state"] == "verified"
    daemon.api.delete(id)
    time.sleep(0.5)
    assert list(bucket.list()) == [f"x/{id}.pcapng"]


@pytest.mark.parametrize("seed", [int.from_bytes(os.urandom(4), "little")])
def test_killed_at_random(start, bucket, seed):
    """kill -9 three times while several captures are on their way."""
    print(f"seed {seed}")
    dice, daemon = random.Random(seed), start(keep="no")
    daemon.allow(*uploads.NEWS)
    ids = [uploads.begin(daemon, f"k{n}", THREE_PARTS) for n in range(3)]
    files = {id: found for id in ids if (found := uploads.local(daemon, id))}
    for _ in range(3):
        time.sleep(dice.random() * 0.4)
        daemon.kill()
        daemon.start()
    for id in ids:
        capture = uploads.verified(daemon, id)
        assert uploads.packets(daemon, bucket, capture) == THREE_PARTS
    objects, _ = uploads.held(bucket)
    for id, file in files.items():
        (object,) = [o for key, o in objects.items() if id in key]
        assert object == file
    until("nothing is left unfinished", lambda: not bucket.uploads(), 30)
    uploads.balance(daemon, bucket, ids)


def test_wrong_keys(start, bucket, dir):
    """A real service's word on a wrong secret; the right one heals it."""
    daemon = start()
    daemon.allow(*uploads.NEWS)
    keys = next(dir.glob("keys-*"))
    good = keys.read_text(encoding="ascii")
    keys.write_text(good.replace(bucket.secret, "WRONG"), encoding="ascii")
    id = uploads.begin(daemon, "x")
    message = daemon.api.wait(id, "is refused", lambda c: c["upload"]["message"])["upload"][
        "message"
    ]
    assert "403" in message and "WRONG" not in message, message
    keys.write_text(good, encoding="ascii")
    uploads.verified(daemon, id)
    uploads.balance(daemon, bucket, [id])
