# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Does the benchmark notice? Frames go through a real daemon into a file that must be found whole;
then a byte of it is changed, a packet taken out, a length broken, and each must be found out."""
import json
import shutil
import struct
import subprocess
import tempfile

from machine import Machine, Trouble
from sluice import Daemon, file_breaks, law_breaks

FRAMES = 1020
PACKETS = 20_400


def run(args, build, say):
    with SmallMachine(args.dir) as machine:
        test = SelfTest(machine, build)
        steps = [test.whole, test.wrong_byte, test.missing_packet, test.broken_length,
                 test.cut_short, test.wrong_book]  # fmt: skip
        failed = 0
        for step in steps:
            try:
                step()
                say(f"ok - {step.__doc__}")
            except Trouble as trouble:
                failed += 1
                say(f"not ok - {step.__doc__}: {trouble}")
    return 1 if failed else 0


class SmallMachine(Machine):
    """Without hugepages, and for whoever may run the daemon at all."""

    def __init__(self, directory):
        super().__init__(directory, 0, tempfile.gettempdir())

    def _hugetlbfs(self):
        pass


class SelfTest:
    def __init__(self, machine, build):
        self.machine, self.build = machine, build
        self.frames = machine.memory / "imix"
        machine.output([build / "perf/perf-frames", "imix", FRAMES, self.frames])

    def check(self, path, code=0):
        words = [self.build / "perf/perf-check", "--cycle", str(FRAMES), path]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != code:
            raise Trouble(f"perf-check ends with {done.returncode}, not {code}: {done.stderr}")
        return json.loads(done.stdout)

    def copy(self, name, change):
        data = bytearray(self.path.read_bytes())
        data = change(data)
        path = self.machine.disk / name
        path.write_bytes(data)
        return path

    def whole(self):
        """a capture of numbered frames is whole, its books balance, capinfos counts the same"""
        device = f"net_pcap0,rx_pcap={self.frames},infinite_rx=1"
        port = {"device": device, "poll": "wanted"}
        root = self.machine.disk / "root"
        with Daemon(self.machine, self.build / "sluiced", root, port,
                    engine={"hugepages": "no", "block_memory": "64M"}) as daemon:  # fmt: skip
            capture = daemon.create(limits={"packets": PACKETS})
            capture = daemon.wait_closed(capture, 30)
            self.path = self.machine.disk / "whole.pcapng"
            shutil.copy(daemon.file(capture), self.path)
        found = self.check(self.path)
        breaks = law_breaks(capture) + file_breaks(capture, found)
        if breaks:
            raise Trouble("; ".join(breaks))
        if (found["packets"], found["numbered"], found["missing"]) != (PACKETS, PACKETS, 0):
            raise Trouble(f"not {PACKETS} good packets: {found}")
        table = self.machine.output(["capinfos", "-M", "-c", "-T", "-r", self.path])
        if int(table.split("\t")[1]) != PACKETS:
            raise Trouble(f"capinfos counts otherwise: {table}")
        self.capture, self.found = capture, found

    def wrong_byte(self):
        """a changed byte is found, wherever in the frame it is"""
        first = self._first_packet()
        for at in (0, 20, 45, 51, 57, 60, 63):

            def change(data, at=at):
                data[first + 28 + at] ^= 0x10
                return data

            found = self.check(self.copy("byte.pcapng", change))
            if found["numbered"] != PACKETS - 1:
                raise Trouble(f"byte {at} was changed and {found['numbered']} are good")

    def missing_packet(self):
        """a packet that was taken out is missed"""
        first = self._first_packet()

        def change(data):
            second = first + struct.unpack_from("<I", data, first + 4)[0]
            length = struct.unpack_from("<I", data, second + 4)[0]
            del data[second : second + length]
            return data

        found = self.check(self.copy("missing.pcapng", change))
        if (found["missing"], found["unexplained"]) != (1, 1):
            raise Trouble(f"nothing is missing: {found}")
        if not file_breaks(self.capture, found):
            raise Trouble("the file does not contradict the ledger")

    def broken_length(self):
        """a block whose lengths differ is refused"""
        first = self._first_packet()

        def change(data):
            data[first + struct.unpack_from("<I", data, first + 4)[0] - 4] ^= 4
            return data

        self.check(self.copy("length.pcapng", change), 1)

    def cut_short(self):
        """a file that ends inside a block is refused"""
        self.check(self.copy("short.pcapng", lambda data: data[:-7]), 1)

    def wrong_book(self):
        """a ledger that does not add up is noticed"""
        for key in ("offered", "accepted", "written", "in_flight", "unknown"):
            ledger = {**self.capture["ledger"]}
            ledger[key] += 1
            if not law_breaks({**self.capture, "ledger": ledger}):
                raise Trouble(f"{key} is one too many and nobody minds")

    def _first_packet(self):
        data, at = self.path.read_bytes(), 0
        while struct.unpack_from("<I", data, at)[0] != 6:
            at += struct.unpack_from("<I", data, at + 4)[0]
        return at
