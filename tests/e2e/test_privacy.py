# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What must not be kept is nowhere: bytes beyond the snaplen, bytes of another capture, what was
deleted, and secrets. A canary is looked for in every file, whole, with what is allocated ahead."""
import os
import pathlib

import frames
import harness
from harness import Api, replay
from test_isolation import helpers

CANARY = b"canary-7f3a-should-not-be-here"
SNAPLEN = 64


def carriers(count=2000):
    """Frames of many lengths that are all canary behind the bytes that may be kept."""
    made = []
    for n in range(count):
        head = bytes(6) + bytes([2, 0, 0, 0, n >> 8 & 255, n & 255]) + b"\x88\xb5"
        body = CANARY * 50
        made.append((head + bytes(SNAPLEN - len(head)) + body)[: 200 + n % 1300])
    return made


def holders(root, needle, but=()):
    """Files beneath root in which needle stands, slack and all."""
    found = []
    for path in root.rglob("*"):
        if path.is_file() and path.name not in but:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            if needle in data:
                found.append((str(path.relative_to(root)), data.count(needle)))
    return found


def test_beyond_the_snaplen_is_nowhere(sluiced, dir):
    """Neither while it runs nor when it is closed, and not after a crash."""
    source = frames.write_pcap(dir / "canary.pcap", carriers())
    daemon = sluiced({"tap0": replay(source, infinite=True, rate=200_000)})
    daemon.allow("recover", "crash", "died")
    id = daemon.api.create(ports=["tap0"], snaplen=SNAPLEN)["id"]
    daemon.api.wait_offered(id, 100_000)
    assert holders(daemon.root, CANARY) == []
    daemon.kill()
    assert holders(daemon.root, CANARY) == []
    daemon.start()
    capture = daemon.api.wait_closed(id)
    assert capture["ledger"]["written"] > 0
    assert holders(daemon.root, CANARY) == []
    live = daemon.api.create(ports=["tap0"], snaplen=SNAPLEN, limits={"packets": 50_000})["id"]
    daemon.settled(live, readers=False)
    assert holders(daemon.root, CANARY) == []
    assert CANARY not in daemon.log_path.read_bytes()


def test_nothing_of_one_capture_is_in_another(sluiced, dir):
    """The same blocks, the same writer, the same disk: first a capture of everything, deleted, then
    one of heads only beside another one of everything."""
    source = frames.write_pcap(dir / "canary.pcap", carriers())
    daemon = sluiced({"tap0": replay(source, infinite=True, rate=300_000)})
    whole = daemon.api.create(ports=["tap0"], limits={"packets": 200_000})["id"]
    daemon.api.wait_closed(whole)
    assert holders(daemon.root, CANARY), "the canary is not in what it should be in"
    daemon.api.delete(whole)
    beside = daemon.api.create(ports=["tap0"])["id"]
    heads = daemon.api.create(ports=["tap0"], snaplen=SNAPLEN)["id"]
    daemon.api.wait_offered(heads, 200_000)
    place = daemon.root / "captures" / f"{heads}.open"
    assert place.exists() and holders(place, CANARY) == []
    daemon.api.stop(beside)
    daemon.api.stop(heads)
    daemon.settled(heads, readers=False)
    assert holders(daemon.root / "captures" / heads, CANARY) == []
    assert holders(daemon.root / "captures" / beside, CANARY)


def test_the_deleted_is_gone_and_its_line_stays(sluiced, dir):
    source = frames.write_pcap(dir / "canary.pcap", carriers())
    daemon = sluiced({"tap0": replay(source)})
    id = daemon.api.create(ports=["tap0"], name="secret-name", notes="secret-notes")["id"]
    daemon.api.wait_offered(id, 2000)
    daemon.api.stop(id)
    daemon.api.wait_closed(id)
    daemon.api.delete(id)
    harness.until("trash is empty", lambda: not list((daemon.root / "trash").iterdir()), 10)
    for needle in (CANARY, b"secret-name", b"secret-notes"):
        assert holders(daemon.root, needle) == []
    assert [name for name, _ in holders(daemon.root, id.encode())] == ["audit.log"]
    assert not [p for p in daemon.root.rglob(f"*{id}*")]
    lines = [line for line in (daemon.root / "audit.log").read_text().splitlines() if id in line]
    assert len(lines) == 3 and '"DELETE"' in lines[-1] and '"status":204' in lines[-1]


def test_secrets_are_told_once(sluiced, dir):
    """Tokens' secrets, and a bucket's: not in the log, an answer, a file, a command line."""
    bucket = "bucket-canary-5e1f0c2b9d"
    credentials = dir / "credentials"
    credentials.write_text(f"access_key = AKIACANARY\nsecret_key = {bucket}\n")
    credentials.chmod(0o600)
    daemon = sluiced(
        {"tap0": {"device": "net_null0,size=64", "rate": 1000}},
        **{
            "bucket b": {
                "endpoint": "https://127.0.0.1:9", "region": "us-east-1", "bucket": "b",
                "credentials": credentials,
            }
        },
    )
    daemon.allow("bucket b")  # nobody is there
    token = daemon.api.ask("POST", "/api/v1/tokens", {"name": "t", "role": "operator"}, 201)
    user = Api(daemon.http, token["secret"])
    id = user.create(ports=["tap0"], limits={"packets": 100})["id"]
    user.wait_closed(id)
    said = b""
    for api in (daemon.api, user, Api(daemon.http, token["secret"][:-1] + "0")):
        for method, path in (
            ("GET", "/api/v1/captures"), ("GET", f"/api/v1/captures/{id}"), ("GET", "/api/v1/status"),
            ("GET", f"/api/v1/captures/{id}/packets"), ("GET", "/api/v1/ports"), ("GET", "/metrics"),
            ("GET", "/api/v1/tokens"), ("GET", f"/api/v1/captures/{id}/download"),
            ("POST", "/api/v1/captures"), ("DELETE", "/api/v1/tokens/admin"), ("GET", "/x"),
            ("GET", "/openapi.json"), ("PUT", "/api/v1/captures"),
        ):
            answer = api.request(method, path, b"[]" if method == "POST" else None)
            said += answer.body + str(answer.headers).encode()
    for secret in (token["secret"], daemon.api.token, bucket):
        needle = secret.encode()
        assert needle not in said
        assert needle not in daemon.log_path.read_bytes()
        assert holders(daemon.root, needle, but=["admin.token"]) == []
        for process in [pathlib.Path(f"/proc/{daemon.pid}"), *helpers(daemon)]:
            for name in ("cmdline", "environ"):
                assert needle not in (process / name).read_bytes()
    assert os.stat(daemon.root / "admin.token").st_mode & 0o777 == 0o600
