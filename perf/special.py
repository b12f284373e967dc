# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What needs more than to run and to count: stages by themselves, a source that does not wait, a writer
that stands still, many captures, merging, the end of a large file. Each is a contender like others."""
import json
import signal
import time

import peers
from machine import Trouble, until
from sluice import Daemon, file_breaks, law_breaks, seconds_of, wall_clock

NDR_TRIALS = 9
NDR_PPS_MAX = 40e6
BURST_STEPS = 7
SETTLE_SECONDS = 0.3


# Stages ---------------------------------------------------------------------------------------


def stage(bench, case):
    """One of perf-stage's: case.options are its words; {vdev} and {file} are filled in."""
    m = bench.machine
    file = m.disk / "stage"
    words = [word.format(vdev=bench.vdev(case), file=file) for word in case.options["words"]]
    found = json.loads(
        bench.tool("perf-stage", "--seconds", case.seconds, "--cpus",
                   f"{m.rx_cpu},{m.writer_cpu}", "--size", case.size, *words)
    )  # fmt: skip
    written = bool(case.options.get("blocks"))
    return {
        "packets": 0 if written else found["packets"] - found["no_block"],
        "file_bytes": found["bytes"],
        "seconds": found["seconds"],
        "stage_cycles": found["cycles"],
        "dropped": found["no_block"],
        "breaks": [],
    }


# A source that does not wait ------------------------------------------------------------------


class Push:
    """The daemon with a net_memif port, and perf-push on the other CPU."""

    def __init__(self, bench, case):
        self.bench, self.case, self.m = bench, case, bench.machine
        self.socket = self.m.memory / "memif"
        device = f"net_memif0,role=server,id=0,socket={self.socket},socket-abstract=no,rsize=12"
        root = bench.directory(case.sink) / "root"
        # wanted: the device is stopped, and the link with it, when nobody polls it any more.
        port = {"device": device, "poll": "wanted"}
        self.daemon = Daemon(self.m, bench.sluiced, root, port, **case.config)

    def trial(self, pps, seconds, frames=0):
        """One capture of what is pushed: books from the generator to the file."""
        daemon = self.daemon
        spec = {"output": {"type": "none" if self.case.sink == "null" else "file"}}
        capture = daemon.create(**spec)
        words = [self.bench.build / "perf/perf-push", self.socket, self.m.writer_cpu,
                 self.case.size, pps, seconds, frames]  # fmt: skip
        process = self.m.spawn(words, "push")
        until("perf-push is done",
              lambda: process.log().endswith("}") or not process.running(), seconds + 30)  # fmt: skip
        if not process.running():
            raise Trouble(f"perf-push ended with {process.end()}: {process.log()}")
        sent = json.loads(process.log().splitlines()[-1])
        time.sleep(SETTLE_SECONDS)
        daemon.stop(capture)
        capture = daemon.wait_closed(capture)
        done = time.time()
        process.end(signal.SIGTERM)
        result = {
            "sent": sent,
            "packets": capture["ledger"]["written"],
            "seconds": sent["seconds"],
            "dropped": sum(capture["ledger"]["dropped"].values()),
            "refused": sent["refused"],
            "breaks": law_breaks(capture),
        }
        if capture["ledger"]["offered"] != sent["sent"]:
            result["breaks"].append(
                f"the source sent {sent['sent']}, offered were {capture['ledger']['offered']}"
            )
        if self.case.sink != "null":
            path = daemon.file(capture)
            words = ["--schedule", f"{sent['start_ns']},{pps}", "--sparse", "no", path]
            check = json.loads(self.bench.tool("perf-check", *words))
            result.update(peers.from_check(check, done - wall_clock(capture["started_at"])))
            result["seconds"] = sent["seconds"]
            breaks = file_breaks(capture, check, sparse=True)
            missing = sent["due"] - check["numbered"]
            known = sent["refused"] + sent["skipped"] + result["dropped"]
            if missing != known:
                breaks.append(f"{missing} numbers are missing and {known} are accounted for")
            result["breaks"] += breaks
        daemon.delete(capture)
        return result


def push(bench, case):
    """At the case's rate; loss, and stamps against the generator's schedule."""
    source = Push(bench, case)
    with source.daemon:
        return source.trial(case.rate, case.seconds)


def ndr(bench, case):
    """The highest rate without loss, by bisection to about 2 %; and that with less than 0.1 %."""
    source = Push(bench, case)
    low, high, best, breaks = 0.0, case.options.get("pps_max", NDR_PPS_MAX), None, []
    partial = 0.0
    with source.daemon:
        for _ in range(NDR_TRIALS):
            pps = (low + high) / 2
            found = source.trial(int(pps), case.seconds)
            breaks += found["breaks"]
            sent = found["sent"]
            lost = sent["refused"] + found["dropped"]
            # A generator that cannot make the rate says nothing about who listens.
            reached = (sent["sent"] + sent["refused"]) / sent["seconds"]
            if lost == 0 and reached < 0.9 * pps:
                high = pps
            elif lost == 0:
                low, best = pps, found
            else:
                high = pps
            if lost <= 0.001 * (sent["sent"] + sent["refused"]):
                partial = max(partial, min(reached, pps))
    result = best or {"packets": 0, "seconds": case.seconds}
    result = {key: value for key, value in result.items() if key != "check"}
    result.update(breaks=breaks, ndr_mpps=low / 1e6, pdr_mpps=partial / 1e6)
    return result


# A writer that stands still -------------------------------------------------------------------


def burst(bench, case):
    """The largest burst without loss while the writer is frozen for options["ms"]."""
    root = bench.directory(case.sink) / "root"
    port = {"device": bench.vdev(case), "poll": "wanted"}
    breaks = []
    with Daemon(bench.machine, bench.sluiced, root, port, **case.config) as daemon:
        low, high = 0, int(case.options["max"])
        seconds = 0.0
        for step in range(BURST_STEPS):
            packets = high if step == 0 else (low + high) // 2
            lost, took, wrong = burst_trial(bench, case, daemon, packets)
            breaks += wrong
            if lost == 0:
                low, seconds = packets, took
            else:
                high = packets
            if low == high:
                break
    return {
        "packets": low,
        "seconds": seconds or 1,
        "burst_packets": low,
        "frozen_ms": case.options["ms"],
        "breaks": breaks,
    }


def burst_trial(bench, case, daemon, packets):
    ms = case.options["ms"]
    freezer = None
    if ms:
        words = [bench.build / "perf/perf-freeze", daemon.process.pid, "wr/0", ms]
        freezer = bench.machine.spawn(words, "freeze")
        until("the writer stands", lambda: "frozen" in freezer.log() or not freezer.running())
    capture = daemon.create(output={"type": "file"}, limits={"packets": packets})
    if freezer is not None:
        until("the writer runs", lambda: not freezer.running(), 30)
        if freezer.end() != 0:
            raise Trouble(f"perf-freeze: {freezer.log()}")
    capture = daemon.wait_closed(capture)
    check = bench.check([daemon.file(capture)], case)
    breaks = law_breaks(capture) + file_breaks(capture, check)
    lost = sum(capture["ledger"]["dropped"].values())
    took = seconds_of(capture)
    daemon.delete(capture)
    return lost, took, breaks


# Many captures --------------------------------------------------------------------------------


def expression(kind, i):
    flow = i % 512
    return {
        "same": "udp dst port 5003",
        "different": f"udp src port {1024 + flow}",
        "tuple": f"udp and src host 10.0.{flow >> 8}.{flow & 255} and dst host 10.1.0.1 and "
                 f"src port {1024 + flow} and dst port {5000 + flow % 10}",
        "rejecting": f"tcp dst port {10000 + i}",
    }[kind]  # fmt: skip


def sessions(bench, case):
    """options: n captures with filters of a kind, all on the same packets, to the null sink."""
    n, kind = case.options["n"], case.options["kind"]
    port = {"device": bench.vdev(case), "poll": "wanted"}
    root = bench.directory("memory") / "root"
    with Daemon(bench.machine, bench.sluiced, root, port, **case.config) as daemon:
        captures = [
            daemon.create(output={"type": "none"}, filter=expression(kind, i)) for i in range(n)
        ]
        time.sleep(SETTLE_SECONDS)
        before, began = sample(daemon), time.monotonic()
        time.sleep(case.seconds)
        after, seconds = sample(daemon), time.monotonic() - began
        memory = daemon.process.memory_bytes()
        breaks, written = [], 0
        for capture in captures:
            daemon.stop(capture)
        for capture in captures:
            capture = daemon.wait_closed(capture)
            breaks += law_breaks(capture)
            written += capture["ledger"]["written"]
            daemon.delete(capture)
    packets = after["rx"] - before["rx"]
    return {
        "packets": packets,
        "kept": written,
        "seconds": seconds,
        "cycles_per_packet": (after["useful"] - before["useful"]) / packets if packets else None,
        "memory_bytes": memory,
        "breaks": breaks,
    }


def sample(daemon):
    """Packets polled so far: the driver's counters are ten times a second old, which the time that
    passes between two samples makes small."""
    return {
        "rx": daemon.port()["counters"]["rx"],
        "useful": daemon.useful_cycles(daemon.status())["rx"],
    }


# The end of a capture -------------------------------------------------------------------------


def merge(bench, case):
    """Two lanes, so that a merge must make one file of them: its rate."""
    frames = bench.frames(case)[0]
    device = f"net_pcap0,rx_pcap={frames},rx_pcap={frames},infinite_rx=1"
    port = {"device": device, "rx_queues": 2, "poll": "wanted", "rate": case.rate}
    cpu = bench.machine.rx_cpu
    config = {"engine": {"rx_cpus": f"{cpu},{cpu}"}}
    root = bench.directory(case.sink) / "root"
    with Daemon(bench.machine, bench.sluiced, root, port, **config) as daemon:
        capture = daemon.create(output={"type": "file"}, limits={"file_bytes": bench.cap(case)})
        peers.wait_capture(daemon, capture, case.seconds)
        stopped, _ = daemon.stop(capture)
        began = time.monotonic()
        capture = daemon.wait_closed(capture)
        seconds = time.monotonic() - began
        check = bench.check([daemon.file(capture)], case)
        breaks = law_breaks(capture) + file_breaks(capture, check, sparse=True)
        daemon.delete(capture)
    if stopped["state"] != "converting":
        breaks.append(f"there was nothing to merge: {stopped['state']} after the stop")
    return {
        "packets": check["packets"],
        "file_bytes": check["file_bytes"],
        "seconds": max(seconds, 1e-3),
        "dropped": sum(capture["ledger"]["dropped"].values()),
        "check": check,
        "breaks": breaks,
    }


CONTENDERS = {
    "stage": stage,
    "push": push,
    "ndr": ndr,
    "burst": burst,
    "sessions": sessions,
    "merge": merge,
}
