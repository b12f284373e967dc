# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The daemon as it is measured: started for one trial with its configuration, spoken to by its API."""
import datetime
import http.client
import json
import pathlib
import signal
import socket
import time
import urllib.parse

from machine import Trouble, until

CLOSED = ("complete", "failed")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    """One sluiced with the port perf0 (options: its section); sections: more of the configuration."""

    def __init__(self, machine, program, root, port, **sections):
        self.machine, self.program, self.root = machine, program, pathlib.Path(root)
        self.http = free_port()
        self.token = None
        options = {
            "api": {"listen": f"127.0.0.1:{self.http}"},
            "storage": {"root": root, "quota": "95%", "when_full": "refuse"},
            "engine": {
                "hugepages": "yes",
                "main_cpu": machine.writer_cpu,
                "rx_cpus": machine.rx_cpu,
                "writer_cpus": machine.writer_cpu,
            },
            "port perf0": port,
        }
        for name, section in sections.items():
            options.setdefault(name, {}).update(section)
        self.config = machine.memory / "sluice.ini"
        self.config.write_text(
            "\n".join(
                f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in section.items())
                for name, section in options.items()
            ),
            encoding="utf-8",
        )

    def __enter__(self):
        self.root.mkdir(parents=True, exist_ok=True)
        self.process = self.machine.spawn(
            [self.program, "--config", self.config], "sluiced"
        )
        until("sluiced answers", self._healthy, 60)
        self.token = (self.root / "admin.token").read_text(encoding="ascii").strip()
        return self

    def __exit__(self, kind, *_):
        code = self.process.end(signal.SIGTERM, 60)
        if kind is None and code != 0:
            raise Trouble(f"sluiced ended with {code}:\n{self.process.log()}")

    def _healthy(self):
        if not self.process.running():
            raise Trouble(f"sluiced ended with {self.process.popen.returncode}:\n"
                          f"{self.process.log()}")
        try:
            return self._request("GET", "/healthz", None)[0] == 200
        except OSError:
            return False

    def _request(self, method, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=300)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            if body is not None:
                body = json.dumps(body)
                headers["Content-Type"] = "application/json"
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, method, path, body=None):
        status, answer = self._request(method, path, body)
        if status >= 300:
            raise Trouble(f"{method} {path}: {status} {answer[:500]!r}")
        return json.loads(answer) if answer else None

    def create(self, **spec):
        return self.ask("POST", "/api/v1/captures", spec)

    def capture(self, capture):
        return self.ask("GET", f"/api/v1/captures/{capture['id']}")

    def stop(self, capture):
        """(the capture as the answer shows it, seconds until the answer)"""
        began = time.monotonic()
        answer = self.ask("POST", f"/api/v1/captures/{capture['id']}/stop")
        return answer, time.monotonic() - began

    def wait_closed(self, capture, seconds=600):
        def closed():
            now = self.capture(capture)
            return now if now["state"] in CLOSED else None

        return until(f"capture {capture['id']} is closed", closed, seconds)

    def delete(self, capture):
        """Behind a stalled disk a DELETE is answered before its files are gone: until they are."""
        path = f"/api/v1/captures/{capture['id']}"

        def gone():
            status, answer = self._request("DELETE", path, None)
            if status not in (204, 404, 503):
                raise Trouble(f"DELETE {path}: {status} {answer[:500]!r}")
            return status != 503

        until(f"capture {capture['id']} is deleted", gone, 60)

    def port(self):
        return self.ask("GET", "/api/v1/ports")["ports"][0]

    def status(self):
        return self.ask("GET", "/api/v1/status")

    def file(self, capture):
        return self.root / "captures" / capture["id"] / "capture.pcapng"

    def useful_cycles(self, status):
        """By role: cycles of rounds that brought packets."""
        cycles = {}
        for lcore in status["lcores"]:
            cycles[lcore["role"]] = cycles.get(lcore["role"], 0) + lcore["cycles_useful"]
        return cycles


def wall_clock(text):
    """An RFC 3339 time with nine decimals, as seconds since 1970."""
    head, _, tail = text.rstrip("Z").partition(".")
    whole = datetime.datetime.fromisoformat(head + "+00:00").timestamp()
    return whole + float("0." + (tail or "0"))


def seconds_of(capture):
    """How long it ran, by its own clock."""
    return wall_clock(capture["ended_at"]) - wall_clock(capture["started_at"])


def law_breaks(capture, port=None):
    """What does not add up in the books of a closed capture and its port: a list of sentences."""
    ledger, breaks = capture["ledger"], []
    dropped = sum(ledger["dropped"].values())

    def law(name, left, right):
        if left != right:
            breaks.append(f"{name}: {left} is not {right}")

    law(
        "offered = filtered + sampled_out + over_limit + accepted",
        ledger["offered"],
        ledger["filtered"] + ledger["sampled_out"] + ledger["over_limit"] + ledger["accepted"],
    )
    law(
        "accepted = written + dropped + in_flight + unknown",
        ledger["accepted"],
        ledger["written"] + dropped + ledger["in_flight"] + ledger["unknown"],
    )
    law("in_flight = 0", ledger["in_flight"], 0)
    law("unknown = 0", ledger["unknown"], 0)
    if capture["state"] != "complete":
        breaks.append(f"state {capture['state']}: {capture['reason']} {capture['message']}")
    if port is not None:
        c = port["counters"]
        law(
            "port offered = rx + missed + errors + nombuf",
            c["offered"],
            c["rx"] + c["nic_missed"] + c["nic_errors"] + c["nic_nombuf"],
        )
        law("port rx = matched + unmatched", c["rx"], c["matched"] + c["unmatched"])
    return breaks


def file_breaks(capture, check, sparse=False):
    """What in the file is not as the capture's ledger says."""
    ledger, breaks = capture["ledger"], []
    dropped = sum(ledger["dropped"].values())
    for name, found, wanted in (
        ("packets in the file = written", check["packets"], ledger["written"]),
        ("every byte verified", check["numbered"], check["packets"]),
        ("losses told in the file = dropped", check["told"], dropped),
        ("bytes in the file = size", check["file_bytes"], capture["size_bytes"]),
        ("unexplained places", check["unexplained"], 0),
        ("stamps backward", check["backward_steps"], 0),
    ):
        if found != wanted and not (sparse and name == "unexplained places"):
            breaks.append(f"{name}: {found} is not {wanted}")
    return breaks
