# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The daemon under test, its API and the outside readers.

Daemon runs one sluiced with a root and a port of its own; finish() is where every test also checks
what nobody thought of: exit code 0, no warning or error in the log that the test did not announce,
no process and no unfinished capture left behind. settled() ends a test: wait for the capture to
close, get its file, take it apart (capcheck), balance the books, let capinfos and Wireshark's engine
read it.

SLUICED and SLUICE name the programs (default build/sluiced and build/sluice); SLUICE_TEST_SLOW
multiplies every time limit, for sanitizer builds; SLUICE_TEST_DIR is where roots are made (default
/var/tmp: a real disk where /tmp may be memory).
"""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import capcheck
import described
from sharkd import SHARKD

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SLUICED = os.environ.get("SLUICED", str(SOURCE / "build" / "sluiced"))
SLUICE = os.environ.get("SLUICE", str(SOURCE / "build" / "sluice"))
SLOW = float(os.environ.get("SLUICE_TEST_SLOW", "1"))
MUCH = 8 << 20  # bytes: Python takes 0.1 s to download as much as that
CPUS = sorted(os.sched_getaffinity(0))

# Lines that any machine may cause and that say nothing about a test.
LOG_ALLOWED = (r"hugepage",)
_TROUBLE = re.compile(r"^(warning|error): |Sanitizer|runtime error:|ASSERT|PANIC", re.M)


def scratch(prefix="sluice-e2e-"):
    base = os.environ.get("SLUICE_TEST_DIR", "/var/tmp")
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=base))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, check, seconds=20.0, every=0.02):
    """Poll check() until it returns something true, and return that."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds * SLOW:.0f} s in vain until {what}")
        time.sleep(every)


def run(*command, check=True, timeout=60, **options):
    """Run a program to its end; its output as text."""
    command = [str(word) for word in command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout * SLOW, check=False, **options
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def config_text(sections):
    """{"engine": {"rx_cpus": 0}} as an ini file."""
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for key, value in options.items():
            lines.append(f"{key} = {value}")
        lines.append("")
    return "\n".join(lines)


def replay(*paths, infinite=False, device="net_pcap0", **options):
    """Options of a port that replays pcap files, one queue each; as `poll = wanted` each capture
    begins with the first frame."""
    args = "".join(f",rx_pcap={path}" for path in paths) + (",infinite_rx=1" if infinite else "")
    return {"device": device + args, "rx_queues": len(paths), "poll": "wanted", **options}


def watch(interface, **options):
    """Options of a port that watches a kernel interface."""
    return {"interface": interface, **options}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Refused(AssertionError):
    """An answer that the test did not ask for."""

    def __init__(self, method, path, answer):
        super().__init__(f"{method} {path}: {answer!r}")
        self.answer = answer


class Api:
    """The native API over http.client. One connection a request."""

    def __init__(self, port, token=None, host="127.0.0.1", tls=None):
        """tls: the ssl.SSLContext of a daemon that has a certificate."""
        self.host, self.port, self.token, self.tls = host, port, token, tls
        self.url = f"{'https' if tls else 'http'}://{host}:{port}"

    def connection(self, timeout):
        if self.tls:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout, context=self.tls
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = self.connection(timeout * SLOW)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer = Answer(answer.status, answer.headers, answer.read())
            described.check(method, path, answer)
            return answer
        finally:
            connection.close()

    def ask(self, method, path, body=None, want=200):
        answer = self.request(method, path, body)
        if answer.status != want:
            raise Refused(method, path, answer)
        return answer.json() if answer.body else None

    def create(self, **spec):
        return self.ask("POST", "/api/v1/captures", spec, 201)

    def create_with_room(self, **spec):
        """Once the daemon has seen that there is room again."""

        def made():
            answer = self.request("POST", "/api/v1/captures", spec)
            if answer.status not in (201, 507):
                raise Refused("POST", "/api/v1/captures", answer)
            return answer.status == 201 and answer.json()

        return until("there is room", made, 5)

    def capture(self, id):
        return self.ask("GET", f"/api/v1/captures/{id}")

    def captures(self, query=""):
        return self.ask("GET", f"/api/v1/captures{query}")

    def stop(self, id):
        return self.ask("POST", f"/api/v1/captures/{id}/stop")

    def delete(self, id):
        self.ask("DELETE", f"/api/v1/captures/{id}", want=204)

    def ports(self):
        return {port["name"]: port for port in self.ask("GET", "/api/v1/ports")["ports"]}

    def counters(self, port="tap0"):
        return self.ports()[port]["counters"]

    def status(self):
        return self.ask("GET", "/api/v1/status")

    def download(self, id, path, query=""):
        """The capture's file at path; returns the answer without its body."""
        connection = self.connection(120 * SLOW)
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            connection.request("GET", f"/api/v1/captures/{id}/download{query}", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                refusal = Answer(answer.status, answer.headers, answer.read())
                raise Refused("GET", f"download{query}", refusal)
            with open(path, "wb") as f:
                shutil.copyfileobj(answer, f, 1 << 20)
            return Answer(answer.status, answer.headers, b"")
        finally:
            connection.close()

    def wait(self, id, what, check, seconds=30.0):
        """The capture once check(capture) holds."""

        def look():
            capture = self.capture(id)
            return capture if check(capture) else None

        return until(f"{id}: {what}", look, seconds)

    def wait_offered(self, id, count, seconds=60.0):
        return self.wait(
            id, f"{count} packets offered", lambda c: c["ledger"]["offered"] >= count, seconds
        )

    def wait_closed(self, id, seconds=60.0):
        return self.wait(id, "closed", lambda c: c["state"] in ("complete", "failed"), seconds)


class Daemon:
    """One sluiced. ports: {name: {option: value}}; sections: further options by section; tls: the
    certificates.Authority that has signed its certificate, if it has one."""

    def __init__(self, ports, root=None, wrap=(), tls=None, **sections):
        self.dir = scratch()
        self.root = pathlib.Path(root) if root else self.dir / "root"
        self.http = free_port()
        self.wrap = [str(word) for word in wrap]
        self.allowed = list(LOG_ALLOWED)
        self.unfinished_allowed = False
        self.env = {}
        self.process = None
        self.log_path = self.dir / "log"
        self.config = self.dir / "sluice.ini"
        options = {
            "api": {"listen": f"127.0.0.1:{self.http}"},
            "storage": {"root": self.root, "measure": "no", "spare": "no"},
            "engine": {
                "hugepages": "no",
                "block_memory": "64M",  # zeroing four times as much is most of a start
                "main_cpu": CPUS[0],
                "rx_cpus": CPUS[-1],
                "writer_cpus": CPUS[0],
            },
        }
        for name, section in sections.items():
            options.setdefault(name, {}).update(section)
        for name, section in ports.items():
            options[f"port {name}"] = section
        self.config.write_text(config_text(options), encoding="utf-8")
        self.ca = tls.path if tls else None
        self.api = Api(self.http, tls=tls.context() if tls else None)

    def launch(self, preexec=None):
        """Without waiting until it answers."""
        self.root.mkdir(parents=True, exist_ok=True)
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [*self.wrap, SLUICED, "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=preexec,
            cwd=self.dir,
            env={**os.environ, **self.env},
        )
        log.close()

    def start(self, preexec=None):
        self.launch(preexec)
        until("the daemon answers /healthz", self._healthy, 30)
        self.api.token = (self.root / "admin.token").read_text(encoding="ascii").strip()
        return self

    def _healthy(self):
        if self.process.poll() is not None:
            raise AssertionError(f"sluiced ended with {self.process.returncode}:\n{self.log()}")
        try:
            answer = self.api.request("GET", "/healthz", timeout=5)
        except OSError:
            return False
        return answer.status == 200 and answer.body.strip() == b"ok"

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def allow(self, *patterns):
        """Log lines that this test brings about on purpose."""
        self.allowed += patterns

    def trouble(self):
        return [
            line
            for line in self.log().splitlines()
            if _TROUBLE.search(line) and not any(re.search(p, line) for p in self.allowed)
        ]

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def has_uring(self):
        """Whether the kernel says that the daemon has an io_uring."""
        for name in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if "io_uring" in os.readlink(name):
                    return True
        return False

    def _gone(self):
        """No process of the daemon's session is left (its helper included)."""
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[3]) == self.pid:
                return False
        return True

    def kill(self):
        """As a crash does it."""
        self.process.kill()
        self.process.wait()
        until("the helper of a killed daemon is gone", self._gone, 10)

    def stop(self, code=0):
        """SIGTERM; the exit code must be code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            raise AssertionError(f"sluiced does not end on SIGTERM:\n{self.log()}") from None
        assert (
            self.process.returncode == code
        ), f"sluiced ended with {self.process.returncode}, not {code}:\n{self.log()}"
        until("all of the daemon's processes are gone", self._gone, 10)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is None:
            self.finish()
        else:
            self.discard()

    def finish(self):
        """Stop, check what is left, remove everything."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            elif self.process is not None:
                assert self.process.returncode in (
                    0,
                    -signal.SIGKILL,
                ), f"sluiced ended by itself with {self.process.returncode}:\n{self.log()}"
            trouble = self.trouble()
            assert not trouble, "unexpected lines in the log:\n" + "\n".join(trouble)
            if self.process is not None and self.process.returncode == 0:
                self._check_root()
        finally:
            self.discard()

    def discard(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def _check_root(self):
        if not self.unfinished_allowed:
            left = [p.name for p in (self.root / "captures").glob("*.open")]
            assert not left, f"unfinished captures after a clean stop: {left}"
        trash = list((self.root / "trash").glob("*"))
        assert not trash, f"rubbish left in trash/: {trash}"

    def sluice(self, *words, check=True, timeout=60, **options):
        """The command line client against this daemon."""
        return run(SLUICE, *words, check=check, timeout=timeout, env=self.client_env(), **options)

    def client_env(self):
        environment = {"SLUICE_URL": self.api.url, "SLUICE_TOKEN": self.api.token or ""}
        if self.ca:
            environment["SLUICE_CA"] = str(self.ca)
        return {**os.environ, **environment}

    def file(self, id):
        """What a closed capture has, taken apart: downloaded, or copied where that is much sooner."""
        path = self.dir / f"{id}.pcapng"
        local = self.root / "captures" / id / "capture.pcapng"
        if local.exists() and local.stat().st_size > MUCH:
            shutil.copyfile(local, path)
        else:
            self.api.download(id, path)
        return path, capcheck.read(path)

    def settled(self, id, readers=True):
        """Wait until the capture is closed; books, structure and readers; (capture, Pcapng)."""
        capture = self.api.wait_closed(id)
        path, file = self.file(id)
        check_residuals(capcheck.books(capture, file), capture)
        if readers:
            assert capinfos_count(path) == len(file)
            assert tshark_lengths(path) == list(file.origlen)
        self.sluice("balance", id)
        path.unlink()
        return capture, file

    def settle_ports(self, moving=0):
        """Port books, on a quiet wire; or of a source that never stops, whose device is asked ten
        times a second: moving is how many packets it may have brought since."""

        def balanced():
            return not any(
                abs(v) > moving
                for p in self.api.ports().values()
                for v in capcheck.port_books(p).values()
            )

        try:
            until("port books balance", balanced, 5)
        except AssertionError:
            for port in self.api.ports().values():
                check_residuals(capcheck.port_books(port), port)


def check_residuals(residuals, about):
    wrong = [f"{value:>12}  {name}" for name, value in residuals.items() if value]
    assert not wrong, (
        "the books do not balance:\n" + "\n".join(wrong) + f"\n{json.dumps(about, indent=1)}"
    )


def basic(name, secret):
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


# Outside readers: exit code 0 and nothing on standard error but tshark's word about root.

_ROOT_WORD = re.compile(
    r'^Running as user "root" and group "root"\. This could be dangerous\.\n', re.M
)


def quiet(*command, **options):
    done = run(*command, **options)
    left = _ROOT_WORD.sub("", done.stderr)
    assert left == "", f"{' '.join(map(str, command))} complains: {left}"
    return done.stdout


def capinfos_count(path):
    table = quiet("capinfos", "-M", "-c", "-T", "-r", path)
    return int(table.split("\t")[1])


def tshark_lengths(path):
    """Original lengths of all packets, by Wireshark."""
    return SHARKD.lengths(path, 120 * SLOW)


def tcpdump_select(path, expression, out):
    """Packets of a pcap file that tcpdump selects, written to out."""
    run("tcpdump", "-n", "-r", path, "-w", out, expression)
    return out
