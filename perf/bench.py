# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""One run: what all trials share, and the loop over them."""
import json
import re
import statistics
import subprocess
import time

import peers
import special
from machine import Trouble

# So many frames are replayed in turn: mempools and caches see more than a handful, and they fit.
CYCLE = 1024
IMIX_CYCLE = 1020  # a multiple of its twelve frames
MEMORY_PART = 0.4  # of the free memory may be a trial's file
VETH_FRAMES = 200_000
CEILING_GUESS = 1e9  # bytes a second, where no ceiling was measured
CEILING_SECONDS = 8
EPB_BYTES = 32
CROSS_PACKETS_MAX = 5_000_000  # capinfos takes a second for two million


class Bench:
    def __init__(self, machine, build, peer_commands, say):
        self.machine, self.build, self.say = machine, build, say
        self.sluiced = build / "sluiced"
        self.contenders = {**peers.CONTENDERS, **special.CONTENDERS}
        for name, command in peer_commands.items():
            self.contenders[name] = peers.from_command(command)
        self.veth = None
        self.crossed = False
        self.known, self.ceilings = set(), {}
        self.results = []

    # What trials ask for ------------------------------------------------------------------------

    def tool(self, name, *words):
        return self.machine.output([self.build / "perf" / name, *words], timeout=600)

    def frames(self, case):
        """(pcap file of numbered frames, how many)"""
        if case.source == "veth":
            count = VETH_FRAMES
        else:
            count = IMIX_CYCLE if case.size == "imix" else CYCLE
        # A short name: of a device's arguments net_pcap keeps 63 bytes for secondary processes.
        path = self.machine.memory / f"{case.source[0]}{case.size}"
        if not path.exists():
            self.tool("perf-frames", case.size, count, path)
        return path, count

    def vdev(self, case):
        if case.source == "null":
            return f"net_null0,size={case.size},copy=1"
        return f"net_pcap0,rx_pcap={self.frames(case)[0]},infinite_rx=1"

    def rate(self, case):
        """Packets a second, or 0; it may be a part of what the raw writer has reached in this run."""
        part = case.options.get("of_ceiling")
        if not part:
            return case.rate
        raw = [r["file_bytes"] / r["seconds"] for r in self.results
               if r["contender"] == "raw-fresh" and r["case"] == "ceiling-disk"]  # fmt: skip
        bytes_per_s = statistics.median(raw) if raw else CEILING_GUESS
        return int(bytes_per_s * part / (int(case.size) + EPB_BYTES))

    def storage_known(self, daemon, case):
        """The daemon measures its storage when it is idle, once a week: let it, before the first trial
        on it."""
        if case.sink in self.known or case.sink == "null":
            return
        self.known.add(case.sink)
        deadline = time.monotonic() + CEILING_SECONDS
        while time.monotonic() < deadline and not daemon.status()["storage"].get("ceiling"):
            time.sleep(0.2)
        self.ceilings[case.sink] = daemon.status()["storage"].get("ceiling")

    def directory(self, sink):
        return self.machine.disk if sink == "disk" else self.machine.memory

    def cap(self, case):
        """How large a trial's file may become."""
        free = self.machine.free_bytes(case.sink)
        most = int(free * (MEMORY_PART if case.sink == "memory" else 0.8))
        return min(most, case.options.get("file_bytes", most))

    def check(self, paths, case, strict=True):
        """What perf-check finds in the files. Not strict: where one breaks off, what is before that
        counts, and "damage" says where."""
        cycle = 0 if case.source == "null" else self.frames(case)[1]
        words = ["--cycle", cycle, "--sparse", "yes" if case.sparse else "no", *paths]
        words = [str(word) for word in (self.build / "perf/perf-check", *words)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode not in ((0,) if strict else (0, 1)) or not done.stdout:
            raise Trouble(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.strip()}")
        found = json.loads(done.stdout)
        found["damage"] = done.stderr.strip().rpartition("/")[2] or None
        return found

    def cross_check(self, path, case, check):
        """In one trial: does capinfos count the same?"""
        if case.sink != "memory" or check["packets"] > CROSS_PACKETS_MAX or self.crossed:
            return
        self.crossed = True
        found = self.machine.output(["capinfos", "-M", "-c", "-T", "-r", path])
        count = int(re.split(r"\t", found.strip())[1])
        if count != check["packets"]:
            raise Trouble(f"capinfos counts {count} packets and perf-check {check['packets']}")
        self.say(f"    capinfos counts the same {count} packets")

    def traffic_start(self, case):
        if case.source == "veth":
            return peers.Replay(self, case)
        return None

    # The loop -----------------------------------------------------------------------------------

    def run(self, cases, rounds):
        """Round after round over all of a group: what is compared was measured close together."""
        for group in dict.fromkeys(case.group for case in cases):
            members = [case for case in cases if case.group == group]
            self.say(f"{group}: {', '.join(case.name for case in members)}")
            if members[0].source == "veth":
                with peers.Veth(self.machine) as self.veth:
                    self._rounds(members, rounds)
            else:
                self._rounds(members, rounds)
            for spare in (self.machine.disk, self.machine.memory):
                (spare / "raw-spare").unlink(missing_ok=True)

    def _rounds(self, cases, rounds):
        for number in range(rounds):
            for case in cases:
                if case.rounds and number >= case.rounds:
                    continue
                for name in case.contenders:
                    self._trial(case, name, number)

    def _trial(self, case, name, number):
        self.machine.settle()
        stolen, began = self.machine.stolen_seconds(), time.monotonic()
        try:
            result = self.contenders[name](self, case)
        except (Trouble, OSError, subprocess.SubprocessError) as trouble:
            # The others go on; the run fails at its end.
            result = {"packets": 0, "seconds": 1, "failed": True,
                      "breaks": [f"the trial did not end: {trouble}"]}  # fmt: skip
        result.update(
            case=case.name,
            contender=name,
            round=number,
            stolen_seconds=round(self.machine.stolen_seconds() - stolen, 3),
            trial_seconds=round(time.monotonic() - began, 2),
        )
        self.results.append(result)
        self.say(f"  {number + 1} {case.name:14} {name:13} {summary(result)}")
        if result.get("check", {}).get("damage"):
            self.say(f"    {result['check']['damage']}")
        for sentence in result["breaks"]:
            self.say(f"    BROKEN: {sentence}")

    def broken(self):
        return [r for r in self.results if r["breaks"]]


def summary(result):
    words = []
    if result["packets"]:
        words.append(f"{result['packets'] / result['seconds'] / 1e6:8.3f} Mpps")
    if result.get("file_bytes"):
        words.append(f"{result['file_bytes'] / result['seconds'] / 1e9:6.3f} GB/s")
    if "cpu_seconds" in result and result["packets"]:
        words.append(f"{result['cpu_seconds'] / result['packets'] * 1e6:.3f} CPU s/Mpkt")
    if result.get("dropped"):
        words.append(f"{result['dropped']} dropped")
    if result.get("lost"):
        words.append(f"{result['lost']} lost")
    for name in ("ndr_mpps", "pdr_mpps", "burst_packets", "behind_ms"):
        if name in result:
            words.append(f"{name} {result[name]:.6g}")
    if "rate" in result and result["gaps"]["count"]:
        words.append(f"{result['gaps']['count']} gaps, {result['gaps']['longest_ms']:.1f} ms")
    if result["stolen_seconds"] > 0.05:
        words.append(f"{result['stolen_seconds']} s stolen")
    words.append(f"({result['trial_seconds']:.0f} s)")
    return ", ".join(words)
