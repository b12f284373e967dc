# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Filters through the real daemon select what `tcpdump -r` selects from the same file."""
import concurrent.futures
import platform
import struct

import pytest

import capcheck
import frames
import harness
from harness import replay

COUNT = 5000
JIT = "jit" if platform.machine() == "x86_64" else None

EXPRESSIONS = """
ip
ip6
arp
tcp
udp port 53
tcp port 443 or udp port 123
src port 22 and dst port 80
portrange 1000-6000
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
tcp[tcpflags] = tcp-syn and tcp[13] & 0x10 = 0
udp[8:4] > 0x7fffffff
icmp[icmptype] = icmp-echo
icmp[0] != 8
ip[6:2] & 0x1fff != 0
ip[8] = 64 and ether[0] & 1 = 0
ether[0] & 1 != 0
ether[10:2] & 0x7f = 2
ether broadcast
net 10.0.0.0/21
src net 10.0.8.0/22 and not tcp
ip6 net 2001:db8::/118
host 10.0.1.1 or host 2001:db8::1
ip6[6] = 0 or ip6 proto 44
ip6[40] = 17
vlan
vlan 100
vlan and tcp
vlan and ip6 and udp
vlan 7 and vlan 5
vlan and vlan and ip
mpls
mpls 1024
mpls and ip
llc
greater 1000
less 64
len > 5000 and ip
ip[2:2] - ((ip[0] & 0xf) << 2) > 100
(tcp[12] >> 4) * 4 = 20
ether proto 0x88b5
not ip and not ip6 and not arp
tcp[0:2] = udp[0:2] or ip[9] = 1
ip[0] & 0xf != 5 or ip[ip[0] & 0xf] > 128
len & 1 = 1
""".strip().splitlines()

INTERPRETED = ("ip6 protochain 17", "ip protochain 6")


@pytest.fixture(scope="module")
def material(module_dir):
    """One daemon for all expressions of this file, and the frames it replays."""
    path = frames.write_pcap(module_dir / "corpus.pcap", frames.mixed(COUNT, seed=4))
    with harness.Daemon({"tap0": replay(path, mtu=9200, rate=500_000)}) as daemon:
        yield daemon, path


def compare(daemon, path, expression):
    capture = daemon.api.create(filter=expression, snaplen=0)
    daemon.api.wait_offered(capture["id"], COUNT)
    daemon.api.stop(capture["id"])
    capture, file = daemon.settled(capture["id"], readers=False)
    assert capture["ledger"]["offered"] == COUNT
    assert sum(capture["ledger"]["dropped"].values()) == 0
    out = harness.tcpdump_select(path, expression, daemon.dir / "want.pcap")
    want = [data for _, _, data in frames.read_pcap(out)]
    assert len(file) == len(want)
    assert file.frames() == want
    assert capture["ledger"]["filtered"] == COUNT - len(want)
    daemon.api.delete(capture["id"])
    return capture["filter_engine"], len(want)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_like_tcpdump(material, expression):
    engine, kept = compare(*material, expression)
    assert engine == (JIT or engine)
    assert 0 < kept < COUNT, "a filter that keeps nothing or all shows little"


@pytest.mark.parametrize("expression", INTERPRETED)
@pytest.mark.sanitize
def test_interpreted_like_tcpdump(material, expression):
    engine, _ = compare(*material, expression)
    assert engine == "interpreter"


def test_no_filter(material):
    assert compare(*material, "") == ("none", COUNT)


@pytest.mark.sanitize
def test_all_at_once(sluiced, dir):
    """Every expression in a session of its own, all on one port together."""
    path = frames.write_pcap(dir / "m.pcap", frames.mixed(COUNT, seed=5))
    daemon = sluiced({"tap0": replay(path, mtu=9200, rate=2000, infinite=False)})
    ids = [daemon.api.create(filter=e)["id"] for e in EXPRESSIONS]
    daemon.api.wait_offered(ids[-1], 1)
    for id in ids:
        daemon.api.stop(id)
    for expression, id in zip(EXPRESSIONS, ids):
        _, file = daemon.settled(id, readers=False)
        frames.write_pcap(dir / "got.pcap", file.frames())
        out = harness.tcpdump_select(dir / "got.pcap", expression, dir / "want.pcap")
        assert [data for _, _, data in frames.read_pcap(out)] == file.frames(), expression


SESSIONS = 64


def flow(n):
    """Which flow the n-th frame is of, and the frame."""
    i = n * 7 % SESSIONS
    kind, side = i % 4, i // 4
    body = struct.pack("!Q", n) + bytes(20)
    src, dst = 0x0A000001 + side, 0x0A010001 + side % 5
    six = lambda v: bytes.fromhex("20010db8") + bytes(8) + struct.pack("!I", v)
    if kind == 0:
        packet = frames.ipv4(17, src, dst, frames.udp(1000 + side, 53, body))
        return i, frames._ether(n, 0x0800) + packet
    if kind == 1:
        packet = frames.ipv4(6, src, dst, frames.tcp(2000 + side, 443, n, 0x10, body))
        return i, frames._ether(n, 0x0800) + packet
    if kind == 2:
        packet = frames.ipv6(17, six(src), six(dst), frames.udp(3000 + side, 53, body))
        return i, frames._ether(n, 0x86DD) + packet
    # A later piece of a datagram: no ports, whatever its bytes look like.
    packet = frames.ipv4(17, src + 0x100, dst, frames.udp(1000 + side, 53, body), n, 185)
    return i, frames._ether(n, 0x0800) + packet


def flow_filter(i):
    """As the vendors' dialects put it."""
    kind, side = i % 4, i // 4
    src, dst = f"10.0.0.{1 + side}", f"10.1.0.{1 + side % 5}"
    if kind == 0:
        return f"src host {src} and dst host {dst} and src port {1000 + side} and dst port 53 and (ip proto 17 or ip6 proto 17)"
    if kind == 1:
        return f"host {src} and port {2000 + side} and tcp"
    if kind == 2:
        return f"ip6 host 2001:db8::a00:{1 + side:x} and udp and src port {3000 + side}"
    return f"src host 10.0.1.{1 + side} and (ip proto 17 or ip6 proto 17)"


def test_many_flows_are_classified(sluiced, dir):
    """A session for each flow: looked up together, each gets its own packets and no others."""
    made = [flow(n) for n in range(SESSIONS * 40)]
    path = frames.write_pcap(dir / "f.pcap", [frame for _, frame in made])
    daemon = sluiced({"tap0": replay(path, infinite=True, rate=20_000)})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        create = lambda i: daemon.api.create(filter=flow_filter(i))["id"]
        ids = list(pool.map(create, range(SESSIONS)))
    other = daemon.api.create(filter="len > 60000")["id"]
    last = daemon.api.capture(other)["ledger"]["offered"]
    daemon.api.wait_offered(other, last + 2 * len(made))
    engines = [daemon.api.capture(id)["filter_engine"] for id in ids]
    assert engines == ["classifier"] * SESSIONS
    assert daemon.api.capture(other)["filter_engine"] == (JIT or "interpreter")
    assert "classifier" in daemon.sluice("show", ids[0]).stdout
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(daemon.api.stop, [*ids, other]))
    for i, id in enumerate(ids):
        capture = daemon.api.wait_closed(id)
        path, file = daemon.file(id)
        harness.check_residuals(capcheck.books(capture, file), capture)
        ledger = capture["ledger"]
        assert sum(ledger["dropped"].values()) == 0
        assert ledger["offered"] == ledger["filtered"] + ledger["accepted"]
        # One in SESSIONS, wherever it began and ended.
        assert abs(ledger["accepted"] * SESSIONS - ledger["offered"]) <= SESSIONS
        assert len(file) == ledger["accepted"]
        own = {frame for flow, frame in made if flow == i}
        assert len(own) == 40 and set(file.frames()) == own
        assert harness.capinfos_count(path) == len(file)
        if i < 4:
            assert harness.tshark_lengths(path) == list(file.origlen)
        path.unlink()
    capture, file = daemon.settled(other)
    assert len(file) == 0 and capture["ledger"]["filtered"] == capture["ledger"]["offered"]
    daemon.sluice("balance")
    daemon.settle_ports()
