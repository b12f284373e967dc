# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Bad requests: the right status, the field by name, what is allowed; and no running capture
suffers."""
import json
import socket
import time

import pytest

import capcheck
import frames
import harness
from harness import Api, basic, replay

COUNT = 1000
CAPTURES = "/api/v1/captures"
NOBODY = "00000000-0000-4000-8000-000000000000"

# body or object, pointer, words of which the detail must hold each
BAD_SPECS = [
    ({"filters": "ip"}, "/filters", ["filters"]),
    ({"limits": {"packet": 1}}, "/limits/packet", ["packet"]),
    ({"sampling": {"mode": "every", "n": 2, "x": 1}}, "/sampling/x", ["x"]),
    ({"ports": "tap0"}, "/ports", ["array"]),
    ({"ports": []}, "/ports", []),
    ({"ports": ["nope"]}, "/ports/0", ["nope", "tap0"]),
    ({"ports": ["tap0", "tap0"]}, "/ports/1", ["tap0"]),
    ({"ports": [7]}, "/ports/0", ["string"]),
    ({"name": 5}, "/name", ["string"]),
    ({"name": "x" * 300}, "/name", ["255"]),
    ({"notes": "x" * 5000}, "/notes", ["4095"]),
    ({"filter": 1}, "/filter", ["string"]),
    ({"filter": "tcp port"}, "/filter", ["syntax error"]),
    ({"filter": "udp prot 53"}, "/filter", ["syntax error"]),
    ({"filter": "host example.com"}, "/filter", ["name"]),
    ({"filter": "port 99999"}, "/filter", ["99999"]),
    ({"filter": "ip[0"}, "/filter", []),
    ({"filter": "ip and " * 2000 + "ip"}, "/filter", ["8191"]),
    ({"filter": " or ".join(f"port {n}" for n in range(1, 900))}, "/filter", []),
    ({"snaplen": -1}, "/snaplen", ["262144"]),
    ({"snaplen": 262145}, "/snaplen", ["262144"]),
    ({"snaplen": "96"}, "/snaplen", ["integer"]),
    ({"snaplen": 1.5}, "/snaplen", ["integer"]),
    ({"direction": "up"}, "/direction", ["up", "in", "out", "both"]),
    ({"sampling": "every"}, "/sampling", ["object"]),
    ({"sampling": {"mode": "sometimes", "n": 2}}, "/sampling/mode", ["every", "random", "flow"]),
    ({"sampling": {"mode": "every"}}, "/sampling/n", ["required", "every"]),
    ({"sampling": {"mode": "every", "n": 0}}, "/sampling/n", ["1"]),
    ({"sampling": {"mode": "every", "n": -4}}, "/sampling/n", ["1"]),
    ({"limits": {"packets": -1}}, "/limits/packets", []),
    ({"limits": {"packets": 1e3}}, "/limits/packets", ["integer"]),
    ({"limits": {"seconds": True}}, "/limits/seconds", []),
    ({"limits": {"bytes": "1G"}}, "/limits/bytes", ["integer"]),
    ({"limits": {"file_bytes": 10}}, "/limits/file_bytes", []),
    ({"limits": 5}, "/limits", ["object"]),
    ({"output": {"type": "tape"}}, "/output/type", ["tape", "file", "none"]),
    ({"output": {"type": "s3"}}, "/output/bucket", ["required", "s3"]),
    ({"output": {"type": "stream"}}, "/output/address", ["address"]),
    ({"output": {"type": "file", "address": "10.0.0.1"}}, "/output/address", ["stream only"]),
    ({"output": {"type": "file", "path": "/etc/passwd"}}, "/output/path", ["path"]),
    ({"id": NOBODY}, "/id", ["id"]),
]

MALFORMED = [
    b"{",
    b"[]",
    b"null",
    b"5",
    b'"x"',
    b"{}x",
    b"{} {}",
    b'{"name":"a","name":"b"}',
    b'{"name":"\xff"}',
    b'{"name":"\\ud800"}',
    b'{"limits":{"packets":99999999999999999999}}',
    b"[" * 100_000,
    b"<xml/>",
]

BAD_QUERIES = [
    ("?limit=0", "limit"),
    ("?limit=1001", "limit"),
    ("?limit=x", "limit"),
    ("?state=alive", "state"),
    ("?cursor=!!", "cursor"),
    ("?colour=red", "colour"),
    ("?limit=1&limit=2", "limit"),
]


@pytest.fixture(scope="module")
def daemon(module_dir):
    """A daemon with a capture that runs all the while, and must not lose a packet of a steady
    source."""
    path = frames.write_pcap(
        module_dir / "s.pcap", [frames.numbered(1, n, 200) for n in range(COUNT)]
    )
    ports = {
        "tap0": replay(path, infinite=True, rate=20_000),
        "tap1": replay(path, infinite=True, rate=1000, device="net_pcap1"),
    }
    account = {"id": "023e105f4ecef8ad9ca31a8372d0c353", "ports": "tap1", "colo": "ord02"}
    with harness.Daemon(ports, **{"account one": account}) as daemon:
        daemon.running = daemon.api.create(name="bystander", ports=["tap0"])["id"]
        yield daemon
        daemon.api.stop(daemon.running)
        capture, file = daemon.settled(daemon.running, readers=False)
        complaints, _ = capcheck.claims(file, COUNT, first=0)
        assert not complaints
        assert sum(capture["ledger"]["dropped"].values()) == 0
        assert capture["ledger"]["offered"] == len(file)


def problem(answer, status):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer
    body = answer.json()
    assert body["status"] == status and body["title"] and body["type"], body
    return body


def ident(case):
    return json.dumps(case[0])[:60]


@pytest.mark.parametrize("case", BAD_SPECS, ids=ident)
@pytest.mark.sanitize
def test_bad_field(daemon, case):
    spec, pointer, words = case
    begin = time.monotonic()
    body = problem(daemon.api.request("POST", CAPTURES, spec), 400)
    print(f"{time.monotonic() - begin:.3f} s: {body['detail']}")
    assert body.get("pointer") == pointer, body
    said = body["detail"]
    assert len(said) > 10
    for word in words:
        assert word in said, said


def test_many_good_specs(daemon):
    """The edges of what is allowed are allowed."""
    for spec in (
        {},
        {"snaplen": 0},
        {"snaplen": 262144},
        {"snaplen": 1},
        {"name": "x" * 255},
        {"notes": "x" * 4095},
        {"limits": {"packets": 0, "bytes": 0, "seconds": 0, "file_bytes": 0}},
        {"filter": ""},
        {"limits": {"packets": 2**53}},
        {"ports": ["tap1", "tap0"]},
        {"direction": "both"},
        {"sampling": {"mode": "none"}},
        {"sampling": {"mode": "flow", "n": 1}},
        {"output": {"type": "none"}},
        {"name": '\u00e4\u4e2d\U0001f600 \\ " \n'},
    ):
        capture = daemon.api.create(**spec)
        assert capture["name"] == spec.get("name", "")
        assert capture["snaplen"] == (spec.get("snaplen") or 262144)
        daemon.api.delete(capture["id"])


@pytest.mark.parametrize("body", MALFORMED, ids=lambda b: repr(b[:30]))
@pytest.mark.sanitize
def test_malformed(daemon, body):
    answer = problem(daemon.api.request("POST", CAPTURES, body), 400)
    assert len(answer["detail"]) > 5


def test_media_type_and_size(daemon):
    text = {"Content-Type": "text/plain"}
    problem(daemon.api.request("POST", CAPTURES, b"{}", headers=text), 415)
    huge = b'{"notes":"' + b"x" * (8 << 20) + b'"}'
    try:
        answer = daemon.api.request("POST", CAPTURES, huge)
        assert answer.status == 413, answer
    except (BrokenPipeError, ConnectionResetError):
        pass  # it hung up on us in the middle, which is an answer too


@pytest.mark.parametrize("query,name", BAD_QUERIES)
def test_bad_query(daemon, query, name):
    body = problem(daemon.api.request("GET", CAPTURES + query), 400)
    assert name in body["detail"] or name in body.get("pointer", "")


@pytest.mark.sanitize
def test_paths_and_methods(daemon):
    for path in (
        "/api/v1/nothing",
        "/api/v2/captures",
        CAPTURES + "/",
        CAPTURES + f"/{NOBODY}",
        CAPTURES + "/..",
        CAPTURES + "/../../../etc/passwd",
        CAPTURES + "/%2e%2e",
        CAPTURES + f"/{NOBODY.upper()}x",
        CAPTURES + f"/{NOBODY}/download",
        CAPTURES + f"/{NOBODY}/packets",
        CAPTURES + f"/{NOBODY}/live",
        "//api/v1/captures",
        CAPTURES + f"/{NOBODY}%00",
    ):
        answer = daemon.api.request("GET", path)
        assert answer.status == 404, f"{path}: {answer}"
    for method, path, allowed in (
        ("PUT", CAPTURES, {"GET", "POST"}),
        ("DELETE", CAPTURES, {"GET", "POST"}),
        ("POST", "/api/v1/ports", {"GET"}),
        ("GET", f"{CAPTURES}/{daemon.running}/stop", {"POST"}),
        ("PUT", f"{CAPTURES}/{daemon.running}", {"GET", "PATCH", "DELETE"}),
    ):
        answer = daemon.api.request(method, path)
        assert answer.status == 405, f"{method} {path}: {answer}"
        told = {word.strip() for word in answer.headers["Allow"].split(",")} - {"HEAD", "OPTIONS"}
        assert told == allowed


def test_patch_is_narrow(daemon):
    path = f"{CAPTURES}/{daemon.running}"
    for body, pointer in (
        ({"filter": "ip"}, "/filter"),
        ({"name": None}, "/name"),
        ({"notes": 5}, "/notes"),
    ):
        assert problem(daemon.api.request("PATCH", path, body), 400).get("pointer") == pointer


@pytest.mark.sanitize
def test_tokens(daemon):
    for header in (
        None,
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {daemon.api.token}x",
        f"Bearer {daemon.api.token[:-1]}",
        f"Basic {daemon.api.token}",
        f"bearer{daemon.api.token}",
        basic("admin", "wrong"),
        "Bearer " + "x" * 5000,
    ):
        for path in (
            CAPTURES,
            "/api/v1/status",
            "/api/v1/ports",
            "/api/v1/tokens",
            f"{CAPTURES}/{NOBODY}",
        ):
            stranger = Api(daemon.http)
            answer = stranger.request(
                "GET", path, headers={"Authorization": header} if header else None
            )
            assert answer.status == 401, f"{header!r} {path}: {answer}"
            assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert Api(daemon.http).request("GET", "/healthz").body.strip() == b"ok"


def make_token(daemon, **spec):
    made = daemon.api.ask("POST", "/api/v1/tokens", spec, 201)
    return Api(daemon.http, made["secret"])


def test_roles_and_accounts(daemon):
    viewer = make_token(daemon, name="v", role="viewer", account="one")
    operator = make_token(daemon, name="o", role="operator", account="one")
    all_viewer = make_token(daemon, name="av", role="viewer", account="*")
    try:
        assert viewer.request("POST", CAPTURES, {}).status == 403
        assert viewer.request("GET", "/api/v1/tokens").status == 403
        assert (
            operator.request("POST", "/api/v1/tokens", {"name": "z", "role": "viewer"}).status
            == 403
        )
        answer = operator.request("POST", CAPTURES, {"ports": ["tap0"]})
        assert answer.status in (400, 403) and "tap0" in answer.body.decode()
        mine = operator.create()
        assert mine["ports"] == ["tap1"], "omitted: all of the account's"
        assert viewer.capture(mine["id"])["id"] == mine["id"]
        assert viewer.request("DELETE", f"{CAPTURES}/{mine['id']}").status == 403
        foreign = f"{CAPTURES}/{daemon.running}"
        for method, path in (("GET", ""), ("GET", "/download"), ("POST", "/stop"), ("DELETE", "")):
            assert operator.request(method, foreign + path).status == 404
        assert all_viewer.request("GET", foreign).status == 200
        assert all_viewer.request("POST", foreign + "/stop").status == 403
        assert [c["id"] for c in operator.captures()["captures"]] == [mine["id"]]
        operator.delete(mine["id"])
    finally:
        for name in ("v", "o", "av"):
            daemon.api.ask("DELETE", f"/api/v1/tokens/{name}", want=204)
    assert viewer.request("GET", CAPTURES).status in (401, 429), "a deleted token"


def test_bad_tokens_requests(daemon):
    for spec, pointer in (
        ({"role": "viewer"}, "/name"),
        ({"name": "", "role": "viewer"}, "/name"),
        ({"name": "a b\n", "role": "viewer"}, "/name"),
        ({"name": "x"}, "/role"),
        ({"name": "x", "role": "king"}, "/role"),
        ({"name": "x", "role": "viewer", "account": "no"}, "/account"),
        ({"name": "x", "role": "viewer", "colour": "red"}, "/colour"),
    ):
        body = problem(daemon.api.request("POST", "/api/v1/tokens", spec), 400)
        assert body.get("pointer") == pointer, body
    assert (
        daemon.api.request("POST", "/api/v1/tokens", {"name": "admin", "role": "viewer"}).status
        == 409
    )
    assert daemon.api.request("DELETE", "/api/v1/tokens/nobody").status == 404


RAW = [
    b"GARBAGE\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/v1/captures HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/captures HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X-Y: " + b"b" * 200_000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("bytes_", RAW, ids=lambda b: repr(b[:25]))
@pytest.mark.sanitize
def test_raw_rubbish(daemon, bytes_):
    """Whatever arrives on the socket, the daemon lives and answers the next one."""
    with socket.create_connection(("127.0.0.1", daemon.http), 10) as s:
        try:
            s.sendall(bytes_)
            s.shutdown(socket.SHUT_WR)
            answer = s.recv(65536)
        except OSError:  # reset, or closed before we could say that we are done
            answer = b""
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert b" 201 " not in answer.split(b"\r\n")[0]
    assert daemon.api.request("GET", "/healthz").status == 200


def test_half_requests_hold_nothing_up(daemon):
    """200 clients that never finish their request; others are served."""
    open_ones = []
    try:
        for _ in range(200):
            s = socket.create_connection(("127.0.0.1", daemon.http), 10)
            s.sendall(b"POST /api/v1/captures HTTP/1.1\r\nHost: x\r\nContent-Le")
            open_ones.append(s)
        assert daemon.api.capture(daemon.running)["state"] == "running"
    finally:
        for s in open_ones:
            s.close()


def test_clients_that_hang_up(daemon):
    """Downloads cut off in the middle leave no descriptor behind."""
    path = f"{CAPTURES}/{daemon.running}/download?partial=1"
    daemon.api.wait_offered(daemon.running, 20_000)
    before = daemon.fds()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", daemon.http), 10) as s:
            s.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.api.token}\r\n\r\n".encode()
            )
            s.recv(100)
    harness.until("descriptors are closed", lambda: daemon.fds() <= before)
