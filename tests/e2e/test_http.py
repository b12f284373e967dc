# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""HTTP that withstands: the list of tests/api/http11.jsonl, over plain sockets and TLS; clients that are slow,
cut lines, ask for too much or never listen. Each case must be answered as listed, within 10 s, and leave
the connection where the next request is read rightly, or closed."""
import json
import re
import select
import socket
import ssl
import struct
import time

import pytest

import certificates
import harness
from harness import SLOW

CASES = [
    json.loads(line)
    for line in (harness.SOURCE / "tests" / "api" / "http11.jsonl").read_text("utf-8").splitlines()
]
SENTINEL = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HANG = 10


@pytest.fixture(scope="module")
def plain():
    with harness.Daemon({"tap0": {"device": "net_null0", "poll": "wanted"}}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def secure(module_dir):
    authority = certificates.Authority(module_dir)
    certificate, key = authority.sign("server")
    with harness.Daemon(
        {"tap0": {"device": "net_null0", "poll": "wanted"}},
        tls=authority,
        api={"tls_certificate": certificate, "tls_key": key},
    ) as daemon:
        yield daemon


def connect(daemon):
    s = socket.create_connection(("127.0.0.1", daemon.http), HANG * SLOW)
    return daemon.api.tls.wrap_socket(s, server_hostname="127.0.0.1") if daemon.api.tls else s


def octets(send):
    """Text stands for bytes, one each; ["text", n] for n times the text."""
    parts = [send] if isinstance(send, str) else send
    return b"".join(
        (part if isinstance(part, str) else part[0] * part[1]).encode("latin-1") for part in parts
    )


class Answers:
    """What comes from the daemon, read as strictly as it should be written."""

    def __init__(self, s):
        self.s, self.data = s, b""

    def fill(self):
        try:
            data = self.s.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.data += data
        return bool(data)

    def head(self):
        while b"\r\n\r\n" not in self.data:
            if not self.fill():
                assert not self.data, f"cut: {self.data[:200]}"
                return None, {}
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]+", first)
        assert match, f"no status line: {first!r}"
        headers = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon and re.fullmatch(r"[A-Za-z-]+", name) and "\n" not in value, line
            headers[name.lower()] = value
        return int(match[1]), headers

    def one(self, method):
        """(status, headers, body), or None at the end."""
        status, headers = self.head()
        if status is None:
            return None
        length = int(headers.get("content-length", 0))
        if method == "HEAD" or status in (204, 304) or status < 200:
            length = 0
        while len(self.data) < length:
            assert self.fill(), f"{status}: cut in the body"
        body, self.data = self.data[:length], self.data[length:]
        return status, headers, body


class Breath:
    """Sends as much of text as is taken before it reads. In one thread: two that use one TLS connection
    at a time take each other's word that it has to wait for an error."""

    AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def __init__(self, s, text):
        self.s, self.left = s, memoryview(text)
        s.setblocking(False)

    def send(self):
        try:
            while self.left:
                self.left = self.left[self.s.send(self.left[: 1 << 16]) :]
        except self.AGAIN:
            pass

    def recv(self, size):
        while True:
            self.send()
            try:
                return self.s.recv(size)
            except self.AGAIN:
                ready = select.select([self.s], [self.s] if self.left else [], [], HANG * SLOW)
                assert any(ready), f"nothing for {HANG * SLOW:.0f} s, {len(self.left)} not taken"


def judge(status, headers, body, daemon):
    """An error says in JSON what it is, and nothing of how we are made."""
    if status < 400:
        return
    assert "json" in headers["content-type"] and headers["cache-control"] == "no-store"
    problem = json.loads(body) if body else {}
    assert problem.get("status", status) == status
    text = body.decode() + json.dumps(headers)
    for secret in (str(daemon.root), daemon.api.token, ".c:", "0x", "libevent", "OpenSSL"):
        assert secret not in text, text
    if status == 405:
        assert headers["allow"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.sanitize
def test_as_listed(plain, case):
    ask_as_listed(plain, case)


@pytest.mark.parametrize("case", CASES[::8], ids=lambda case: case["name"])
def test_as_listed_over_tls(secure, case):
    ask_as_listed(secure, case)


def ask_as_listed(daemon, case):
    data = octets(case["send"])
    begin = time.monotonic()
    with connect(daemon) as s:
        answers = Answers(s)
        try:
            s.sendall(data + (SENTINEL if case["open"] else b""))
        except OSError:  # refused before all of it was sent
            pass
        method = data.lstrip().split(b" ")[0].decode("latin-1")
        for wanted in case["answers"]:
            got = answers.one(method)
            assert got, f"closed without an answer, not {wanted}"
            assert got[0] == wanted, got
            judge(*got, daemon)
            method = "GET"
        if case["open"]:
            assert answers.one("GET")[2] == b"ok", "the connection is out of step"
        else:
            assert got[1]["connection"] == "close"
        assert answers.one("GET") is None, "more answers than requests"
    assert time.monotonic() - begin < HANG * SLOW, "that took too long"


def request_text(daemon, method="GET", path="/api/v1/status", headers=""):
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.api.token}\r\n"
        f"{headers}\r\n"
    ).encode()


@pytest.mark.parametrize("where", ["plain", "secure"])
def test_ten_thousand_in_one_breath(request, where):
    """Pipelined: every one answered, in its order, while we read slowly."""
    daemon = request.getfixturevalue(where)
    n = 10_000
    text = b"".join(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        if i % 2
        else b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n"
        for i in range(n)
    )
    before = daemon.rss()
    with connect(daemon) as s:
        breath = Breath(s, text + SENTINEL)
        answers = Answers(breath)
        for i in range(n):
            assert answers.one("GET")[0] == (200 if i % 2 else 404), i
        assert answers.one("GET")[2] == b"ok" and answers.one("GET") is None
        assert not breath.left
    assert daemon.rss() - before < 32 << 20


def test_bytes_may_come_one_at_a_time(plain):
    with connect(plain) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b'{"limits":{"packets":0}}'
        text = request_text(plain, "POST", "/api/v1/captures", "Transfer-Encoding: chunked\r\n")
        text += b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"
        for i in range(len(text)):
            s.sendall(text[i : i + 1])
        status, headers, answer = Answers(s).one("POST")
        assert status == 201 and headers["location"]
    plain.api.delete(json.loads(answer)["id"])


def test_continue_is_said_before_the_body(plain):
    with connect(plain) as s:
        answers = Answers(s)
        head = "Expect: 100-continue\r\nContent-Length: {}\r\n"
        s.sendall(request_text(plain, "POST", "/api/v1/captures", head.format(2)))
        assert answers.one("HEAD")[0] == 100
        s.sendall(b"[]")
        assert answers.one("POST")[0] == 400
        s.sendall(request_text(plain, "POST", "/api/v1/captures", head.format(2 << 20)))
        assert answers.one("POST")[0] == 413, "not invited to send what would be refused"


def test_half_a_connection_is_enough_to_answer(plain):
    """Who has asked and closes its side still gets all that it asked for."""
    with connect(plain) as s:
        s.sendall(request_text(plain) * 3)
        s.shutdown(socket.SHUT_WR)
        answers = Answers(s)
        assert [answers.one("GET")[0] for _ in range(3)] == [200] * 3
        assert answers.one("GET") is None
    with connect(plain) as s:  # but half a request is none
        s.sendall(request_text(plain)[:-1])
        s.shutdown(socket.SHUT_WR)
        assert s.recv(100) == b""


def test_answers_that_nobody_takes(plain):
    """Reset in the middle, again and again: nothing is left of it."""
    fds = plain.fds()
    for i in range(100):
        s = socket.create_connection(("127.0.0.1", plain.http), HANG)
        s.sendall(request_text(plain, path="/openapi.json") * (1 + i % 20))
        if i % 3:
            s.recv(100)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    harness.until("all are closed", lambda: plain.fds() <= fds)
    assert plain.api.request("GET", "/healthz").status == 200


def test_what_is_not_to_be_kept_says_so(plain):
    """Nothing with a token in it stays in a cache (and no token is taken from a URL)."""
    for path in ("/api/v1/status", "/api/v1/captures", "/metrics", "/nothing", "/healthz"):
        answer = plain.api.request("GET", path)
        assert answer.headers["Cache-Control"] == "no-store", path
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Date"]
        assert answer.headers["Server"] is None
    bare = harness.Api(plain.http)
    for name in ("token", "access_token", "authorization", "bearer"):
        assert bare.request("GET", f"/api/v1/status?{name}={plain.api.token}").status == 401


def test_plain_http_stays_on_loopback(dir):
    daemon = harness.Daemon({"tap0": {"device": "net_null0"}}, api={"listen": "0.0.0.0:1"})
    done = harness.run(harness.SLUICED, "--config", daemon.config, check=False, timeout=30)
    daemon.discard()
    assert done.returncode == 2 and "insecure = yes" in done.stderr
