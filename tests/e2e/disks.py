# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Disks that fill up, fail and hang, made below the file system, where the daemon cannot tell them from
hardware:

  honest   ext4 on a small file: ENOSPC as it should be
  faulty   ext4 on a file of nbdfuse over nbdkit, whose plugin faulty_disk.py obeys rules: errors of
           reads, writes and flushes, anywhere or at chosen places, delays, and not answering at all; a thin
           pool, so that df promises what is not there. (A sparse file on a tmpfs that is too small for it
           will not do: the kernel's loop device takes a short write for a whole one.)

Every disk is a context; whatever happened inside, nothing is mounted, looped or running afterwards.
"""
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import time

import harness
from harness import run, until
from powercut import is_free

PLUGIN = pathlib.Path(__file__).resolve().parent / "faulty_disk.py"
FS_IOC_FIEMAP = 0xC020660B


def able(*programs):
    """Why such disks cannot be made here, or None."""
    if os.geteuid() != 0:
        return "needs root to mount"
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if "nbdfuse" in programs and not os.path.exists("/dev/fuse"):
        return "needs /dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    return None


class Disk:
    """A file system at .path; undo runs backwards what was done, each step whatever the others did."""

    def __init__(self):
        self.undo = contextlib.ExitStack()
        self.base = harness.scratch("sluice-disk-")
        self.undo.callback(shutil.rmtree, self.base, ignore_errors=True)
        self.path = self.base / "mount"
        self.path.mkdir()
        self.device = None
        self.ballast = self.path / "ballast"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.undo.close()

    def _loop(self, file, direct=False):
        options = ["--direct-io=on"] if direct else []
        done = run("losetup", "--find", "--show", *options, file)
        self.device = done.stdout.strip()
        self.undo.callback(run, "losetup", "-d", self.device, check=False)

    def _format(self, *options):
        run("mkfs.ext4", "-q", "-m", "0", *options, self.device)

    def _mount(self, options="noatime"):
        run("mount", "-t", "ext4", "-o", options, self.device, self.path)
        self.undo.callback(self._umount)

    def mount_anew(self, options="noatime"):
        """What ext4 gave up, as after the repair that an administrator makes; nobody may use it."""
        self._umount()
        until("nobody else has it mounted", lambda: is_free(self.device), 60)
        done = run("e2fsck", "-f", "-p", self.device, check=False)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        run("mount", "-t", "ext4", "-o", options, self.device, self.path)

    def _umount(self):
        """A daemon that was just killed may still have files open."""
        for _ in range(100):
            if run("umount", self.path, check=False).returncode == 0:
                return
            time.sleep(0.05)
        run("umount", "--lazy", self.path)

    def free(self):
        space = os.statvfs(self.path)
        return space.f_bavail * space.f_frsize

    def fill(self, leave=0):
        """Take all but leave bytes with a file, whoever else is taking some; .release() gives it back."""
        size = self.ballast.stat().st_size if self.ballast.exists() else 0
        with open(self.ballast, "ab") as f:
            more = self.free() - leave
            while more >= 4096:
                try:
                    os.posix_fallocate(f.fileno(), size, more)
                    size += more
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    more //= 2
                more = min(more, self.free() - leave)

    def release(self):
        self.ballast.unlink()

    def extents(self, file):
        """Where on the device a file's bytes are: [[from, to], ...]."""
        count, found, start = 512, [], 0
        with open(file, "rb") as f:
            while True:
                head = struct.pack("=QQLLLL", start, 2**63, 0, 0, count, 0)
                buffer = bytearray(head + bytes(56 * count))
                fcntl.ioctl(f.fileno(), FS_IOC_FIEMAP, buffer)
                n = struct.unpack_from("=L", buffer, 20)[0]
                for i in range(n):
                    logical, physical, length = struct.unpack_from("=QQQ", buffer, 32 + 56 * i)
                    found.append([physical, physical + length])
                    start = logical + length
                if n < count:
                    return found

    def read_only(self):
        """As ext4 becomes after an error that it cannot live with, open files or not."""
        run("mount", "-o", "remount,abort", self.path)


class HonestDisk(Disk):
    def __init__(self, size, *options):
        super().__init__()
        with contextlib.ExitStack() as failed:
            failed.push(self.undo.__exit__)
            image = self.base / "image"
            with open(image, "wb") as f:
                f.truncate(size)
            self._loop(image)
            self._format(*options)
            self._mount()
            failed.pop_all()


class FaultyDisk(Disk):
    def __init__(self, size, *options):
        super().__init__()
        with contextlib.ExitStack() as failed:
            failed.push(self.undo.__exit__)
            self.rules_file = self.base / "rules"
            self.rules()
            self._serve(size)
            self._loop(self.file, direct=True)
            self._format("-J", "size=4", "-E", "lazy_itable_init=1", *options)
            self._mount()
            self.undo.callback(self.rules)  # it must answer to be unmounted
            failed.pop_all()

    def _serve(self, size):
        image = self.base / "image"
        with open(image, "wb") as f:
            f.truncate(size)
        self.file = self.base / "disk"
        self.file.touch()
        log = open(self.base / "log", "wb")
        self.server = subprocess.Popen(
            ["nbdfuse", self.file, "--command", "nbdkit", "-s", "--exit-with-parent", "python",
             PLUGIN, f"file={image}", f"size={size}", f"rules_file={self.rules_file}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.undo.callback(self._serve_end)
        until("the faulty disk is there", lambda: self.file.stat().st_size == size, 20)

    def _serve_end(self):
        run("fusermount3", "-u", "-z", self.file, check=False)
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()

    @contextlib.contextmanager
    def failing(self, **rules):
        """The rules hold inside."""
        self.rules(**rules)
        try:
            yield
        finally:
            self.rules()

    def rules(self, **rules):
        """What is in force from now on; nothing: it works."""
        new = self.rules_file.with_suffix(".new")
        new.write_text(json.dumps(rules), encoding="ascii")
        self.rules_file.with_suffix(".failed").unlink(missing_ok=True)
        new.rename(self.rules_file)

    def failed_at(self):
        """When the first request failed since the rules were made, as time.monotonic(); None: none has."""
        with contextlib.suppress(OSError, ValueError):
            return float(self.rules_file.with_suffix(".failed").read_text(encoding="ascii"))
        return None
