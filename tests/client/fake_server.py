# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A server that speaks as much of the native API as `sluice` needs, and can be told to misbehave.

It keeps captures in memory, writes down every request, and serves one fixed body as every capture's file.
"""
import http.server
import json
import threading
import time
import urllib.parse

TOKEN = "s3cret"
FILE = b"\x0a\x0d\x0d\x0a" + bytes(range(256)) * 4096


def ledger(**counts):
    names = "offered filtered sampled_out over_limit accepted written durable in_flight unknown"
    reasons = "no_block oversize encode_error io_error no_space quota writer_stopped stream_backpressure"
    book = {name: 0 for name in names.split()}
    book["dropped"] = {reason: 0 for reason in reasons.split()}
    book["dropped"].update(counts.pop("dropped", {}))
    book.update(counts)
    return book


def port(**changes):
    counters = {"offered": 100, "rx": 97, "nic_missed": 1, "nic_errors": 1, "nic_nombuf": 1,
                "matched": 90, "unmatched": 7}
    counters.update(changes.pop("counters", {}))
    made = {"name": "tap0", "interface": "eth0", "driver": "af_packet", "link": "up", "speed_mbps": 10000,
            "mac": "02:00:00:00:00:01", "mtu": 1500, "rx_queues": 1, "loss_visibility": "exact",
            "direction": "exact", "counters": counters}
    made.update(changes)
    return made


class Fake:
    def __init__(self):
        self.captures, self.requests, self.ports = {}, [], [port()]
        self.converting_seconds = 0.2  # how long after its end a capture is not closed yet
        self.final = ledger(offered=100, filtered=40, accepted=60, written=60, durable=60)
        self.fail = False  # captures end as failed
        self.packets = []  # of every capture
        self.live = b""
        self.stop_seconds = 0.0  # how long a stop request takes
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                fake.answer(self, self.command, urllib.parse.urlsplit(self.path), body)

            do_GET = do_POST = do_DELETE = do_PATCH = handle_any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def reply(self, handler, status, value=None, headers=(), kind="application/json"):
        body = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        handler.send_response(status)
        for name, text in headers:
            handler.send_header(name, text)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def problem(self, handler, status, detail, headers=(), **members):
        self.reply(handler, status, {"type": "about:blank", "title": "refused", "status": status,
                                     "detail": detail, **members},
                   headers, "application/problem+json")

    def add(self, spec=None, **changes):
        spec = spec or {}
        name = f"00000000-0000-4000-8000-{len(self.captures):012x}"
        self.captures[name] = {
            "id": name, "name": spec.get("name", ""), "notes": spec.get("notes", ""), "account": "*",
            "owner": "admin", "dialect": "native", "state": "running", "reason": None, "message": None,
            "ports": spec.get("ports", ["tap0"]), "filter": spec.get("filter", ""),
            "filter_engine": "jit", "sampling": {"mode": "none", "n": 1}, "snaplen": 262144,
            "direction": "both", "limits": spec.get("limits", {}), "output": {"type": "file"},
            "created_at": "2026-11-20T22:00:00.000000000Z", "started_at": "2026-11-20T22:00:00.000000000Z",
            "ended_at": None, "size_bytes": 0,
            "ledger": ledger(offered=50, accepted=30, filtered=20, written=20, in_flight=10),
            "begun": time.monotonic(), "closing": None, **changes}
        return self.captures[name]

    def end(self, capture, reason):
        capture.update(state="converting", reason=reason, closing=time.monotonic())

    def settle(self, capture):
        """Let time do its work."""
        seconds = (capture["limits"] or {}).get("seconds", 0)
        if capture["state"] == "running" and seconds and time.monotonic() > capture["begun"] + seconds:
            self.end(capture, "time_limit")
        if capture["closing"] and time.monotonic() > capture["closing"] + self.converting_seconds:
            capture.update(state="failed" if self.fail else "complete", closing=None, ledger=self.final,
                           size_bytes=len(FILE), ended_at="2026-11-20T22:00:01.000000000Z",
                           message="the disk refused the data" if self.fail else None,
                           reason="io_error" if self.fail else capture["reason"])

    def shown(self, capture):
        self.settle(capture)
        return {name: value for name, value in capture.items() if name not in ("begun", "closing")}

    def answer(self, handler, method, url, body):
        self.requests.append((method, url.path, url.query, json.loads(body) if body else None))
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.problem(handler, 401, "a valid token is needed", [("WWW-Authenticate", "Bearer")])
        words = url.path.split("/")[3:]
        route = getattr(self, f"{method.lower()}_{words[0]}", None)
        if url.path.startswith("/api/v1/") and route:
            return route(handler, words[1:], dict(urllib.parse.parse_qsl(url.query)), body)
        return self.problem(handler, 404, "no such path")

    def post_captures(self, handler, words, _query, body):
        if not words:
            spec = json.loads(body)
            if "nonsense" in spec.get("filter", ""):
                return self.problem(handler, 400, "syntax error at \"nonsense\"", pointer="/filter")
            if len(spec.get("ports", [])) > 3:
                return self.problem(handler, 400, "ports.3: no such port", pointer="/ports/3")
            return self.reply(handler, 201, self.shown(self.add(spec)))
        capture = self.captures.get(words[0])
        if capture is None:
            return self.problem(handler, 404, "no such capture")
        time.sleep(self.stop_seconds)
        if capture["state"] == "running":
            self.end(capture, "stopped")
        return self.reply(handler, 200, self.shown(capture))

    def get_captures(self, handler, words, query, _body):
        if not words:
            everything = [self.shown(capture) for capture in reversed(self.captures.values())]
            begin, limit = int(query.get("cursor", 0)), int(query.get("limit", 100))
            more = begin + limit if begin + limit < len(everything) else None
            return self.reply(handler, 200, {"captures": everything[begin:begin + limit],
                                             "next": None if more is None else str(more)})
        capture = self.captures.get(urllib.parse.unquote(words[0]))
        if capture is None:
            return self.problem(handler, 404, "no such capture")
        shown = self.shown(capture)
        if len(words) == 1:
            return self.reply(handler, 200, shown)
        if words[1] == "download":
            if shown["state"] not in ("complete", "failed") and "partial" not in query:
                return self.problem(handler, 409, "the capture is not closed", [("Retry-After", "1")])
            return self.reply(handler, 200, FILE, kind="application/x-pcapng")
        if words[1] == "live":
            return self.reply(handler, 200, self.live, kind="application/octet-stream")
        if words[1] == "packets":
            return self.reply(handler, 200, {"total": len(self.packets), "packets": self.packets})
        return self.problem(handler, 404, "no such path")

    def patch_captures(self, handler, words, _query, body):
        capture = self.captures.get(words[0])
        if capture is None:
            return self.problem(handler, 404, "no such capture")
        patch = json.loads(body)
        capture["limits"] = {**capture["limits"], **patch.pop("limits", {})}
        capture.update(patch)
        return self.reply(handler, 200, self.shown(capture))

    def delete_captures(self, handler, words, _query, _body):
        if self.captures.pop(words[0], None) is None:
            return self.problem(handler, 404, "no such capture")
        return self.reply(handler, 204)

    def get_ports(self, handler, _words, _query, _body):
        return self.reply(handler, 200, {"ports": self.ports})

    def get_status(self, handler, _words, _query, _body):
        return self.reply(handler, 200, {
            "version": "0.1.0", "uptime_seconds": 3725, "lcores": [{}, {}],
            "blocks": {"total": 1024, "free": 1000},
            "storage": {
                "size_bytes": 10**12,
                "used_bytes": 10**9,
                "quota_bytes": 8 * 10**11,
                "spare_bytes": 5 * 10**8,
                "ceiling": {
                    "touched_bytes_per_second": 2 * 10**9,
                    "fresh_bytes_per_second": 10**9,
                    "write_bytes": 4 << 20,
                    "depth": 8,
                    "measured_at": "2023-11-14T22:13:20.000000000Z",
                },
            },
            "at_risk": {"packets": 0, "bytes": 0, "seconds": 0.3}, "bottleneck": "disk",
            "bottleneck_since": "2026-11-20T23:47:08.000000000Z",
            "explanation": "9 packets a second found no free block",
            "admission": {"overload": "degrade", "ceiling_bytes_per_second": 1_200_000_000,
                          "load_bytes_per_second": 1_500_000_000, "left_bytes_per_second": 0,
                          "degraded_captures": 1, "overloaded_since": "2026-11-20T23:47:08.000000000Z"},
            "resources": {
                "nic": {"ports": [{"name": "tap0", "packets_per_second": 1_200_000, "missed_per_second": 3,
                                   "nombuf_per_second": 0, "errors_per_second": 1,
                                   "loss_visibility": "exact"}]},
                "rx_core": {"lcores": [{"lcore": 1, "cpu": 1, "busy_percent": 97, "waited_percent": 2,
                                        "full_polls_percent": 99}]},
                "blocks": {"total": 1024, "low": 0, "missed_per_second": 9,
                           "writers": [{"lcore": 0, "cpu": 0, "busy_percent": 12, "waited_percent": 0}]},
                "disk": {"bytes_per_second": 1_180_000_000, "ceiling_bytes_per_second": 1_200_000_000,
                         "busy_percent": 100, "in_flight": 31, "in_flight_max": 32, "slow_writes": 0}}})

    def get_tokens(self, handler, _words, _query, _body):
        return self.reply(handler, 200, {"tokens": [
            {"name": "admin", "role": "admin", "account": "*", "expires_at": None}]})

    def post_tokens(self, handler, _words, _query, body):
        return self.reply(handler, 201, {**json.loads(body), "secret": "new-secret"})

    def delete_tokens(self, handler, words, _query, _body):
        return self.reply(handler, 204)
