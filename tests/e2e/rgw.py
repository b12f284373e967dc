#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A real Ceph RADOS Gateway on loopback, that forgets everything: one monitor, one OSD in memory, one
gateway; no manager, no cephx.

  rgw.py DIR [PORT]    starts it, says `ready PORT` (15 to 20 s later), ends it when its input ends

Gateway is that program as a child: it ends with the test run however that ends, because its input
then does, and the three daemons end with it (PR_SET_PDEATHSIG).
"""
import contextlib
import ctypes
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid

KEY, SECRET = "AKCAPTURE", "SKCAPTURESECRET"
PROGRAMS = ("monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "radosgw")
START_SECONDS = 120

CONFIG = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
ms async op threads = 1
run dir = {dir}/run
log file = {dir}/log/$name.log
admin socket = {dir}/run/$name.asok
mon data = {dir}/mon
mon allow pool size one = true
mon warn on insecure global id reclaim allowed = false
mon warn on pool no redundancy = false
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd op num shards = 2
osd op num threads per shard = 1
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 16
rgw dns name = localhost
rgw enable usage log = false
rgw gc max objs = 4
rgw lc max objs = 1
rgw num rados handles = 1
"""


def missing():
    """The programs that are not installed here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class _Cluster:
    """The three daemons, as children of this process."""

    def __init__(self, place, port):
        self.dir, self.port, self.daemons = pathlib.Path(place), port, []
        for name in ("mon", "osd", "run", "log"):
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        self.config = self.dir / "ceph.conf"
        self.fsid = str(uuid.uuid4())
        self.mon2, self.mon1 = _free_port(), _free_port()
        self.config.write_text(
            CONFIG.format(fsid=self.fsid, mon2=self.mon2, mon1=self.mon1, dir=self.dir, port=port),
            encoding="ascii",
        )

    def run(self, program, *words, check=True):
        done = subprocess.run(
            [program, "-c", str(self.config), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{program} {words}: {done.returncode} {done.stderr[-2000:]}")
        return done.stdout.strip()

    def spawn(self, program, *words):
        libc = ctypes.CDLL(None)
        with open(self.dir / "log" / f"{program}.out", "ab") as out:
            self.daemons.append(
                subprocess.Popen(
                    [program, "-c", str(self.config), *map(str, words), "-f"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),
                )
            )

    def start(self):
        address = f"[v2:127.0.0.1:{self.mon2},v1:127.0.0.1:{self.mon1}]"
        monmap = self.dir / "monmap"
        subprocess.run(
            ["monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", address, str(monmap)],
            check=True,
            capture_output=True,
        )
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self.spawn("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        number = self.run("ceph", "--connect-timeout", 30, "osd", "new", osd)
        self.run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd)
        self.spawn("ceph-osd", "-i", number)
        # Waits by itself until the OSD serves the pools that it makes.
        self.run(
            "radosgw-admin",
            "user",
            "create",
            "--uid=sluice",
            "--display-name=sluice",
            f"--access-key={KEY}",
            f"--secret={SECRET}",
        )
        self.spawn("radosgw", "-n", "client.rgw")
        self._until_it_answers()

    def _until_it_answers(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5).close()
                return
            self.check()
            time.sleep(0.1)
        raise RuntimeError("the gateway does not answer")

    def check(self):
        for daemon in self.daemons:
            if daemon.poll() is not None:
                raise RuntimeError(f"{daemon.args[0]} ended with {daemon.returncode}")

    def stop(self):
        """Nothing that they hold is worth a clean end."""
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait()


def main():
    place, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else _free_port()
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cluster = _Cluster(place, port)
    try:
        cluster.start()
        print("ready", port, flush=True)
        sys.stdin.read()
    except Exception as error:
        print("failed", error, flush=True)
        raise
    finally:
        cluster.stop()
    return 0


class Gateway:
    """The program above as a child; begins at once, wait() until it can be used."""

    key, secret, region = KEY, SECRET, "us-east-1"

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sluice-rgw-"))
        with open(self.dir / "err", "wb") as err:
            self.process = subprocess.Popen(
                ["nice", "-n", "5", sys.executable, __file__, str(self.dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )
        self.port = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def wait(self):
        if self.port is None:
            ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
            line = self.process.stdout.readline().decode() if ready else "silence"
            if not line.startswith("ready "):
                error = (self.dir / "err").read_text(encoding="utf-8", errors="replace")[-2000:]
                self.close()
                raise RuntimeError(f"the gateway does not start: {line}{error}")
            self.port = int(line.split()[1])
        return self

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its children are told by the kernel
            self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
