# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""This machine with all that is written to it forgotten in the end: an overlay over /, in memory."""
import os
import pathlib
import subprocess

import pytest

import harness

SIZE = "1g"


class Machine:
    def __init__(self):
        if os.geteuid() != 0:
            pytest.skip("needs root to mount")
        self.place = harness.scratch("sluice-machine-")
        self.root = self.place / "root"
        self.mounts = []
        self._mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", self.place)
        upper, work = self.place / "upper", self.place / "work"
        for path in (self.root, upper, work):
            path.mkdir()
        try:
            self._mount(
                "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}",
                "overlay", self.root,
            )  # fmt: skip
            self._mount("-t", "proc", "proc", self.root / "proc")
            self._mount("--bind", "/dev", self.root / "dev")
            self._mount("--bind", "/sys", self.root / "sys")
            self._mount("-t", "tmpfs", "tmpfs", self.root / "run")
        except AssertionError as error:
            self.close()
            pytest.skip(f"there are no overlays here: {error}")
        # No service of this machine is started or stopped by what happens in there.
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
        # It may be installed out here.
        self.run("dpkg", "--purge", "sluice")
        self.run("rm", "-rf", "/var/lib/sluice", "/etc/sluice")

    def _mount(self, *words):
        harness.run("mount", *words)
        self.mounts.append(words[-1])

    def path(self, name):
        return self.root / name.lstrip("/")

    def command(self, *words):
        return ["chroot", str(self.root), *map(str, words)]

    def run(self, *words, **options):
        return harness.run(*self.command(*words), **options)

    def dpkg(self, *words):
        """What dpkg, and the package's scripts, said."""
        done = self.run(
            "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *words, timeout=120
        )
        return done.stdout + done.stderr

    def take(self, path):
        """A file from outside."""
        there = self.path(f"/tmp/{pathlib.Path(path).name}")
        there.write_bytes(pathlib.Path(path).read_bytes())
        return f"/tmp/{there.name}"

    def start(self, *words, log):
        with open(log, "ab") as out:
            return subprocess.Popen(
                self.command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def close(self):
        for place in reversed(self.mounts):
            harness.run("umount", "-l", place)
        self.place.rmdir()
