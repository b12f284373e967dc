# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The machine that is measured on: what it is, what is set up on it, and how it is left.

Machine is a context. Inside it there are hugepages, a hugetlbfs of its own, and directories on the disk
and in memory; at its end, whatever the reason, all processes that were started through it are gone and
everything is as it was.
"""
import contextlib
import datetime
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time

HUGE_BYTES = 2 << 20
HUGE_SYSFS = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


class Trouble(Exception):
    """The run cannot go on; says why."""


def meminfo(key):
    found = re.search(rf"^{key}:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def read(path, default=""):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return default


class Process:
    """A child in a session of its own, with its output in a file."""

    def __init__(self, machine, command, log, env=None, cpu=None):
        self.command = [str(word) for word in command]
        self.log_path = pathlib.Path(log)
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
                preexec_fn=(lambda: os.sched_setaffinity(0, {cpu})) if cpu is not None else None,
            )
        self.machine = machine
        machine.processes.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def log(self):
        return read(self.log_path)

    def cpu_seconds(self):
        """What its threads have run so far, by the scheduler's clock; 0 when it is gone."""
        spent = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, IndexError):
                spent += int(task.read_text().split()[0])
        return spent / 1e9

    def memory_bytes(self):
        found = re.search(r"VmHWM:\s+(\d+) kB", read(f"/proc/{self.pid}/status"))
        return int(found[1]) * 1024 if found else 0

    def send(self, number):
        if self.running():
            self.popen.send_signal(number)

    def end(self, number=signal.SIGINT, seconds=20):
        """Ask it to end, insist if it does not; its exit code."""
        self.send(number)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self.machine.forget(self)
        return self.popen.returncode

    def kill(self):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()


class Machine:
    """cpus: of the process' affinity the first for writers, generators and main, the last for RX."""

    def __init__(self, directory, hugepages=1024, memory_dir="/dev/shm"):
        self.base, self.memory_base = pathlib.Path(directory), pathlib.Path(memory_dir)
        self.wanted_pages = hugepages
        self.processes = []
        self.undo = contextlib.ExitStack()
        cpus = sorted(os.sched_getaffinity(0))
        self.writer_cpu, self.rx_cpu = cpus[0], cpus[-1]
        self.n_cpus = len(cpus)

    def __enter__(self):
        if os.geteuid() != 0:
            raise Trouble("root is needed: for hugepages, network devices and priorities")
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)
        try:
            self._directories()
            self._hugepages()
            self._hugetlbfs()
        except BaseException:
            self.undo.close()
            raise
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in list(self.processes):
            process.kill()
        self.undo.close()

    @staticmethod
    def _interrupted(number, _):
        raise KeyboardInterrupt(signal.Signals(number).name)

    def _directories(self):
        self.disk = pathlib.Path(tempfile.mkdtemp(prefix="sluice-perf-", dir=self.base))
        self.undo.callback(shutil.rmtree, self.disk, ignore_errors=True)
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="sluice-perf-", dir=self.memory_base))
        self.undo.callback(shutil.rmtree, self.memory, ignore_errors=True)

    def _hugepages(self):
        knob = HUGE_SYSFS / "nr_hugepages"
        self.pages_before = int(read(knob, "0"))
        if self.pages_before < self.wanted_pages:
            self.undo.callback(knob.write_text, str(self.pages_before))
            knob.write_text(str(self.wanted_pages))
        self.pages = int(read(knob, "0"))
        if self.pages < self.wanted_pages:
            raise Trouble(
                f"{self.wanted_pages} hugepages of 2 MiB are wanted and only {self.pages} can be "
                "had: free memory, or say --hugepages N"
            )

    def _hugetlbfs(self):
        self.huge_dir = self.disk / "huge"
        self.huge_dir.mkdir()
        command = ["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", str(self.huge_dir)]
        subprocess.run(command, check=True)
        self.undo.callback(
            subprocess.run, ["umount", "-l", str(self.huge_dir)], check=False, capture_output=True
        )

    def forget(self, process):
        if process in self.processes:
            self.processes.remove(process)

    def spawn(self, command, name, **options):
        return Process(self, command, self.memory / f"{name}.log", **options)

    def output(self, command, timeout=300):
        """A short helper's standard output; Trouble when it fails."""
        command = [str(word) for word in command]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode != 0:
            raise Trouble(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def settle(self):
        """Between trials: what one left unwritten must not be paid for by the next."""
        os.sync()

    def free_bytes(self, sink):
        stat = os.statvfs(self.disk if sink == "disk" else self.memory)
        free = stat.f_bavail * stat.f_frsize
        # Of the disk the daemon leaves a twentieth alone.
        left_alone = stat.f_blocks * stat.f_frsize // 20
        return free - left_alone if sink == "disk" else min(free, meminfo("MemAvailable"))

    def space(self, sink, needed_bytes):
        free = self.free_bytes(sink)
        if free < needed_bytes:
            where = self.base if sink == "disk" else self.memory_base
            raise Trouble(
                f"{needed_bytes / 1e9:.1f} GB are needed for the {sink} trials in {where} and only "
                f"{free / 1e9:.1f} GB are free: choose another place with --dir, or fewer cases "
                "with --only"
            )

    def stolen_seconds(self):
        """What the hypervisor took away, all CPUs."""
        fields = read("/proc/stat").splitlines()[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0

    def facts(self):
        cpu = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo"))
        mhz = re.search(r"cpu MHz\s*:\s*([\d.]+)", read("/proc/cpuinfo"))
        release = re.search(r'PRETTY_NAME="(.*)"', read("/etc/os-release"))
        mount = self.output(["findmnt", "-n", "-o", "SOURCE,FSTYPE", "-T", self.base]).split()
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "cpu": cpu[1] if cpu else platform.processor(),
            "mhz": float(mhz[1]) if mhz else None,
            "cpus": self.n_cpus,
            "memory_bytes": meminfo("MemTotal"),
            "kernel": platform.release(),
            "system": release[1] if release else platform.system(),
            "virtual": bool(re.search(r"^flags.*\bhypervisor\b", read("/proc/cpuinfo"), re.M)),
            "disk": {"source": mount[0], "file_system": mount[-1]},
            "hugepages": self.pages,
            "rx_cpu": self.rx_cpu,
            "writer_cpu": self.writer_cpu,
        }


def until(what, check, seconds=20.0, every=0.02):
    """Poll check() until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Trouble(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(every)
