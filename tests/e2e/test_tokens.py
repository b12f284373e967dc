# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Tokens that end, and secrets that are guessed: what a token had opened is cut within a second of its
end, guessing is slowed, and neither touches anybody else."""
import base64
import datetime
import http.client
import json
import signal
import socket
import time

import pytest

import frames
import harness
import websocket
from harness import Api, replay

CUT_SECONDS = 0.9  # and the rest of a second to read what is on its way
FRAMES, FRAME_LENGTH = 20_000, 1500


@pytest.fixture(scope="module")
def long_file(module_dir):
    """So much that no socket buffer takes a download of it."""
    return frames.write_pcap(module_dir / "long.pcap", [bytes(FRAME_LENGTH)] * FRAMES)


@pytest.fixture
def daemon(sluiced, long_file):
    return sluiced(
        {"tap0": replay(long_file), "busy": {"device": "net_null0,size=64", "rate": 2000}},
        cloudflare={"enabled": "yes"},
        citrix={"enabled": "yes"},
        nsx={"enabled": "yes"},
        mist={"enabled": "yes"},
        **{"account default": {"site_id": SITE, "id": ACCOUNT}},
    )


SITE = "67970e46-4e12-11e6-9188-0242ac110007"
ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"


def token(daemon, name, role="viewer", **options):
    body = {"name": name, "role": role, **options}
    return Api(daemon.http, daemon.api.ask("POST", "/api/v1/tokens", body, 201)["secret"])


def stream(api, path):
    """The socket of an answer of which nothing but the head is read."""
    s = socket.create_connection(("127.0.0.1", api.port), timeout=20 * harness.SLOW)
    s.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1)
    assert head.startswith(b"HTTP/1.1 200"), head
    return s


def check_cut(sockets, begin):
    """The peer cuts all of them within a second from begin, whatever it had sent before that. Who
    reads a download now gets what is on its way, not all."""
    time.sleep(max(0.0, begin + CUT_SECONDS * harness.SLOW - time.monotonic()))
    for what, s in sockets.items():
        s.settimeout(1)
        got = 0
        try:
            while data := s.recv(1 << 20):
                got += len(data)
                assert got < FRAMES * FRAME_LENGTH, f"{what} came to its end"
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"{what} is not cut") from None


def everything_long(daemon, api, done, running):
    """A download, a live capture, a WebSocket of ours and one of Mist's, none of them at its end."""
    basic = base64.b64encode(f"{api.name}:{api.token}".encode()).decode()
    bearer = [f"Authorization: Bearer {api.token}"]
    ours = websocket.Socket(daemon.http, "/api/v1/stream", bearer)
    ours.send(json.dumps({"subscribe": "capture", "id": running}))
    mists = websocket.Socket(
        daemon.http, "/api-ws/v1/stream", [f"Authorization: Basic {basic}"]
    )
    return {
        "download": stream(api, f"/api/v1/captures/{done}/download"),
        "pcap": stream(api, f"/api/v1/captures/{done}/download?format=pcap"),
        "live": stream(api, f"/api/v1/captures/{running}/live"),
        "stream": ours.socket,
        "mist": mists.socket,
    }


def captures(daemon):
    done = daemon.api.create(ports=["tap0"], limits={"packets": FRAMES})["id"]
    daemon.api.wait_closed(done)
    return done, daemon.api.create(ports=["busy"], output={"type": "none"})["id"]


def test_what_a_token_opened_ends_with_it(daemon):
    done, running = captures(daemon)
    lost, kept = token(daemon, "lost"), token(daemon, "kept")
    lost.name, kept.name = "lost", "kept"
    cut = everything_long(daemon, lost, done, running)
    stays = everything_long(daemon, kept, done, running)

    begin = time.monotonic()
    daemon.api.ask("DELETE", "/api/v1/tokens/lost", want=204)
    check_cut(cut, begin)
    assert lost.request("GET", "/api/v1/status").status == 401

    # Nobody else noticed.
    stays["live"].settimeout(10)
    assert stays["live"].recv(1)
    rest = b""
    while len(rest) < FRAMES * FRAME_LENGTH:
        more = stays["download"].recv(1 << 20)
        assert more, "a download of another token was cut"
        rest += more
    for s in stays.values():
        s.close()
    daemon.api.stop(running)
    daemon.settled(done, readers=False)


def test_what_a_token_opened_ends_when_it_expires(daemon):
    done, running = captures(daemon)
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    short = token(daemon, "short", expires_at=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
    short.name = "short"
    cut = everything_long(daemon, short, done, running)
    expires = time.monotonic() + end.replace(microsecond=0).timestamp() - time.time()
    time.sleep(max(0, expires - time.monotonic() - 0.3))
    for what, s in cut.items():
        s.setblocking(False)
        try:
            assert s.recv(1, socket.MSG_PEEK), f"{what} was cut before its time"
        except BlockingIOError:
            pass
        s.setblocking(True)
    check_cut(cut, expires)
    assert short.request("GET", "/api/v1/status").status == 401
    # Its name is free for another, which has nothing to do with it.
    daemon.api.ask("DELETE", "/api/v1/tokens/short", want=204)
    token(daemon, "short").ask("GET", "/api/v1/status")
    assert short.request("GET", "/api/v1/status").status == 401


def ask_from(daemon, address, path, headers, method="GET", body=None):
    connection = http.client.HTTPConnection(
        "127.0.0.1", daemon.http, timeout=20, source_address=(address, 0)
    )
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return harness.Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


LOGIN = json.dumps({"login": {"username": "admin", "password": "0" * 64}})
# path, headers or body with a wrong secret, and where the body says what
DIALECTS = {
    "native": ("GET", "/api/v1/status", bearer("0" * 64), None, "detail"),
    "cloudflare": (
        "GET", f"/client/v4/accounts/{ACCOUNT}/pcaps", {"X-Auth-Key": "x", "X-Auth-Email": "y"},
        None, "errors",
    ),
    "nsx": (
        "GET", "/api/v1/pktcap/sessions", {"Authorization": harness.basic("admin", "x")}, None,
        "error_message",
    ),
    "citrix": (
        "POST", "/sdwan/nitro/v1/config/login", {"Content-Type": "application/json"}, LOGIN,
        "errormessage",
    ),
    "mist": ("GET", "/api/v1/self", {"Authorization": "Token x"}, None, "detail"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_guessing_is_slowed(daemon, dialect):
    method, path, headers, body, member = DIALECTS[dialect]
    guesser = "127.0.1.1"
    answers = [ask_from(daemon, guesser, path, headers, method, body) for _ in range(30)]
    counted = [a.status for a in answers]
    assert set(counted[:20]) <= {401, 403} and set(counted[22:]) == {429}, counted
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 3
    assert "too many wrong credentials" in json.dumps(answers[-1].json()[member])
    # The right one is taken at any time, from there as well; no token at all is another thing.
    assert ask_from(daemon, guesser, "/api/v1/status", bearer(daemon.api.token)).status == 200
    assert ask_from(daemon, guesser, "/api/v1/status", {}).status == 401
    # Another address knows nothing of it.
    assert ask_from(daemon, "127.0.1.2", path, headers, method, body).status in (401, 403)


def test_guessing_from_many_addresses_is_slowed(daemon):
    """All together meet a bound; an honest client in the middle of it never does."""
    statuses = {}
    for n in range(1600):
        address = f"127.0.{2 + n % 100}.{1 + n // 100}"
        status = ask_from(daemon, address, "/api/v1/status", bearer(f"{n:064}")).status
        statuses[status] = statuses.get(status, 0) + 1
        if n % 100 == 0:
            daemon.api.ask("GET", "/api/v1/status")
    assert set(statuses) == {401, 429}, statuses
    values = daemon.api.request("GET", "/metrics").body.decode()
    assert "\nsluice_http_wrong_credentials_total 1600\n" in values
    assert f"\nsluice_http_limited_credentials_total {statuses[429]}\n" in values


# --- the audit log ------------------------------------------------------------------------------


def audit(daemon, event=None):
    lines = (daemon.root / "audit.log").read_text(encoding="ascii").splitlines()
    lines = [json.loads(line) for line in lines]
    return [line for line in lines if event in (None, line["event"])]


def audited(daemon, count, event):
    """The first count lines of that kind, once they are there; and there are no more."""
    harness.until(
        f"{count} {event} lines in the audit log", lambda: len(audit(daemon, event)) >= count, 5
    )
    found = audit(daemon, event)
    assert len(found) == count, found
    return found


def test_who_did_what_stays(daemon):
    """Every change and every download, by whom, from where, with what result; also of what is gone."""
    daemon.allow("audit log")
    ann = token(daemon, "ann", "operator")
    id = ann.create(ports=["tap0"], limits={"packets": 10}, name='"{}')["id"]
    ann.wait_closed(id)
    ann.download(id, daemon.dir / "x.pcapng")
    ann.ask("GET", f"/api/v1/captures/{id}/packets")
    ann.ask("PATCH", f"/api/v1/captures/{id}", {"notes": "n"})
    assert ann.request("GET", "/api/v1/tokens").status == 403
    assert ann.request("DELETE", "/api/v1/tokens/admin").status == 403
    assert ann.request("DELETE", "/api/v1/captures/%0d%0a").status == 404
    assert ann.request("DELETE", "/api/v1/captures/%22%E2%80%AEx").status == 404
    ann.delete(id)
    pcaps = f"/client/v4/accounts/{ACCOUNT}/pcaps"
    assert ann.request("POST", pcaps, {"type": "nonsense"}).status == 400
    answer = ask_from(
        daemon, "127.0.3.1", "/sdwan/nitro/v1/config/login", {}, "POST",
        json.dumps({"login": {"username": "ann", "password": ann.token}}),
    )
    assert answer.status == 200
    daemon.api.ask("DELETE", "/api/v1/tokens/ann", want=204)

    mine = {"who": "ann", "role": "operator", "account": "*", "address": "127.0.0.1"}
    native = {**mine, "dialect": "native"}
    admin = {"who": "admin", "role": "admin", "account": "*", "address": "127.0.0.1"}
    one = "/api/v1/captures/{id}"
    expected = [
        {**admin, "dialect": "native", "method": "POST", "route": "/api/v1/tokens",
         "target": "ann", "status": 201},
        {**native, "method": "POST", "route": "/api/v1/captures", "target": id, "status": 201},
        {**native, "method": "PATCH", "route": one, "target": id, "status": 200},
        {**native, "method": "DELETE", "route": one, "target": '"‮x', "status": 404},
        {**native, "method": "DELETE", "route": one, "target": id, "status": 204},
        {**mine, "dialect": "cloudflare", "method": "POST", "route": "/accounts/{id}/pcaps",
         "target": ACCOUNT, "status": 400},
        {**mine, "address": "127.0.3.1", "dialect": "citrix", "method": "POST",
         "route": "/v1/config/login", "status": 200},
        {**admin, "dialect": "native", "method": "DELETE", "route": "/api/v1/tokens/{name}",
         "target": "ann", "status": 204},
    ]
    found = audited(daemon, len(expected), "change")
    assert [{k: v for k, v in line.items() if k not in ("time", "event")} for line in found] == expected
    found = audited(daemon, 2, "download")
    assert [(line["target"], line["route"][-9:], line["status"]) for line in found] == [
        (id, "/download", 200), (id, "}/packets", 200),
    ]
    found = audited(daemon, 2, "refused")
    assert [(line["who"], line["method"], line["status"]) for line in found] == [
        ("ann", "GET", 403), ("ann", "DELETE", 403),
    ]
    times = [line["time"] for line in audit(daemon)]
    assert times == sorted(times) and audit(daemon)[0]["event"] == "start"
    assert (daemon.root / "audit.log").stat().st_mode & 0o777 == 0o600
    # Nothing of it goes when everything else goes, and a restart goes on behind it.
    before = audit(daemon)
    daemon.stop()
    daemon.start()
    assert audit(daemon)[: len(before)] == before
    assert audit(daemon)[-1]["event"] == "start"


def test_refusals_do_not_fill_the_audit_log(daemon):
    for n in range(200):
        assert ask_from(daemon, f"127.0.4.{n % 20 + 1}", "/metrics", bearer("x")).status in (401, 429)
    assert daemon.api.request("GET", "/metrics").status == 200
    daemon.stop()
    found = audit(daemon, "refused")
    assert 20 <= len(found) < 60
    shown = sum("status" in line for line in found)
    assert shown + sum(line.get("suppressed", 0) for line in found) == 200
    assert "who" not in found[0] and found[0]["address"] == "127.0.4.1"
    daemon.start()


def test_the_audit_log_is_turned_by_a_signal(daemon):
    token(daemon, "one")
    audited(daemon, 1, "change")
    daemon.root.joinpath("audit.log").rename(daemon.root / "audit.log.old")
    daemon.process.send_signal(signal.SIGHUP)
    harness.until("the log is made anew", (daemon.root / "audit.log").exists, 5)
    token(daemon, "two")
    assert audited(daemon, 1, "change")[0]["target"] == "two"
    assert daemon.root.joinpath("audit.log.old").read_text().count("\n") == 2
    values = daemon.api.request("GET", "/metrics").body.decode()
    assert "\nsluice_audit_lines_total 3\n" in values
    assert "\nsluice_audit_lost_lines_total 0\n" in values
