# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Frames that the tests send, and pcap files of them.

Every frame has its number in the lower 32 bits of its source address, so that no two frames of a test
are alike; numbered frames carry stream, 64-bit number and CRC as well (capcheck.number).
"""
import random
import struct
import zlib

from capcheck import MAGIC, NUMBER

DST = b"\x02\x00\x00\x00\x00\x01"


def _ether(seq, kind, dst=DST):
    return dst + struct.pack("!HIH", 0x0200, seq & 0xFFFFFFFF, kind)


def _sum(data):
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol, src, dst, payload, ident=0, fragment=0):
    head = struct.pack(
        "!BBHHHBBHII", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0, src, dst
    )
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + payload


def ipv6(protocol, src, dst, payload):
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + src + dst + payload


def udp(sport, dport, payload):
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def tcp(sport, dport, seq, flags, payload):
    return struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 0x50, flags, 65535, 0, 0) + payload


def icmp(kind, payload):
    return struct.pack("!BBHI", kind, 0, 0, 1) + payload


def numbered(stream, seq, size=64, sport=10000, dport=20000, dst=DST):
    """An IPv4/UDP frame of size bytes (>= 62) that carries stream and seq and ends with a CRC."""
    body = NUMBER.pack(MAGIC, stream, seq)
    pad = size - 14 - 20 - 8 - len(body) - 4
    if pad < 0:
        raise ValueError(f"a numbered frame needs {size - pad} bytes, not {size}")
    body += bytes([seq & 0xFF]) * pad + b"\0\0\0\0"
    frame = _ether(seq, 0x0800, dst) + ipv4(
        17, 0x0A000001 + stream, 0x0A000100, udp(sport, dport, body), seq & 0xFFFF
    )
    return frame[:-4] + struct.pack("!I", zlib.crc32(frame[:-4]))


NUMBERED_MIN = 62


def mixed(count, seed=1, longest=9000, runts=True):
    """count frames of all kinds: 60 bytes to longest, tags, IPv6, fragments, runts of 14 to 59
    bytes."""
    dice = random.Random(seed)
    noise = dice.randbytes(longest + 4096)
    frames = []
    kinds = [k for k in _KINDS for _ in range(k[1])]
    for seq in range(count):
        make = kinds[dice.randrange(len(kinds))][0]
        if make is _runt and not runts:
            make = _udp4
        size = dice.choice(
            (60, 64, dice.randint(60, 128), dice.randint(60, 1514), 1514, dice.randint(60, longest))
            if seq % 8
            else (60, longest)
        )
        at = dice.randrange(4096)
        frame = make(seq, noise[at : at + size], dice)
        if make is not _runt:
            frame = frame[:longest].ljust(60, b"\xa5")
        frames.append(frame)
    return frames


def _addr4(dice):
    return 0x0A000000 | dice.randrange(1 << 12)


def _addr6(dice):
    return b"\x20\x01\x0d\xb8" + b"\0" * 10 + struct.pack("!H", dice.randrange(1 << 12))


def _room(blob, head):
    return blob[: max(0, len(blob) - head)]


_PORTS = (22, 53, 67, 68, 80, 123, 443, 1024, 5000, 8080, 33333)


def _transport(blob, dice):
    ports = dice.choice(_PORTS), dice.choice(_PORTS)
    if dice.randrange(2):
        return 17, udp(*ports, blob)
    return 6, tcp(*ports, dice.getrandbits(32), dice.choice((2, 16, 17, 18, 24, 4)), blob)


def _udp4(seq, blob, dice):
    protocol, payload = _transport(_room(blob, 54), dice)
    return _ether(seq, 0x0800) + ipv4(protocol, _addr4(dice), _addr4(dice), payload, seq & 0xFFFF)


def _icmp4(seq, blob, dice):
    payload = icmp(dice.choice((0, 8, 3, 11)), _room(blob, 42))
    return _ether(seq, 0x0800) + ipv4(1, _addr4(dice), _addr4(dice), payload)


def _fragment4(seq, blob, dice):
    fragment = dice.choice((0x2000, 0x2000 | dice.randint(1, 8000), dice.randint(1, 8000)))
    return _ether(seq, 0x0800) + ipv4(
        17, _addr4(dice), _addr4(dice), _room(blob, 34), seq & 0xFFFF, fragment
    )


def _ip6(seq, blob, dice):
    protocol, payload = _transport(_room(blob, 74), dice)
    return _ether(seq, 0x86DD) + ipv6(protocol, _addr6(dice), _addr6(dice), payload)


def _ip6_extended(seq, blob, dice):
    protocol, payload = _transport(_room(blob, 82), dice)
    hop = struct.pack("!BB", protocol, 0) + b"\x01\x04\0\0\0\0"
    return _ether(seq, 0x86DD) + ipv6(0, _addr6(dice), _addr6(dice), hop + payload)


def _fragment6(seq, blob, dice):
    head = struct.pack("!BBHI", 17, 0, dice.randrange(1000) << 3 | 1, seq & 0xFFFFFFFF)
    return _ether(seq, 0x86DD) + ipv6(44, _addr6(dice), _addr6(dice), head + _room(blob, 62))


def _tag(frame, tpid, tci):
    return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]


def _vlan(seq, blob, dice):
    inner = dice.choice((_udp4, _ip6))(seq, _room(blob, 4), dice)
    return _tag(inner, 0x8100, dice.choice((5, 100, 0x2064, 4094)))


def _qinq(seq, blob, dice):
    inner = _vlan(seq, _room(blob, 4), dice)
    return _tag(inner, dice.choice((0x88A8, 0x8100)), dice.choice((7, 200, 0x6008)))


def _mpls(seq, blob, dice):
    inner = ipv4(17, _addr4(dice), _addr4(dice), udp(1, 2, _room(blob, 46)))
    return _ether(seq, 0x8847) + struct.pack("!I", dice.choice((16, 1024)) << 12 | 0x140) + inner


def _arp(seq, blob, dice):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, dice.choice((1, 2))) + bytes(6)
    return _ether(seq, 0x0806, b"\xff" * 6) + body + struct.pack("!I", _addr4(dice)) + bytes(10)


def _llc(seq, blob, dice):
    body = _room(blob, 17)[:1400]
    return _ether(seq, 3 + len(body)) + b"\x42\x42\x03" + body


def _runt(seq, blob, dice):
    """Shorter than Ethernet allows; never a VLAN tag, which the kernel discards when cut short."""
    size = dice.randint(14, 59)
    return (_ether(seq, dice.choice((0x0800, 0x88B5, 0x0806))) + blob)[:size]


_KINDS = (
    (_udp4, 8),
    (_icmp4, 1),
    (_fragment4, 2),
    (_ip6, 4),
    (_ip6_extended, 1),
    (_fragment6, 1),
    (_vlan, 3),
    (_qinq, 3),
    (_mpls, 1),
    (_arp, 1),
    (_llc, 1),
    (_runt, 3),
)


def flow(n, reverse, payload=b"flow"):
    """One frame of flow n: of four kinds (UDP and TCP, IPv4 and IPv6), in one direction or the
    other."""
    ports = 1024 + n % 50000, 80 + n % 7
    if reverse:
        ports = ports[::-1]
    body = struct.pack("!I", n) + payload
    v6, over_tcp = n & 1, n & 2
    transport = tcp(*ports, n, 16, body) if over_tcp else udp(*ports, body)
    protocol = 6 if over_tcp else 17
    if v6:
        ends = [b"\x20\x01\x0d\xb8" + b"\0" * 8 + struct.pack("!I", a) for a in (n, 1 << 20)]
    else:
        ends = [0x0A000000 + n, 0x0B000000 + n % 13]
    if reverse:
        ends.reverse()
    packet = (ipv6 if v6 else ipv4)(protocol, *ends, transport)
    return (_ether(n * 2 + reverse, 0x86DD if v6 else 0x0800) + packet).ljust(60, b"\0")


def flow_number(frame):
    """Which flow a frame made by flow() belongs to, and whether it is the reverse direction."""
    return divmod(struct.unpack("!I", frame[8:12])[0], 2)


def write_pcap(path, frames, start=1_600_000_000_000_000_000, gap=1000):
    """A classic pcap file with nanosecond stamps, gap ns apart."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for i, frame in enumerate(frames):
            second, ns = divmod(start + i * gap, 1_000_000_000)
            f.write(struct.pack("<IIII", second, ns, len(frame), len(frame)) + frame)
    return path


def read_pcap(path):
    """[(stamp ns, original length, bytes)] of a classic pcap file, micro- or nanoseconds."""
    with open(path, "rb") as f:
        data = f.read()
    magic, major, minor, _, _, _, linktype = struct.unpack_from("<IHHiIII", data)
    assert magic in (0xA1B23C4D, 0xA1B2C3D4) and (major, minor, linktype) == (2, 4, 1)
    unit = 1 if magic == 0xA1B23C4D else 1000
    packets, at = [], 24
    while at < len(data):
        second, part, caplen, origlen = struct.unpack_from("<IIII", data, at)
        at += 16
        assert at + caplen <= len(data), "record cut off"
        packets.append((second * 1_000_000_000 + part * unit, origlen, data[at : at + caplen]))
        at += caplen
    return packets
