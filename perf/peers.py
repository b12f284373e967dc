# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Who is measured: Sluice, its peers, and the ceilings of source and disk.

Each is a function of (bench, case) that runs one trial and returns what it found: packets, bytes and
seconds, of the files where there are any. Recording time is from the start of the capture (for peers: from
when their file is there) until everything has reached the disk.
"""
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import time

from machine import Trouble, until
from sluice import Daemon, file_breaks, law_breaks, seconds_of, wall_clock

POLL_SECONDS = 0.02
# A paced trial may end so far behind its schedule: the start of the device is in it.
BEHIND_SECONDS_MAX = 0.02
SPARE_BYTES = 4 << 30
VETH_SETTLE_SECONDS = 0.5  # from the open file to the open socket, for the kernel's tools
FIO_GBPS_MAX = 10  # it fills no file beyond that


# Sluice ---------------------------------------------------------------------------------------


def port_of(bench, case):
    if case.source == "veth":
        return {"interface": bench.veth.inner}
    port = {"device": bench.vdev(case), "poll": "wanted"}
    if bench.rate(case):
        port["rate"] = bench.rate(case)
    return port


def sluice(bench, case):
    root = bench.directory(case.sink) / "root"
    with Daemon(bench.machine, bench.sluiced, root, port_of(bench, case), **case.config) as daemon:
        bench.storage_known(daemon, case)
        return sluice_trial(bench, case, daemon)


def sluice_trial(bench, case, daemon):
    spec = {"output": {"type": "none" if case.sink == "null" else "file"}, **case.spec}
    if case.sink != "null":
        spec["limits"] = {"file_bytes": bench.cap(case)}
    status_before, cpu_before = daemon.status(), daemon.process.cpu_seconds()
    capture = daemon.create(**spec)
    traffic = bench.traffic_start(case)
    ended = wait_capture(daemon, capture, case.seconds) if traffic is None else traffic.wait()
    _, stop_seconds = daemon.stop(capture)
    capture = daemon.wait_closed(capture)
    done = time.time()
    status, cpu = daemon.status(), daemon.process.cpu_seconds()
    result = {
        "packets": capture["ledger"]["written"],
        "seconds": seconds_of(capture),
        "cpu_seconds": cpu - cpu_before,
        "stop_seconds": stop_seconds,
        "memory_bytes": daemon.process.memory_bytes(),
        "ledger": capture["ledger"],
        "offered": capture["ledger"]["offered"],
        "dropped": sum(capture["ledger"]["dropped"].values()),
        "ended_by": capture["reason"],
    }
    rate = bench.rate(case)
    if rate and case.source != "veth":
        # What the schedule wanted and did not get by the end: as time.
        behind = result["seconds"] - result["offered"] / rate
        result["behind_ms"] = round(behind * 1e3, 3)
        result["kept_up"] = behind < BEHIND_SECONDS_MAX
        result["rate"] = rate
    result["gaps"] = gaps_between(status_before, status)
    before, after = daemon.useful_cycles(status_before), daemon.useful_cycles(status)
    if capture["ledger"]["offered"]:
        result["cycles_per_packet"] = (after["rx"] - before["rx"]) / capture["ledger"]["offered"]
    port = None if case.source == "veth" else until_settled(daemon)
    result["breaks"] = law_breaks(capture, port)
    if traffic is not None:
        result["sent"] = ended
        if capture["ledger"]["offered"] < ended:
            result["lost"] = ended - capture["ledger"]["written"]
    if case.sink != "null":
        path = daemon.file(capture)
        check = bench.check([path], case)
        result.update(from_check(check, done - wall_clock(capture["started_at"])))
        result["breaks"] += file_breaks(capture, check, case.sparse)
        bench.cross_check(path, case, check)
    daemon.delete(capture)
    return result


def gaps_between(before, after):
    """Times without a poll: a VM's stolen time looks like that."""
    lists = [[core["gaps"] for core in status["lcores"] if core["role"] == "rx"]
             for status in (before, after)]  # fmt: skip
    return {
        "count": sum(b["count"] - a["count"] for a, b in zip(*lists)),
        "longest_ms": max(b["longest_ns"] for b in lists[1]) / 1e6,
        "last": [gap for b in lists[1] for gap in b["last"]],
    }


def wait_capture(daemon, capture, seconds):
    """Let it run, unless a limit ends it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        if daemon.capture(capture)["state"] not in ("starting", "running"):
            break


def until_settled(daemon):
    """The port, once its counters have stood still: the device is asked ten times a second."""

    def settled():
        port = daemon.port()
        c = port["counters"]
        lost = c["nic_missed"] + c["nic_errors"] + c["nic_nombuf"]
        return port if c["offered"] == c["rx"] + lost else None

    try:
        return until("the port's counters stand still", settled, 3)
    except Trouble:
        return daemon.port()


def from_check(check, seconds):
    return {
        "packets": check["packets"],
        "bytes": check["bytes"],
        "file_bytes": check["file_bytes"],
        "seconds": seconds,
        "check": check,
    }


# Ceilings -------------------------------------------------------------------------------------


def testpmd(bench, case, name, huge, lcores, extra=(), eal=()):
    m = bench.machine
    memory = ["--in-memory"] if not huge else ["--huge-dir", m.huge_dir]
    return m.spawn(
        ["dpdk-testpmd", f"--lcores={lcores}", "--no-pci", *memory, "-m", "512", *eal,
         f"--file-prefix={name}", "--vdev", bench.vdev(case), "--", "--forward-mode=rxonly",
         "--total-num-mbufs=16384", "--burst=64", "--stats-period=1", "--auto-start",
         "--no-lsc-interrupt", *extra],
        name,
    )  # fmt: skip


def rates_of(log):
    return [int(n) for n in re.findall(r"Rx-pps:\s+(\d+)", log)]


def bare(bench, case):
    """The source with nobody to give its packets to."""
    m = bench.machine
    process = testpmd(bench, case, "bare", False, f"0@{m.writer_cpu},1@{m.rx_cpu}")
    try:
        until("testpmd counts", lambda: rates_of(process.log()) or not process.running(), 30)
        time.sleep(case.seconds)
        rates = [rate for rate in rates_of(process.log()) if rate > 0]
    finally:
        process.end()
    if not rates:
        raise Trouble(f"testpmd counted nothing:\n{process.log()[-2000:]}")
    # The first second is not a whole one.
    pps = statistics.median(rates[1:] or rates)
    return {"packets": int(pps * case.seconds), "seconds": case.seconds, "breaks": []}


def raw(strategy):
    def trial(bench, case):
        path = bench.directory(case.sink) / f"raw-{strategy}"
        size = min(bench.cap(case), SPARE_BYTES if strategy == "spare" else 1 << 50)
        words = ["--strategy", strategy, "--seconds", case.seconds, "--max", size, path]
        found = json.loads(bench.tool("perf-write", *words))
        if strategy == "fresh":
            path.unlink()
        return {
            "packets": 0,
            "file_bytes": found["bytes"],
            "seconds": found["seconds"],
            "cpu_seconds": found["cpu_seconds"],
            "stall_max_ms": found["stall_max_ms"],
            "breaks": [],
        }

    trial.__doc__ = f"The disk with nothing to write but the same bytes again, {strategy} file."
    return trial


def fio(bench, case):
    path = bench.directory(case.sink) / "fio"
    size = min(bench.cap(case), int(FIO_GBPS_MAX * 1e9 * case.seconds))
    found = json.loads(
        bench.machine.output(
            ["fio", "--name=w", "--rw=write", "--bs=4M", "--direct=1", "--ioengine=io_uring",
             "--iodepth=32", f"--size={size}", "--end_fsync=1", "--scramble_buffers=0",
             f"--runtime={case.seconds}", f"--filename={path}", "--output-format=json"],
        )
    )  # fmt: skip
    path.unlink()
    write = found["jobs"][0]["write"]
    return {
        "packets": 0,
        "file_bytes": write["io_bytes"],
        "seconds": max(write["runtime"], 1) / 1000,
        "breaks": [],
    }


# Peers ----------------------------------------------------------------------------------------


def recorded(bench, case, process, directory, others=()):
    """Run a recorder that was started until its time or its space is over; what its files hold."""
    until(
        f"{process.command[0]} opens a file",
        lambda: any(directory.iterdir()) or not process.running(), 30,
    )  # fmt: skip
    began = time.time()
    if case.source == "veth":
        time.sleep(VETH_SETTLE_SECONDS)
    if not process.running():
        raise Trouble(f"{' '.join(process.command)} ended:\n{process.log()[-3000:]}")
    everybody = [process, *others]
    cpu = sum(p.cpu_seconds() for p in everybody)
    traffic = bench.traffic_start(case)
    deadline, cap = time.monotonic() + case.seconds, bench.cap(case)
    sent = traffic.wait() if traffic is not None else None
    if traffic is not None:
        time.sleep(0.5)
    while traffic is None and time.monotonic() < deadline and process.running():
        time.sleep(POLL_SECONDS)
        if sum(p.stat().st_size for p in directory.glob("*")) > cap:
            break
    memory = process.memory_bytes()
    cpu = sum(p.cpu_seconds() for p in everybody) - cpu
    process.end(signal.SIGINT)
    paths = sorted(p for p in directory.glob("*") if p.is_file())
    written = max(p.stat().st_mtime for p in paths)
    synced = time.monotonic()
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    done = written + time.monotonic() - synced
    check = bench.check(paths, case, strict=False)
    result = from_check(check, done - began)
    result.update(cpu_seconds=cpu, memory_bytes=memory, breaks=[])
    if check["broken"]:
        result["breaks"].append(f"{check['broken']} packets with wrong bytes")
    if sent is not None:
        result["sent"], result["lost"] = sent, sent - check["numbered"]
    return result


def fresh(bench, case, name):
    directory = bench.directory(case.sink) / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def dpdk_dumpcap(bench, case):
    """It copies in the process that owns the port, so both count. The ids of its lcores and the other's
    must differ, and the pools' operations have the same number in both only with the preload."""
    m = bench.machine
    directory = fresh(bench, case, "dpdk-dumpcap")
    name = f"perf{os.getpid()}"
    primary = testpmd(
        bench, case, name, True, f"100@{m.writer_cpu},101@{m.rx_cpu}", eal=["--main-lcore=100"]
    )
    try:
        until("testpmd counts", lambda: rates_of(primary.log()) or not primary.running(), 30)
        if not primary.running():
            raise Trouble(f"testpmd ended:\n{primary.log()[-3000:]}")
        dumpcap = m.spawn(
            ["dpdk-dumpcap", f"--file-prefix={name}", "-i", bench.vdev(case).split(",")[0],
             "-N", "65536", "-q", "-w", directory / "x.pcapng"],
            "dpdk-dumpcap",
            env={"LD_PRELOAD": "librte_mempool_dpaa.so.23"},
            cpu=m.writer_cpu,
        )  # fmt: skip
        try:
            return recorded(bench, case, dumpcap, directory, [primary])
        finally:
            dumpcap.end()
    finally:
        primary.end()
        shutil.rmtree(f"/var/run/dpdk/{name}", ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


def from_command(command):
    """A peer of --peer NAME=COMMAND: {vdev} {dir} {seconds} {size} {lcores} {rx_cpu} {writer_cpu}
    {prefix} are filled in, the files in {dir} are its recording, SIGINT ends it."""

    def trial(bench, case):
        m = bench.machine
        directory = fresh(bench, case, "peer")
        values = {
            "vdev": bench.vdev(case),
            "dir": directory,
            "seconds": case.seconds,
            "size": case.size,
            "lcores": f"0@{m.writer_cpu},1@{m.rx_cpu},2@{m.writer_cpu}",
            "rx_cpu": m.rx_cpu,
            "writer_cpu": m.writer_cpu,
            "prefix": f"peer{os.getpid()}",
        }
        process = m.spawn(shlex.split(command.format(**values)), "peer")
        try:
            return recorded(bench, case, process, directory)
        finally:
            process.end()
            shutil.rmtree(directory, ignore_errors=True)

    trial.__doc__ = command
    return trial


def kernel_tool(name, words):
    def trial(bench, case):
        directory = fresh(bench, case, name)
        command = [word.format(interface=bench.veth.inner, dir=directory) for word in words]
        process = bench.machine.spawn(command, name, cpu=bench.machine.rx_cpu)
        try:
            return recorded(bench, case, process, directory)
        finally:
            process.end()
            shutil.rmtree(directory, ignore_errors=True)

    trial.__doc__ = " ".join(words)
    return trial


KERNEL_TOOLS = {
    "tcpdump": ["tcpdump", "-i", "{interface}", "-n", "-s", "0", "-B", "262144", "-w",
                "{dir}/x.pcap"],
    "dumpcap": ["dumpcap", "-i", "{interface}", "-q", "-B", "256", "-w", "{dir}/x.pcapng"],
    "netsniff-ng": ["netsniff-ng", "--in", "{interface}", "--out", "{dir}/x.pcap", "--silent",
                    "--ring-size", "256MiB"],
}  # fmt: skip

CONTENDERS = {
    "sluice": sluice,
    "bare": bare,
    "raw-fresh": raw("fresh"),
    "raw-spare": raw("spare"),
    "fio": fio,
    "dpdk-dumpcap": dpdk_dumpcap,
    **{name: kernel_tool(name, words) for name, words in KERNEL_TOOLS.items()},
}


# Traffic over a pair of kernel interfaces -----------------------------------------------------


class Veth:
    """A pair: frames sent into the outer end, in a namespace of its own, come out of the inner."""

    def __init__(self, machine):
        self.machine = machine
        self.namespace, self.outer, self.inner = "sluiceperf", "sluiceperf0", "sluiceperf1"

    def __enter__(self):
        run = self.machine.output
        self.machine.undo.callback(self._remove)
        self._remove()
        run(["ip", "netns", "add", self.namespace])
        run(["ip", "link", "add", self.inner, "type", "veth", "peer", "name", self.outer, "netns",
             self.namespace])  # fmt: skip
        for prefix, link in (([], self.inner), (["ip", "netns", "exec", self.namespace],
                                                self.outer)):
            run([*prefix, "sysctl", "-q", "-w", f"net.ipv6.conf.{link}.disable_ipv6=1"])
            run([*prefix, "ethtool", "-K", link, "rx", "off", "tx", "off", "gso", "off", "gro",
                 "off", "tso", "off"])  # fmt: skip
            run([*prefix, "ip", "link", "set", link, "mtu", "9000", "up", "promisc", "on"])
        return self

    def _remove(self):
        for words in (["ip", "link", "del", self.inner], ["ip", "netns", "del", self.namespace]):
            subprocess.run(words, check=False, capture_output=True)

    def __exit__(self, *_):
        self._remove()


class Replay:
    """tcpreplay into the outer end; wait() says how many packets it sent."""

    def __init__(self, bench, case):
        count = int(case.rate * case.seconds)
        path, frames = bench.frames(case)
        m = bench.machine
        self.process = m.spawn(
            ["ip", "netns", "exec", bench.veth.namespace, "tcpreplay", "-i", bench.veth.outer,
             "--preload-pcap", f"--pps={case.rate}", f"--loop={-(-count // frames)}", "-q", path],
            "tcpreplay",
            cpu=m.writer_cpu,
        )  # fmt: skip
        self.seconds = case.seconds

    def wait(self):
        until("tcpreplay is done", lambda: not self.process.running(), 30 + 4 * self.seconds)
        log = self.process.log()
        code = self.process.end()
        found = re.search(r"Actual: (\d+) packets", log)
        if code != 0 or not found:
            raise Trouble(f"tcpreplay ended with {code}:\n{log}")
        return int(found[1])
