#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Sessions that come and go, driven by several processes: churn.py OPERATIONS SEED SINGLE, what it talks to as
JSON on its input.

Each process lives one life after the other over a connection that it keeps for a while: a capture is
created, read, listed, stopped, downloaded, deleted, natively and in the vendors' dialects; WebSockets,
tokens and requests that are refused stand between them. Every request is one operation, and its answer
must be the expected one. SINGLE 1 also speaks the dialects of which an account has one capture at a time.
Prints one JSON object: operations, seconds, lives by kind, and the first answers that were wrong.
"""
import base64
import collections
import json
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import time

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
SITE = "67970e46-4e12-11e6-9188-0242ac110007"
SECTIONS = {
    "cloudflare": {"enabled": "yes"},
    "nsx": {"enabled": "yes"},
    "citrix": {"enabled": "yes"},
    "mist": {"enabled": "yes"},
    "account default": {"id": ACCOUNT, "site_id": SITE},
}
PATIENCE = 60
REQUESTS_MAX = 300  # then the connection is another


class Wrong(Exception):
    pass


class Line:
    """A connection that stays for a while, and is made again by itself."""

    def __init__(self, port, tls, dice):
        self.port, self.tls, self.dice = port, tls, dice
        self.socket, self.left = None, 0

    def open(self):
        self.close()
        self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            self.socket = self.tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.left = self.dice.randint(1, REQUESTS_MAX)

    def close(self):
        if not self.socket:
            return
        if self.dice.random() < 0.1:  # not every client says goodbye
            reset = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.socket.close()
        self.socket = None

    def send(self, method, path, headers, body):
        self.left -= 1
        if not self.socket or self.left < 0:
            self.open()
        text = json.dumps(body).encode() if isinstance(body, (dict, list)) else body or b""
        head = [f"{method} {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(text)}"]
        if text:
            head.append("Content-Type: application/json")
        self.socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + text)

    def answer(self):
        """(status, head, body)"""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, data = data.partition(b"\r\n\r\n")
        at = head.lower().find(b"\r\ncontent-length: ")
        if at >= 0:
            body = self._take(bytearray(data), int(head[at + 18 :].partition(b"\r\n")[0]))
        elif b"\r\nTransfer-Encoding: chunked" in head:
            body = self._chunks(bytearray(data))
        else:
            body = b""
        if b"\r\nConnection: close" in head:
            self.close()
        return int(head[9:12]), head, body

    def _take(self, data, length):
        """The next bytes; data keeps what is behind them."""
        while len(data) < length:
            data += self._more()
        taken = bytes(data[:length])
        del data[:length]
        return taken

    def _chunks(self, data):
        parts = []
        while True:
            while b"\r\n" not in data:
                data += self._more()
            size, _, _ = data.partition(b"\r\n")
            self._take(data, len(size) + 2)
            parts.append(self._take(data, int(size, 16)))
            self._take(data, 2)
            if not parts[-1]:
                return b"".join(parts)

    def _more(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise Wrong("the connection ended before the answer")
        return data


class Client:
    def __init__(self, dice, single, about):
        self.dice, self.token = dice, about["token"]
        self.tls = ssl.create_default_context(cafile=about["ca"]) if about["ca"] else None
        self.port = about["port"]
        self.line, self.second = (Line(self.port, self.tls, dice) for _ in range(2))
        self.bearer = [f"Authorization: Bearer {self.token}"]
        basic = base64.b64encode(f"admin:{self.token}".encode()).decode()
        self.basic = [f"Authorization: Basic {basic}"]
        self.mists = [f"Authorization: Token {self.token}"]
        self.serial = self.operations = 0
        self.lives, self.wrong = collections.Counter(), []
        kinds = [(self.none, 12), (self.file, 4), (self.refused, 2), (self.cloudflare, 2)]
        kinds += [(self.nsx, 2), (self.socket, 1), (self.secret, 0.2)]
        if single:
            kinds += [(self.mist, 2), (self.citrix, 1)]
        self.kinds, self.weights = zip(*kinds)

    def run(self, operations):
        while self.operations < operations and len(self.wrong) < 10:
            life = self.dice.choices(self.kinds, self.weights)[0]
            try:
                life()
            except (Wrong, OSError, ValueError, KeyError, IndexError) as error:
                self.wrong.append(f"{life.__name__}: {error!r}")
                self.line.close()
                self.second.close()
            self.lives[life.__name__] += 1
        self.line.close()
        self.second.close()

    def ask(self, method, path, body=None, want=200, headers=None, line=None):
        line = line or self.line
        line.send(method, path, self.bearer if headers is None else headers, body)
        return self.told(method, path, want, line)

    def told(self, method, path, want, line):
        status, self.head, text = line.answer()
        self.operations += 1
        if status != want:
            raise Wrong(f"{method} {path}: {status}, not {want}: {text[:300]!r}")
        return text

    def until(self, what, check):
        end = time.monotonic() + PATIENCE
        while not check():
            if time.monotonic() > end:
                raise Wrong(f"in vain until {what}")
            time.sleep(0.002)

    def closed(self, one):
        states = (b'"state":"complete"', b'"state": "complete"')
        self.until("closed", lambda: any(s in self.ask("GET", one) for s in states))

    # The lives.

    def spec(self):
        """No two filters are the same, so that nothing of one is kept for the next."""
        self.serial += 1
        n = self.dice.randrange(1, 65000)
        return self.dice.choice(
            (
                {},
                {"filter": f"udp dst port {n} or ip[{self.dice.randrange(60)}] > {n % 256}"},
                {"filter": f"udp dst port {30000 + n % 16}", "snaplen": 62 + n % 500},
                {"sampling": {"mode": ("every", "random", "flow")[n % 3], "n": 2 + n % 9}},
                {"limits": {"packets": 1 + n % 50}, "notes": "n" * (n % 400)},
            )
        )

    def begun(self, **output):
        text = self.ask(
            "POST", "/api/v1/captures", {"name": f"n{self.serial}", **output, **self.spec()}, 201
        )
        return "/api/v1/captures/" + json.loads(text)["id"]

    def none(self):
        one = self.begun(output={"type": "none"})
        self.ask("GET", one)
        self.ask("GET", "/api/v1/captures?limit=3")
        if self.dice.random() < 0.5:
            self.ask("PATCH", one, {"notes": "x" * self.dice.randrange(300)})
            self.ask("POST", one + "/stop")
            self.ask("GET", one)
        self.ask("DELETE", one, want=204)
        self.ask("GET", one, want=404)

    def file(self):
        one = self.begun()
        self.ask("GET", self.dice.choice(("/api/v1/status", "/api/v1/ports", "/metrics")))
        if self.dice.random() < 0.8:
            self.ask("POST", one + "/stop")
            self.closed(one)
            self.ask("GET", one + "/packets?limit=5")
            self.ask("GET", one + self.dice.choice(("/download", "/download?format=pcap")))
        self.ask("DELETE", one, want=204)
        self.ask("GET", one + "/download", want=404)

    def refused(self):
        absent = "/api/v1/captures/00000000-0000-4000-8000-000000000000"
        bad = "nonsense and " * self.dice.randrange(1, 20)
        self.ask("POST", "/api/v1/captures", {"filter": bad}, 400)
        self.ask("POST", "/api/v1/captures", b'{"name":' + b"[" * 200, 400)
        self.ask("POST", absent + "/stop", want=404)
        self.ask("GET", "/api/v1/captures", want=401, headers=[])
        self.ask("PUT", "/api/v1/captures", want=405)

    def cloudflare(self):
        pcaps = f"/client/v4/accounts/{ACCOUNT}/pcaps"
        order = {"type": "simple", "system": "magic-transit", "time_limit": 60, "packet_limit": 7}
        made = json.loads(self.ask("POST", pcaps, order))["result"]["id"]
        one = f"{pcaps}/{made}"
        self.until("success", lambda: b'"status":"success"' in self.ask("GET", one))
        self.ask("GET", pcaps)
        self.ask("GET", one + "/download")
        id = "-".join((made[:8], made[8:12], made[12:16], made[16:20], made[20:]))
        self.ask("DELETE", f"/api/v1/captures/{id}", want=204)
        self.ask("GET", one, want=404)

    def nsx(self):
        root = "/api/v1/pktcap/session"
        order = {"cappoint": "VMNIC", "capsource": "CLI", "capamount": self.dice.randrange(1, 20)}
        made = json.loads(self.ask("POST", root, order, headers=self.basic))["sessionid"]
        one = f"{root}/{made}"
        self.ask("GET", one, headers=self.basic)
        self.ask("POST", one + "?action=terminate", headers=self.basic)
        self.ask("GET", one + "/capturefile", headers=self.basic)
        self.ask("GET", root + "s", headers=self.basic)
        self.ask("POST", one + "?action=delete", headers=self.basic)

    def mist(self):
        site = f"/api/v1/sites/{SITE}/pcaps"
        order = {"type": "wired", "num_packets": self.dice.randrange(5, 20)}
        made = json.loads(self.ask("POST", site + "/capture", order, headers=self.mists))["id"]
        self.ask("DELETE", site + "/capture", headers=self.mists)
        self.ask("GET", site, headers=self.mists)
        self.closed(f"/api/v1/captures/{made}")
        self.ask("DELETE", f"/api/v1/captures/{made}", want=204)

    def citrix(self):
        nitro = "/sdwan/nitro/v2"
        login = {"login": {"username": "admin", "password": self.token}}
        self.ask("POST", nitro + "/config/login", login, headers=[])
        at = self.head.partition(b"Set-Cookie: ")[2]
        cookie = ["Cookie: " + at[: at.index(b";")].decode()]
        capture = nitro + "/diag/packet_capture"
        order = {"packet_capture": {"duration": 30}}
        self.second.send("POST", capture, cookie, order)
        running = "/api/v1/captures?state=running"
        self.until("it runs", lambda: b'citrix"' in self.ask("GET", running))
        self.ask("DELETE", capture, headers=cookie)
        self.told("POST", capture, 200, self.second)
        self.second.close()  # idle for a minute it would be closed before it is used again
        self.ask("DELETE", nitro + "/config/login/admin", headers=cookie)

    def socket(self):
        """A stream of the status, left in one of three ways."""
        line = Line(self.port, self.tls, self.dice)
        headers = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        headers += [f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}"]
        line.send("GET", "/api/v1/stream", self.bearer + headers, None)
        line.left = REQUESTS_MAX
        data = b""
        while b"\r\n\r\n" not in data:
            data += line._more()
        self.operations += 1
        if not data.startswith(b"HTTP/1.1 101 "):
            raise Wrong(f"stream: {data[:200]!r}")
        text = b'{"subscribe":"status"}'
        line.socket.sendall(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)
        end = self.dice.randrange(3)
        if end > 0:
            data = data.partition(b"\r\n\r\n")[2]
            while b'"status"' not in data:
                data += line._more()
        if end > 1:
            line.socket.sendall(bytes((0x88, 0x82)) + bytes(4) + struct.pack("!H", 1000))
            try:
                while line.socket.recv(65536):
                    pass
            except ConnectionError:
                pass
        line.close()

    def secret(self):
        name = f"t{os.getpid()}-{self.serial}"
        self.serial += 1
        order = {"name": name, "role": "viewer"}
        made = json.loads(self.ask("POST", "/api/v1/tokens", order, 201))["secret"]
        self.ask("GET", "/api/v1/captures?limit=2", headers=[f"Authorization: Bearer {made}"])
        self.ask("DELETE", f"/api/v1/tokens/{name}", want=204)


def main():
    operations, seed, single = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
    client = Client(random.Random(seed), single, json.load(sys.stdin))
    begin = time.monotonic()
    client.run(operations)
    seen = {"operations": client.operations, "seconds": time.monotonic() - begin}
    print(json.dumps({**seen, "lives": client.lives, "wrong": client.wrong}))


def run(daemon, operations, seed=1, processes=16):
    """At least so many operations; what all processes saw, added up."""
    import harness  # not needed by the processes themselves

    about = {"port": daemon.http, "token": daemon.api.token, "ca": str(daemon.ca or "")}
    started = []
    for n in range(processes):
        words = [str(operations // processes + 1), str(seed * 1000 + n), str(int(n == 0))]
        process = subprocess.Popen(
            [sys.executable, __file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, set(harness.CPUS)),
        )
        process.stdin.write(json.dumps(about))
        process.stdin.close()
        process.stdin = None
        started.append(process)
    total = {"operations": 0, "seconds": 0.0, "lives": collections.Counter(), "wrong": []}
    try:
        for process in started:
            out, _ = process.communicate()
            assert process.returncode == 0, f"a client ended with {process.returncode}"
            seen = json.loads(out)
            total["operations"] += seen["operations"]
            total["seconds"] = max(total["seconds"], seen["seconds"])
            total["lives"].update(seen["lives"])
            total["wrong"] += seen["wrong"]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return total


if __name__ == "__main__":
    main()
