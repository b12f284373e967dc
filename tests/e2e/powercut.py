# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""An ext4 file system whose power can be cut: nbdkit (powercut_plugin.py) -> nbdfuse -> loop -> ext4."""
import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import time

from harness import run, scratch, until

PLUGIN = pathlib.Path(__file__).with_name("powercut_plugin.py")
NEEDED = ("nbdkit", "nbdfuse", "losetup", "mkfs.ext4", "fusermount3")


def able():
    """None, or why it cannot be done here."""
    if os.geteuid() != 0:
        return "needs root to mount"
    for program in NEEDED:
        if shutil.which(program) is None:
            return f"needs {program}"
    return None if os.path.exists("/dev/fuse") else "needs /dev/fuse"


def is_free(device):
    """Not mounted anywhere: who makes a mount namespace meanwhile has all mounts in it, too."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_EXCL))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


class PowerCut:
    """With this disk: format(), mount() it at .place; cut() and restore() the power at will."""

    def __init__(self, size):
        self.size = size
        self.dir = scratch("sluice-power-")
        self.place = self.dir / "mnt"
        self.loop = None
        self.processes = []
        self.mounted = False

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for name in ("mnt", "control", "fuse"):
                (self.dir / name).mkdir()
            socket = self.dir / "socket"
            self._spawn(
                "nbdkit", "-f", "-U", socket, "python", PLUGIN,
                f"size={self.size}", f"control={self.dir}/control",
            )  # fmt: skip
            until("nbdkit listens", socket.exists)
            self._spawn("nbdfuse", self.dir / "fuse", f"nbd+unix:///?socket={socket}")
            until("nbdfuse has its file", (self.dir / "fuse" / "nbd").exists)
            undo.pop_all()
        return self

    def _spawn(self, *words):
        log = open(self.dir / "log", "ab")
        self.processes.append(
            subprocess.Popen(
                [str(w) for w in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        )
        log.close()

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.mounted:
            run("umount", "-l", self.place, check=False)
        self._detach()
        run("fusermount3", "-u", "-z", self.dir / "fuse", check=False)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def _attach(self):
        self.loop = run("losetup", "-f", "--show", self.dir / "fuse" / "nbd").stdout.strip()

    def _detach(self):
        if self.loop is not None:
            run("losetup", "-d", self.loop, check=False)
        self.loop = None

    def format(self):
        self._attach()
        run("mkfs.ext4", "-q", "-m", "0", "-N", "1024", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
            "-J", "size=8", self.loop)  # fmt: skip
        self._detach()

    def mount(self):
        self._attach()
        run("mount", "-o", "nodiscard", self.loop, self.place)
        self.mounted = True

    def unmount(self):
        until(
            "nothing holds the file system",
            lambda: run("umount", self.place, check=False).returncode == 0,
        )
        self.mounted = False
        until("nobody else has it mounted", lambda: is_free(self.loop), 60)
        self._detach()

    def _tell(self, text):
        answer = self.dir / "control" / "answer"
        answer.unlink(missing_ok=True)
        command = self.dir / "control" / "command"
        command.with_suffix(".new").write_text(text, encoding="ascii")
        command.with_suffix(".new").rename(command)

    def _answer(self, seconds=20):
        """Some request must come by for the disk to look."""
        path = self.dir / "control" / "answer"
        deadline = time.monotonic() + seconds
        while not path.exists():
            with contextlib.suppress(OSError):
                fd = os.open(self.dir / "fuse" / "nbd", os.O_RDONLY | os.O_DIRECT)
                try:
                    os.preadv(fd, [self._page], 0)
                finally:
                    os.close(fd)
            if time.monotonic() > deadline and not path.exists():
                raise AssertionError("the disk does not answer")
            time.sleep(0.002)
        return path.read_text(encoding="ascii").split()

    @property
    def _page(self):
        import mmap

        if not hasattr(self, "_buffer"):
            self._buffer = mmap.mmap(-1, 4096)
        return self._buffer

    def cut(self, seed):
        """(sectors kept, sectors lost) of what was not flushed."""
        self._tell(f"cut {seed}")
        _, kept, lost = self._answer()
        return int(kept), int(lost)

    def cut_after(self, seed, requests):
        """With the write or flush that is so many further on; was_cut() tells."""
        self._tell(f"cut {seed} {requests}")
        assert self._answer() == ["armed"]

    def was_cut(self):
        return (self.dir / "control" / "answer").read_text(encoding="ascii").startswith("cut")

    def restore(self):
        """The old mount goes, as its machine would; the power comes back, and what is left is mounted."""
        self.unmount()
        self._tell("power")
        assert self._answer() == ["on"]
        self.mount()
