#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Clients that mean no good, each a process of its own: abuse.py KIND PORT SECONDS [CA [TOKEN]].

  connects    connections that say nothing, and end by closing or by a reset
  handshakes  TLS handshakes one after another, and some that are never finished
  slowloris   1,000 connections that send a request byte by byte, and come again when they are ended
  slowbody    200 connections that promise 1 MB of body and send a tenth of it, and then a byte at a time
  bodies      the same with nine tenths: 180 MB in all, which nobody should have to keep
  slowread    100 that ask for much, with a token, and take nothing
  pollers     1,000 connections with a token, each asked over and over
  lists       the longest pages of captures, and of metrics, one after another
  corpus      the requests of tests/api/http11.jsonl, over and over

Prints one JSON object: what it saw, among it "failures" (answers of 5xx that no rule asks for), "hangs" (10 s
without an answer or an end) and "longest" (seconds until a connection was ended by the daemon).
"""
import collections
import json
import os
import pathlib
import random
import resource
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import time

HANG = 10
RULED = (501, 505)  # what RFC 9110 wants said to methods and versions that are not there
BODY = b"POST /api/v1/captures HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
SLOW = float(os.environ.get("SLUICE_TEST_SLOW", "1"))


def whole(s):
    """All of one answer, b"" if it does not come."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]) - len(body)
    while left > 0:
        left -= len(s.recv(left)) or left
    return data


class Abuse:
    def __init__(self, port, seconds, ca=None, token=""):
        self.port, self.token = port, token
        self.end = time.monotonic() + seconds
        self.tls = ssl.create_default_context(cafile=ca) if ca else None
        self.seen = collections.Counter(failures=0, hangs=0)
        self.longest = 0.0

    def going(self):
        return time.monotonic() < self.end

    def raw(self, timeout=HANG, receive_buffer=None):
        s = socket.socket()
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(timeout)
        s.connect(("127.0.0.1", self.port))
        return s

    def connect(self, **options):
        s = self.raw(**options)
        return self.tls.wrap_socket(s, server_hostname="127.0.0.1") if self.tls else s

    def answered(self, data):
        status = int(data.split(b" ")[1]) if data.startswith(b"HTTP/1.1 ") else 0
        self.seen[f"{status // 100}xx" if status else "ended"] += 1
        if status >= 500 and status not in RULED:
            self.seen["failures"] += 1

    # Each kind runs until going() says no.

    def connects(self):
        held = collections.deque()
        while self.going():
            try:
                s = self.raw()
            except OSError:
                self.seen["refused"] += 1
                continue
            self.seen["connects"] += 1
            held.append(s)
            if len(held) > 300:
                old = held.popleft()
                if self.seen["connects"] % 2:
                    old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                old.close()

    def handshakes(self):
        half = []
        while self.going():
            done = subprocess.run(
                ["openssl", "s_time", "-connect", f"127.0.0.1:{self.port}", "-new", "-time", "1"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            words = done.stdout.split()
            self.seen["handshakes"] += int(words[words.index("connections") - 1]) if words else 0
            for _ in range(20):
                half.append(self.raw())
                half[-1].sendall(b"\x16\x03\x01\x02\x00\x01")

    def _slow(self, count, opening, drip):
        """count connections that send opening and then a byte a second; ended ones come again."""
        waiting, look = {}, selectors.DefaultSelector()

        def begin():
            try:
                s = self.connect()
                s.sendall(opening)
            except OSError:
                self.seen["refused"] += 1
                return
            s.setblocking(False)
            waiting[s] = time.monotonic()
            look.register(s, selectors.EVENT_READ)

        def over(s, data):
            self.longest = max(self.longest, time.monotonic() - waiting.pop(s))
            look.unregister(s)
            s.close()
            self.answered(data)

        while self.going():
            for _ in range(min(100, count - len(waiting))):
                if self.going():
                    begin()
            dripped = time.monotonic()
            for s in list(waiting):
                try:
                    s.send(drip)
                except (BlockingIOError, ssl.SSLWantWriteError):
                    pass
                except OSError:
                    over(s, b"")
            while time.monotonic() < min(dripped + 0.5, self.end):
                for key, _ in look.select(0.1):
                    try:
                        data = key.fileobj.recv(4096)
                    except (BlockingIOError, ssl.SSLWantReadError):
                        continue
                    except OSError:
                        data = b""
                    over(key.fileobj, data)
        late = time.monotonic() - HANG * 1.5 * SLOW
        self.seen["hangs"] += sum(begun < late for begun in waiting.values())
        self.seen["held"] = len(waiting)

    def slowloris(self):
        self._slow(1000, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Y: ", b"a")

    def slowbody(self):
        self._slow(200, BODY + b" " * 100_000, b" ")

    def bodies(self):
        self._slow(200, BODY + b" " * 900_000, b" ")

    def slowread(self):
        ask = f"GET /openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        held = []
        for _ in range(100):
            s = self.connect(receive_buffer=2048)
            s.sendall(ask.encode() * 100)
            held.append(s)
        while self.going():
            time.sleep(0.1)
        self.seen["held"] = len(held)

    def pollers(self):
        path = "/api/v1/status"
        ask = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        sockets, times = [], []
        while self.going():
            if len(sockets) < 1000:
                sockets.append(self.connect())
            s = sockets[random.randrange(len(sockets))]
            begin = time.monotonic()
            try:
                s.sendall(ask)
                data = whole(s)
            except TimeoutError:
                self.seen["hangs"] += 1
                data = b""
            except OSError:
                data = b""
            times.append(time.monotonic() - begin)
            self.answered(data)
            if not data:
                sockets.remove(s)
        times.sort()
        self.seen["p99_ms"] = round(times[len(times) * 99 // 100] * 1000, 1)

    def lists(self):
        paths = ("/api/v1/captures?limit=1000", "/metrics", "/api/v1/captures?state=running&limit=1000")
        s = self.connect()
        while self.going():
            path = random.choice(paths)
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n"
            begin = time.monotonic()
            s.sendall(head.encode())
            self.answered(whole(s))
            self.longest = max(self.longest, time.monotonic() - begin)

    def corpus(self):
        path = pathlib.Path(__file__).resolve().parents[1] / "api" / "http11.jsonl"
        cases = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        while self.going():
            case = random.choice(cases)
            parts = [case["send"]] if isinstance(case["send"], str) else case["send"]
            text = "".join(p if isinstance(p, str) else p[0] * p[1] for p in parts)
            begin = time.monotonic()
            try:
                with self.connect() as s:
                    s.sendall(text.encode("latin-1"))
                    self.answered(s.recv(65536))
            except TimeoutError:
                self.seen["hangs"] += 1
            except OSError:
                self.seen["ended"] += 1
            self.longest = max(self.longest, time.monotonic() - begin)


def main():
    kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    abuse = Abuse(port, seconds, *[word or None for word in sys.argv[4:6]])
    getattr(abuse, kind)()
    print(json.dumps({**abuse.seen, "longest": round(abuse.longest, 2)}))


class Honest:
    """Somebody with a token who asks all the time: on a connection that stays, and on new ones."""

    def __init__(self, daemon):
        self.daemon, self.times, self.wrong = daemon, [], []
        self.kept = daemon.api.connection(3 * HANG * SLOW)

    def ask(self):
        begin = time.monotonic()
        try:
            status = self.daemon.api.request("GET", "/api/v1/status").status
            self.kept.request(
                "GET", "/api/v1/ports", headers={"Authorization": f"Bearer {self.daemon.api.token}"}
            )
            answer = self.kept.getresponse()
            answer.read()
            if status != 200 or answer.status != 200:
                self.wrong.append((status, answer.status))
        except OSError as error:
            self.wrong.append(repr(error))
            self.kept.close()
        self.times.append(time.monotonic() - begin)

    def p99(self):
        return sorted(self.times)[len(self.times) * 99 // 100]


def start(daemon, kinds, seconds):
    """Let all kinds loose on daemon together, beside the RX core, as if they came over the wire."""
    import harness  # not needed by the processes themselves

    words = [str(daemon.http), str(seconds), str(daemon.ca or ""), daemon.api.token]
    return {
        kind: subprocess.Popen(
            [sys.executable, __file__, kind, *words],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {harness.CPUS[0]}),
        )
        for kind in kinds
    }


def finish(processes):
    """What each of them saw."""
    seen = {}
    try:
        for kind, process in processes.items():
            out, _ = process.communicate(timeout=120 * SLOW)
            assert process.returncode == 0, f"{kind} ended with {process.returncode}"
            seen[kind] = json.loads(out)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
    return seen


def run(daemon, kinds, seconds, every=0.05):
    """Start, ask honestly meanwhile, finish. (what each saw, the honest client's word)."""
    processes = start(daemon, kinds, seconds)
    honest = Honest(daemon)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            honest.ask()
            time.sleep(every)
    finally:
        honest.kept.close()
        seen = finish(processes)
    return seen, honest


if __name__ == "__main__":
    main()
