#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""capcheck: judge a capture by its file and its ledger, without any of the program's own code.

read() takes a pcapng file apart block by block and refuses everything that the format or the
contract forbids, however lenient other readers are. books() and port_books() subtract the two sides
of every law that the counters must obey; each residual must be 0. claims() takes a file of numbered
frames (frames.py) and says where a number is missing that no epb_dropcount at that place owns up to.

  capcheck.py FILE [--capture CAPTURE.json] [--ports PORTS.json] [--object OBJECT] [--cycle N] [--partial]

prints the residuals; exit 0 when all are 0, 1 when one is not, 2 when FILE is not what it must be.
"""
import argparse
import hashlib
import json
import mmap
import os
import struct
import sys
import zlib
from array import array

SHB, IDB, ISB, EPB = 0x0A0D0D0A, 1, 5, 6
CLOSED = ("complete", "failed", "deleted")
_ZERO = (b"", b"\0", b"\0\0", b"\0\0\0")
_u32 = struct.Struct("<I").unpack_from
_head = struct.Struct("<II").unpack_from
_epb = struct.Struct("<IIIIIII").unpack_from
_u16x2 = struct.Struct("<HH").unpack_from

# What a numbered frame carries behind its headers: magic, stream, number; a CRC-32 ends the frame.
MAGIC = b"\xf7Nr\x9d"
NUMBER = struct.Struct("!4sIQ")


class Bad(Exception):
    """The file breaks a rule; says which and where."""


class Interface:
    def __init__(self, linktype, snaplen, options):
        self.linktype, self.snaplen = linktype, snaplen
        self.name = _text(options, 2)
        self.description = _text(options, 3)
        speed = options.get(8, [b""])[0]
        self.speed = int.from_bytes(speed, "little") if speed else None
        tsresol = options.get(9, [b"\x06"])[0]
        self.tsresol = tsresol[0]
        expression = options.get(11, [None])[0]
        self.filter = None if expression is None else expression[1:].decode()


class Statistics:
    _NAMES = {4: "ifrecv", 5: "ifdrop", 6: "filteraccept", 7: "osdrop", 8: "usrdeliv"}

    def __init__(self, interface, stamp, options):
        self.interface, self.stamp = interface, stamp
        for code, name in self._NAMES.items():
            value = options.get(code)
            setattr(self, name, None if value is None else int.from_bytes(value[0], "little"))
        self.start, self.end = _halves(options, 2), _halves(options, 3)
        self.tail_gap = 0  # said only where packets were lost behind the last one
        for comment in options.get(1, []):
            for word in comment.decode().split():
                if word.startswith("tail_gap="):
                    self.tail_gap = int(word[9:])


class Section:
    def __init__(self, options):
        self.hardware, self.os, self.application = (_text(options, n) for n in (2, 3, 4))
        self.interfaces, self.statistics = [], []


class Pcapng:
    """Packets as parallel arrays in file order; self[i] is the captured bytes of packet i."""

    def __init__(self, data):
        self.data = data
        self.size = len(data)
        self.blocks_size = 0
        self.sections = []
        self.interface, self.caplen, self.origlen = array("I"), array("I"), array("I")
        self.stamp, self.where, self.dropcount = array("Q"), array("Q"), array("Q")
        self.flags = array("I")

    def __len__(self):
        return len(self.stamp)

    def __getitem__(self, i):
        return self.data[self.where[i] : self.where[i] + self.caplen[i]]

    @property
    def interfaces(self):
        return self.sections[0].interfaces

    @property
    def statistics(self):
        return [s for section in self.sections for s in section.statistics]

    def frames(self):
        return [self[i] for i in range(len(self))]


def _text(options, code):
    value = options.get(code)
    return None if value is None else value[0].decode()


def _halves(options, code):
    """A time stamp option: high half first, each half in the section's byte order."""
    value = options.get(code)
    if value is None:
        return None
    high, low = _head(value[0])
    return high << 32 | low


def _need(condition, at, what):
    if not condition:
        raise Bad(f"at byte {at}: {what}")


def _options(data, at, end):
    """Options between at and end as {code: [values]}. There may be none; else endofopt ends them.
    Options between at and end as {code: [values]}. There may be none; else endofopt ends them."""
    options = {}
    while at < end:
        _need(end - at >= 4, at, "option header cut off")
        code, length = _u16x2(data, at)
        if code == 0:
            _need(length == 0, at, "opt_endofopt with a length")
            _need(at + 4 == end, at, "bytes after opt_endofopt")
            return options
        pad = -length & 3
        after = at + 4 + length
        _need(after + pad <= end, at, f"option {code} reaches over its block")
        _need(
            data[after : after + pad] == _ZERO[pad], after, f"padding of option {code} is not zero"
        )
        options.setdefault(code, []).append(bytes(data[at + 4 : after]))
        at = after + pad
        _need(at < end, at, "options without opt_endofopt")
    return options


def _read_epb(cap, data, at, end, section):
    _need(end - at >= 32, at, "packet block cut off")
    _, length, interface, high, low, caplen, origlen = _epb(data, at)
    pad = -caplen & 3
    body = at + 28
    options = body + caplen + pad
    tail = at + length - 4
    if options > tail or interface >= len(section.interfaces) or caplen > origlen:
        _need(options <= tail, at, f"captured length {caplen} does not fit the block")
        _need(interface < len(section.interfaces), at, f"packet of unknown interface {interface}")
        _need(caplen <= origlen, at, f"captured length {caplen} above the original's {origlen}")
    if pad and data[body + caplen : options] != _ZERO[pad]:
        raise Bad(f"at byte {body + caplen}: packet padding is not zero")
    snaplen = section.interfaces[interface].snaplen
    if snaplen and caplen > snaplen:
        raise Bad(f"at byte {at}: captured length {caplen} above snaplen {snaplen}")
    flags = drops = 0
    if options != tail:
        found = _options(data, options, tail)
        flags = int.from_bytes(found.get(2, [b""])[0], "little")
        drops = int.from_bytes(found.get(4, [b""])[0], "little")
        _need(4 not in found or drops > 0, options, "epb_dropcount of 0")
        _need(len(found.get(4, [0])) == 1, options, "epb_dropcount twice")
    cap.interface.append(interface)
    cap.stamp.append(high << 32 | low)
    cap.caplen.append(caplen)
    cap.origlen.append(origlen)
    cap.where.append(body)
    cap.dropcount.append(drops)
    cap.flags.append(flags)


def _read_section(cap, data, at, length):
    _need(length >= 28, at, "section header too short")
    magic, major, minor, size = struct.unpack_from("<IHHq", data, at + 8)
    _need(magic == 0x1A2B3C4D, at, "byte-order magic is not the little-endian one")
    _need((major, minor) == (1, 0), at, f"version {major}.{minor} is not 1.0")
    _need(size == -1 or size % 4 == 0, at, f"section length {size}")
    cap.sections.append(Section(_options(data, at + 24, at + length - 4)))


def _read_interface(cap, data, at, length, section):
    _need(length >= 20, at, "interface block too short")
    linktype, reserved, snaplen = struct.unpack_from("<HHI", data, at + 8)
    _need(linktype == 1, at, f"link type {linktype} is not Ethernet")
    _need(reserved == 0, at, "reserved bytes are not zero")
    options = _options(data, at + 16, at + length - 4)
    _need(9 in options and options[9][0] == b"\x09", at, "if_tsresol is not 9 (nanoseconds)")
    interface = Interface(linktype, snaplen, options)
    _need(interface.name, at, "interface without a name")
    section.interfaces.append(interface)


def _read_statistics(cap, data, at, length, section):
    _need(length >= 24, at, "statistics block too short")
    interface, high, low = struct.unpack_from("<III", data, at + 8)
    _need(interface < len(section.interfaces), at, f"statistics of unknown interface {interface}")
    options = _options(data, at + 20, at + length - 4)
    for code in (2, 3, 4, 5, 6, 7, 8):
        for value in options.get(code, []):
            _need(len(value) == 8, at, f"statistics option {code} is not 8 bytes")
    section.statistics.append(Statistics(interface, high << 32 | low, options))


def read(path, closed=True):
    """Read a whole file. closed: what a finished capture promises is checked too."""
    if os.path.getsize(path) == 0:
        raise Bad("empty file")
    with open(path, "rb") as f:
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    cap = Pcapng(data)
    at, end, section = 0, len(data), None
    while at < end:
        _need(end - at >= 12, at, f"{end - at} bytes too few for a block")
        kind, length = _head(data, at)
        if length & 3 or length < 12 or at + length > end:
            raise Bad(
                f"at byte {at}: block type {kind:#x} of length {length}, {end - at} bytes left"
            )
        if _u32(data, at + length - 4)[0] != length:
            raise Bad(f"at byte {at}: the block's two lengths differ")
        if kind == SHB:
            _read_section(cap, data, at, length)
            section = cap.sections[-1]
        elif section is None:
            raise Bad("the file does not start with a section header")
        elif kind == EPB:
            if closed and section.statistics:
                raise Bad(f"at byte {at}: a packet after the closing statistics")
            _read_epb(cap, data, at, at + length, section)
        elif kind == IDB:
            _need(not closed or len(cap) == 0, at, "an interface block among the packets")
            _read_interface(cap, data, at, length, section)
        elif kind == ISB:
            _read_statistics(cap, data, at, length, section)
        else:
            raise Bad(f"at byte {at}: a block of type {kind:#x} does not belong here")
        cap.blocks_size += length
        at += length
    if closed:
        _check_closed(cap)
    return cap


def _check_closed(cap):
    _need(len(cap.sections) == 1, 0, f"{len(cap.sections)} sections in a closed capture")
    section = cap.sections[0]
    for name in ("application", "os", "hardware"):
        _need(getattr(section, name), 0, f"section header does not say its {name}")
    covered = sorted(s.interface for s in section.statistics)
    _need(
        covered == list(range(len(section.interfaces))),
        0,
        f"{len(section.interfaces)} interfaces, closing statistics of {covered}",
    )
    for s in section.statistics:
        for name in ("filteraccept", "osdrop", "usrdeliv", "start", "end"):
            _need(
                getattr(s, name) is not None, 0, f"statistics of interface {s.interface}: no {name}"
            )
    before = 0
    for i, stamp in enumerate(cap.stamp):
        if stamp < before:
            raise Bad(f"packet {i}: time goes back from {before} to {stamp}")
        before = stamp


def books(capture, file=None):
    """Residuals of a capture as the API shows it, and of its closed file (Pcapng) if there is one.
    Residuals of a capture as the API shows it, and of its closed file (Pcapng) if there is one."""
    ledger = capture["ledger"]
    lost = sum(ledger["dropped"].values())
    residuals = {
        "S1 offered - filtered - sampled_out - over_limit - accepted": ledger["offered"]
        - ledger["filtered"]
        - ledger["sampled_out"]
        - ledger["over_limit"]
        - ledger["accepted"],
        "S2 accepted - written - dropped - in_flight - unknown": ledger["accepted"]
        - ledger["written"]
        - lost
        - ledger["in_flight"]
        - ledger["unknown"],
        "D1 durable above written": max(0, ledger["durable"] - ledger["written"]),
    }
    if capture["state"] in CLOSED:
        residuals["S3 in_flight of a closed capture"] = ledger["in_flight"]
        if capture["reason"] != "recovered":
            residuals["S4 unknown without a crash"] = ledger["unknown_max"]
    if ledger["unknown_max"] is not None:
        residuals["D3 unknown above unknown_max"] = max(
            0, ledger["unknown"] - ledger["unknown_max"]
        )
    if file is None:
        return residuals
    statistics = file.statistics
    claimed = sum(file.dropcount)
    tail = sum(s.tail_gap for s in statistics)
    residuals["F1 packet blocks - written"] = len(file) - ledger["written"]
    residuals["F2 block lengths - file size"] = file.blocks_size - file.size
    residuals["F2 size_bytes - file size"] = capture["size_bytes"] - file.size
    residuals["F3 epb_dropcount + tail_gap - dropped"] = claimed + tail - lost
    residuals["F4 osdrop - dropped"] = sum(s.osdrop for s in statistics) - lost
    residuals["F4 usrdeliv - written"] = sum(s.usrdeliv for s in statistics) - ledger["written"]
    for s in statistics:
        count = file.interface.count(s.interface)
        claims_here = sum(d for d, i in zip(file.dropcount, file.interface) if i == s.interface)
        residuals[f"F4 usrdeliv - packets of interface {s.interface}"] = s.usrdeliv - count
        residuals[f"F4 osdrop - claims of interface {s.interface}"] = (
            s.osdrop - claims_here - s.tail_gap
        )
    if capture["reason"] != "recovered":
        residuals["F4 filteraccept - (offered - filtered)"] = sum(
            s.filteraccept for s in statistics
        ) - (ledger["offered"] - ledger["filtered"])
    if capture["state"] == "complete":
        residuals["D2 durable - written of a complete capture"] = (
            ledger["durable"] - ledger["written"]
        )
    return residuals


def bucket_books(captures, objects, uploads, files):
    """Residuals between captures with output s3 (as the API shows them), what a bucket holds and what
    is on disk.

    objects: {key: (size, SHA-256)}; uploads: unfinished multipart uploads; files: {capture id: (size,
    SHA-256)} of local capture files, without those that are gone. A SHA-256 may be None: not looked at.
    """
    verified = {}
    unproved = wrong = several = 0
    for capture in captures:
        upload = capture["upload"]
        key = upload["url"].partition("://")[2].partition("/")[2]
        file, object = files.get(capture["id"]), objects.get(key)
        mine = [k for k in objects if capture["id"].replace("-", "") in k.replace("-", "")]
        several += max(0, len(mine) - 1)
        if upload["state"] == "verified":
            verified[key] = capture
            wrong += object is None or object[0] != capture["size_bytes"]
            wrong += bool(object and file and not _same(object, file))
        elif capture["state"] in ("complete", "failed") and capture["size_bytes"]:
            unproved += file is None
    return {
        "U1 verified captures whose object is missing or differs": wrong,
        "U1 objects beyond one of a capture": several,
        "U1 objects of no verified capture": len(set(objects) - set(verified)),
        "U1 unfinished multipart uploads": len(uploads),
        "U2 local files gone before their object was verified": unproved,
    }


def _same(a, b):
    return a[0] == b[0] and (None in (a[1], b[1]) or a[1] == b[1])


def port_books(port):
    """Residuals of a port on a quiet wire."""
    c = port["counters"]
    residuals = {
        f"P2 {port['name']}: rx - matched - unmatched": c["rx"] - c["matched"] - c["unmatched"]
    }
    if port["loss_visibility"] == "exact":
        residuals[f"P1 {port['name']}: offered - rx - nic_missed - nic_errors - nic_nombuf"] = (
            c["offered"] - c["rx"] - c["nic_missed"] - c["nic_errors"] - c["nic_nombuf"]
        )
    return residuals


def number(frame):
    """(stream, number) of a numbered frame, or None. The frame may be cut by a snaplen."""
    at = frame.find(MAGIC, 14)
    if at < 0 or len(frame) < at + NUMBER.size:
        return None
    _, stream, seq = NUMBER.unpack_from(frame, at)
    return stream, seq


def number_intact(frame):
    """Whether the CRC at the end of an uncut numbered frame fits the bytes before it."""
    return zlib.crc32(frame[:-4]) == struct.unpack("!I", frame[-4:])[0]


def claims(file, cycle=None, step=1, first=None):
    """Compare missing numbers with epb_dropcount, place by place, for each stream of numbered frames.

    cycle: numbers start over at this count (a replayed file); a gap is then known modulo cycle.
    step: distance of neighbours when nothing is lost (every Nth).
    first: number of the stream's first frame, if the capture began with it.
    Returns (list of complaints, {stream: last number}).
    """
    complaints, last = [], {}
    for i in range(len(file)):
        frame = file[i]
        found = number(frame)
        if found is None:
            complaints.append(f"packet {i} carries no number")
            continue
        stream, seq = found
        if file.caplen[i] == file.origlen[i] and not number_intact(frame):
            complaints.append(f"packet {i} (stream {stream}, number {seq}) is damaged")
        before = last.get(stream, None if first is None else first - step)
        last[stream] = seq
        if before is None:
            continue
        gap = seq - before - step
        excess = gap - file.dropcount[i] * step
        if excess if cycle is None else excess % cycle:
            complaints.append(
                f"packet {i}: stream {stream} goes from {before} to {seq},"
                f" epb_dropcount says {file.dropcount[i]}"
            )
    return complaints, last


def _sum(path):
    """(size, SHA-256) of a file."""
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256")
        return f.tell(), digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--capture", help="the capture as GET /api/v1/captures/ID answers it")
    parser.add_argument("--ports", help="what GET /api/v1/ports answers")
    parser.add_argument("--object", help="the capture's object, fetched from its bucket")
    parser.add_argument("--cycle", type=int, help="numbered frames that start over at this number")
    parser.add_argument("--partial", action="store_true", help="the file is not closed yet")
    args = parser.parse_args()
    try:
        file = read(args.file, closed=not args.partial)
    except Bad as bad:
        print(f"{args.file}: {bad}")
        return 2
    residuals = {}
    if args.capture:
        with open(args.capture, encoding="utf-8") as f:
            residuals.update(books(json.load(f), None if args.partial else file))
    if args.ports:
        with open(args.ports, encoding="utf-8") as f:
            for port in json.load(f)["ports"]:
                residuals.update(port_books(port))
    if args.object:
        residuals["U1 object - file"] = int(_sum(args.object) != _sum(args.file))
    if args.cycle is not None:
        complaints, _ = claims(file, args.cycle or None)
        residuals["places where missing numbers are not claimed"] = len(complaints)
        print(*complaints[:20], sep="\n")
    print(f"{len(file)} packets, {sum(file.dropcount)} claimed lost, {file.size} bytes")
    for name, value in residuals.items():
        print(f"{value:>12}  {name}")
    return 1 if any(residuals.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
