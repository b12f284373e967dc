# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Filters through the real daemon select what `tcpdump -r` selects from the same file."""
import platform

import pytest

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
