# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Cloudflare's full captures into buckets: whose bucket it is, and what arrives there."""
import json
import re
import subprocess

import pytest

import capcheck
import fake_s3
import frames
import harness
import oracle
import uploads
from harness import Api, replay
from test_cloudflare import FULL, envelope

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
OTHER = "f" * 32
PCAPS = f"/client/v4/accounts/{ACCOUNT}/pcaps"
OWNERSHIP = f"{PCAPS}/ownership"
COUNT = 1000
EXCHANGES = oracle.Exchanges("cloudflare-pcaps.openapi.json", "cloudflare.patch.json")


def sections(place, **buckets):
    """Two accounts, deliver = bucket, and these [bucket]s ({name: s3.Client or options})."""
    return {
        "cloudflare": {"enabled": "yes", "deliver": "bucket"},
        "account default": {"id": ACCOUNT, "ports": "*", "colo": "ord02"},
        "account other": {"id": OTHER, "ports": "*", "colo": "ord02"},
        **{
            f"bucket {name}": b if isinstance(b, dict) else b.section(place)
            for name, b in buckets.items()
        },
    }


@pytest.fixture
def source(dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 300) for n in range(COUNT)])
    return {"tap0": replay(path, infinite=True, rate=20_000)}


@pytest.fixture
def fake():
    with fake_s3.FakeS3() as server:
        yield server


def ask(daemon, method, path, body=None, want=200):
    answer = daemon.api.request(method, path, body)
    EXCHANGES.add(method, path, body, answer, strip="/client/v4")
    if want == 204:
        assert answer.status == 204 and answer.body == b"", answer
        return None
    body = envelope(answer, want)
    if want in (409, 429, 503):
        assert answer.headers["x-should-retry"] == "false"
    return body["result"] if want == 200 else body["errors"][0]


def add(daemon, conf, want=200):
    return ask(daemon, "POST", OWNERSHIP, {"destination_conf": conf}, want)


def validate(daemon, conf, challenge, want=200):
    body = {"destination_conf": conf, "ownership_challenge": challenge}
    return ask(daemon, "POST", f"{OWNERSHIP}/validate", body, want)


def prove(daemon, client, conf, prefix=""):
    """Add the bucket, read what is in it, tell it."""
    made = add(daemon, conf)
    done = validate(daemon, conf, client.get(prefix + made["filename"]).decode())
    assert done["status"] == "success"
    return done


def test_ownership(sluiced, dir, source, bucket):
    daemon = sluiced(source, **sections(dir, **{"pcaps-bucket": bucket}))
    conf = "s3://pcaps-bucket/sub/dir?region=us-east-1"
    assert ask(daemon, "GET", OWNERSHIP) == []
    made = add(daemon, conf)
    assert re.fullmatch("[0-9a-f]{32}", made["id"]) and made["status"] == "pending"
    assert made["destination_conf"] == conf and made["validated"] == ""
    assert made["filename"] == f"ownership-challenge-{made['id']}.txt"
    key = f"sub/dir/{made['filename']}"
    challenge = bucket.get(key).decode()
    assert re.fullmatch("[0-9a-f]{64}", challenge) and list(bucket.list()) == [key]

    # Who cannot read the object cannot say what it holds.
    for wrong in (made["filename"], made["id"], "0" * 64, challenge[:-1], challenge + "0"):
        assert validate(daemon, conf, wrong)["status"] == "failed"
    assert add(daemon, conf)["id"] == made["id"], "the same bucket, added again"
    assert validate(daemon, conf, challenge)["status"] == "failed", "a failed one gets a new one"
    add(daemon, conf)
    challenge = bucket.get(key).decode()
    done = validate(daemon, "s3://pcaps-bucket/sub/dir/", challenge + "\n")
    assert done["status"] == "success" and done["validated"] > done["submitted"]
    assert validate(daemon, conf, challenge) == done, "asked again"
    assert validate(daemon, conf, "0" * 64, 400)["message"].startswith("ownership_challenge")
    assert ask(daemon, "GET", OWNERSHIP) == [done]

    # It is kept, and it is this account's alone.
    daemon.stop()
    daemon.start()
    assert ask(daemon, "GET", OWNERSHIP) == [done]
    other = OWNERSHIP.replace(ACCOUNT, OTHER)
    assert ask(daemon, "GET", other) == []
    assert ask(daemon, "DELETE", f"{other}/{made['id']}", want=404)["code"] == 1404
    assert ask(daemon, "DELETE", f"{OWNERSHIP}/{'0' * 32}", want=404)["code"] == 1404
    assert ask(daemon, "DELETE", f"{OWNERSHIP}/x", want=404)["code"] == 1404

    ask(daemon, "DELETE", f"{OWNERSHIP}/{made['id']}", want=204)
    assert ask(daemon, "GET", OWNERSHIP) == []
    ask(daemon, "DELETE", f"{OWNERSHIP}/{made['id']}", want=404)
    assert validate(daemon, conf, challenge, 400)["message"].startswith("destination_conf")
    harness.until("the challenge is gone", lambda: bucket.list() == {})


def test_who_may_what(sluiced, dir, source, fake):
    bucket = fake.client()
    shared = bucket.section(dir)
    theirs = bucket.section(dir, accounts="other")
    daemon = sluiced(source, **sections(dir, shared=shared, theirs=theirs))
    error = add(daemon, "s3://theirs", 400)
    assert error["code"] == 1400 and "destination_conf" in error["message"], error
    assert "allowed: shared" in error["message"], error
    made = add(daemon, "s3://shared")
    viewer = Api(daemon.http, daemon.api.ask("POST", "/api/v1/tokens", VIEWER, 201)["secret"])
    assert envelope(viewer.request("GET", OWNERSHIP))["result"] == [made]
    for method, path in (
        ("POST", OWNERSHIP),
        ("POST", f"{OWNERSHIP}/validate"),
        ("DELETE", f"{OWNERSHIP}/{made['id']}"),
    ):
        assert envelope(viewer.request(method, path, {}), 403)["errors"][0]["code"] == 10000
    assert list(bucket.list()) == [made["filename"]]
    error = ask(daemon, "POST", PCAPS, {**FULL, "destination_conf": "s3://shared"}, 400)
    assert "destination_conf: the bucket is not validated" in error["message"], error


VIEWER = {"name": "look", "role": "viewer"}


def test_nothing_of_a_destination_is_connected_to(sluiced, dir, source, fake):
    """Endpoints come from the configuration alone, whatever a request says."""
    with uploads.Listener() as forbidden:
        daemon = sluiced(source, **sections(dir, caps=fake.client()))
        where = f"127.0.0.1:{forbidden.port}"
        for conf in (
            f"s3://{where}/caps",
            f"s3://user:pw@{where}/caps",
            f"s3://caps@{where}",
            f"s3://caps.{where}/",
            f"http://{where}/caps",
            f"gopher://{where}/_x",
            f"file://{where}/etc/passwd",
            f"s3://2130706433:{forbidden.port}/caps",
            f"s3://0x7f000001:{forbidden.port}/caps",
            f"s3://0177.0.0.1:{forbidden.port}/caps",
            f"s3://[::ffff:127.0.0.1]:{forbidden.port}/caps",
            f"s3://caps?endpoint=http://{where}",
            f"s3://caps?region=us-east-1&endpoint={where}",
            f"s3://caps#@{where}",
            f"s3://caps/../{where}",
            "s3://127.0.0.1",
            "s3://169.254.169.254/latest/meta-data",
            "gs://caps",
            "r2://caps",
            "s3://caps?region=eu-west-1",
        ):
            for answer in (
                add(daemon, conf, 400),
                validate(daemon, conf, "x", 400),
                ask(daemon, "POST", PCAPS, {**FULL, "destination_conf": conf}, 400),
            ):
                assert answer["code"] == 1400, answer
                assert answer["message"].startswith("destination_conf"), answer
                assert "allowed: " in answer["message"], answer
        assert forbidden.count == 0 and fake.calls == []
        # Nor where the service itself sends us.
        for to in (f"http://{where}/x", "http://169.254.169.254/latest/meta-data"):
            fake.rule("put", redirect=to)
            assert "destination_conf" in add(daemon, "s3://caps", 400)["message"]
        assert forbidden.count == 0 and fake.objects == {}
        daemon.allow("the challenge cannot be written")
    assert daemon.api.captures()["captures"] == []


FAULTS = {  # of a call: what add or validate answers
    "server error": ({"status": 500}, 503),
    "slow down": ({"status": 503, "code": "SlowDown"}, 503),
    "no right": ({"status": 403, "code": "AccessDenied"}, 400),
    "cut answer": ({"cut_answer": 10}, 503),
    "endless": ({"endless": b"x" * 1000}, None),
    "huge header": ({"header": 8 << 20}, None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bucket_that_fails(sluiced, dir, source, fake, name):
    rule, status = FAULTS[name]
    daemon = sluiced(source, **sections(dir, caps=fake.client()))
    daemon.allow("the challenge cannot be (written|read)")
    conf, before = "s3://caps/d", daemon.rss()
    fake.rule("put", times=None, **rule)
    if status:
        assert "bucket" in add(daemon, conf, status)["message"]
        assert ask(daemon, "GET", OWNERSHIP) == []
    else:
        daemon.api.request("POST", OWNERSHIP, {"destination_conf": conf})
    fake.heal()
    made = add(daemon, conf)
    challenge = fake.objects[f"d/{made['filename']}"].data.decode()
    fake.rule("get", times=None, **rule)
    if status:
        assert "bucket" in validate(daemon, conf, challenge, status)["message"]
    else:
        body = {"destination_conf": conf, "ownership_challenge": challenge}
        answer = daemon.api.request("POST", f"{OWNERSHIP}/validate", body)
        assert answer.status in (400, 503) or answer.json()["result"]["status"] == "failed"
    fake.heal()
    assert validate(daemon, conf, challenge)["status"] in ("success", "pending")
    assert daemon.rss() - before < 16 << 20, "an answer is kept that nobody wants"
    assert not fake.bad_signatures


def packets_of(path):
    """How many packets a delivered object has, by its closing statistics and by the readers."""
    file = capcheck.read(path)
    assert harness.capinfos_count(path) == len(file)
    return len(file)


def test_official_client(sluiced, dir, source, bucket):
    """The npm package `cloudflare`, unpatched: ownership.mjs asks, this reads the bucket for it."""
    daemon = sluiced(source, **sections(dir, caps=bucket))
    place = oracle.npm_packages(harness.SOURCE / "tests" / "e2e" / "cloudflare")
    words = [daemon.api.url, daemon.api.token, ACCOUNT, "s3://caps/dir?region=us-east-1"]
    with subprocess.Popen(
        ["node", "ownership.mjs", *words],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as node:
        try:
            for line in node.stdout:
                asked = json.loads(line)
                if "challenge" in asked:
                    said = bucket.get(f"dir/{asked['challenge']}").decode()
                elif "capture" in asked:
                    path = dir / "object"
                    path.write_bytes(bucket.get(f"dir/pcap_{asked['capture']}.pcap"))
                    said = packets_of(path)
                else:
                    break
                print(said, file=node.stdin)
            node.stdin.close()
            node.wait(60 * harness.SLOW)
        finally:
            node.kill()
        assert node.returncode == 0, node.stderr.read()


def test_the_published_description_agrees():
    """Comes last: what the tests before it asked and were answered."""
    EXCHANGES.judge()
