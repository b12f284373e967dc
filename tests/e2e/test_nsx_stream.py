# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Streams: packets that leave as GRE in UDP to a receiver in another namespace, which may be slow, dead,
forbidden, or on the captured wire itself."""
import contextlib
import socket
import struct
import subprocess
import sys
import time

import pytest

import capcheck
import frames
import harness
from harness import replay, run, until, watch
from test_nsx import Nsx

COUNT = 600
HERE, THERE = "10.97.1.1", "10.97.1.2"

# Datagrams to a file, each with its source port and length in front.
RECEIVER = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
s.bind(("", int(sys.argv[1])))
out = open(sys.argv[2], "wb", buffering=0)
while True:
    data, (_, port) = s.recvfrom(65535)
    out.write(struct.pack("!HI", port, len(data)) + data)
"""


@contextlib.contextmanager
def program(*command):
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def receiver(inside, port, path):
    with program(*inside, sys.executable, "-c", RECEIVER, port, path) as process:
        until("the receiver listens", path.exists)
        yield process


def datagrams(path):
    """[(source port, data)] of a receiver's file."""
    data = path.read_bytes()
    found, at = [], 0
    while at < len(data):
        port, length = struct.unpack_from("!HI", data, at)
        found.append((port, data[at + 6 : at + 6 + length]))
        at += 6 + length
    return found


def dump_count(path):
    """Whole records of a pcap file that is being written."""
    data, at, n = path.read_bytes(), 24, 0
    while at + 16 <= len(data):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
        n += at <= len(data)
    return n


@pytest.fixture
def far(veth):
    """A wire to a namespace with addresses on both ends."""
    wire = veth()
    wire.inside = wire.into_namespace(f"{HERE}/24", f"{THERE}/24")
    run("ping", "-c", "1", "-W", "5", THERE)
    return wire


@pytest.fixture
def source(dir):
    """Numbered frames of three lengths; the longest does not fit a wire's MTU with what is put before."""
    return frames.write_pcap(
        dir / "s.pcap",
        [frames.numbered(1, n, (62, 300, 1514)[n % 3]) for n in range(COUNT)],
    )


def balanced(capture):
    harness.check_residuals(capcheck.books(capture), capture)
    return capture["ledger"]


@pytest.mark.sanitize
def test_stream_arrives(sluiced, far, source, dir):
    daemon = sluiced({"tap0": replay(source, rate=20_000)}, nsx={"enabled": "yes"})
    nsx = Nsx(daemon)
    dump = dir / "wire.pcap"
    with receiver(far.inside, 4754, dir / "got"), program(
        *far.inside,
        "tcpdump",
        "-i",
        far.far,
        "-U",
        "--immediate-mode",
        "-s",
        2000,
        "-B",
        16384,
        "-w",
        dump,
        "udp or ip[6:2] & 0x3fff != 0",
    ):
        until("tcpdump has begun", lambda: dump.exists() and dump.stat().st_size >= 24)
        time.sleep(0.2)
        made = nsx.create(capmode="STREAM", streamaddress=THERE, capamount=COUNT)
        id = made["sessionid"]
        assert nsx.ended(id)["sessionstatus"] == "FINISHED"
        capture = daemon.api.capture(id)
        ledger = balanced(capture)
        assert ledger["written"] == COUNT and not any(ledger["dropped"].values()), ledger
        got = until(
            "all has arrived",
            lambda: (lambda g: g if len(g) >= COUNT else None)(datagrams(dir / "got")),
        )
        # a third of them in two fragments
        until("tcpdump has written all", lambda: dump_count(dump) >= COUNT + COUNT // 3, 10)
    assert made["request"]["streamaddress"] == THERE and made["request"]["capmode"] == "STREAM"
    assert capture["output"] == {
        "type": "stream",
        "address": THERE,
        "port": 4754,
        "encapsulation": "gre",
    }
    nsx.file(id, 404)
    assert len(got) == COUNT and {port for port, _ in got} == {61754}
    assert {data[:4] for _, data in got} == {b"\0\0\x65\x58"}
    assert [capcheck.number(data[4:]) for _, data in got] == [(1, n) for n in range(COUNT)]
    assert all(capcheck.number_intact(data[4:]) for _, data in got)
    out = harness.quiet(
        "tshark",
        "-n",
        "-r",
        dump,
        "-Y",
        "gre",
        "-T",
        "fields",
        "-e",
        "frame.protocols",
        "-e",
        "udp.dstport",
    ).splitlines()
    # 4754 is GRE to tshark, Ethernet inside it, and our own UDP in that
    assert len(out) == COUNT and all(
        line.startswith("eth:ethertype:ip:udp:gre:eth:ethertype:ip:udp") for line in out
    )
    assert {line.split("\t")[1].split(",")[0] for line in out} == {"4754"}
    nsx.delete(id)


def test_tzsp_by_the_client(sluiced, far, source, dir):
    daemon = sluiced({"tap0": replay(source, rate=20_000)})
    with receiver(far.inside, 5000, dir / "got"):
        made = daemon.sluice(
            "start",
            "-i",
            "tap0",
            "-c",
            100,
            "-s",
            80,
            "--stream",
            f"{THERE}:5000",
            "--encapsulation",
            "tzsp",
        )
        id = made.stdout.strip()
        daemon.api.wait_closed(id)
        got = until(
            "all has arrived",
            lambda: (lambda g: g if len(g) >= 100 else None)(datagrams(dir / "got")),
        )
    assert balanced(daemon.api.capture(id))["written"] == 100
    assert {data[:5] for _, data in got} == {bytes((1, 0, 0, 1, 1))}
    assert {len(data) for _, data in got} == {67, 85}
    assert [capcheck.number(data[5:]) for _, data in got] == [(1, n) for n in range(100)]


def test_dead_and_slow_receivers_cost_only_the_stream(sluiced, far, source, dir):
    daemon = sluiced(
        {"tap0": replay(source, infinite=True, rate=20_000)},
        nsx={"enabled": "yes"},
        stream={"rate": 5000},
    )
    nsx = Nsx(daemon)
    file = daemon.api.create()["id"]
    id = nsx.create(capmode="STREAM", streamaddress=THERE, streamport=4999)["sessionid"]
    ledger = lambda: daemon.api.capture(id)["ledger"]
    # nobody there: the kernel in the namespace says so, and nearly nothing is sent any more
    until("it is dropped", lambda: ledger()["dropped"]["stream_backpressure"] > 10_000)
    before = ledger()
    until(
        "more is dropped",
        lambda: ledger()["dropped"]["stream_backpressure"]
        > before["dropped"]["stream_backpressure"] + 20_000,
    )
    after = ledger()
    assert after["written"] - before["written"] <= 10, "single packets ask whether it is back"
    with receiver(far.inside, 4999, dir / "got"):
        until("it goes on", lambda: ledger()["written"] > after["written"] + 3000)
        # slower than the traffic: of 20,000 a second the rate lets 5,000 through
        first = ledger()
        time.sleep(1)
        second = ledger()
        assert nsx.act(id, "terminate")["sessionstatus"] == "STOPPED"
        capture = daemon.api.capture(id)
        sent = balanced(capture)["written"]
    assert 0 < second["written"] - first["written"] < 9000
    assert second["dropped"]["stream_backpressure"] - first["dropped"]["stream_backpressure"] > 5000
    numbers = [capcheck.number(data[4:])[1] for _, data in datagrams(dir / "got")]
    assert 3000 < len(numbers) <= sent
    daemon.api.stop(file)
    kept, _ = daemon.settled(file, readers=False)
    assert not any(kept["ledger"]["dropped"].values()), "the file lost nothing by it"


def test_no_loop_through_a_captured_port(sluiced, far, dir):
    """The stream leaves by the wire that is captured, long packets in fragments: none of it comes again,
    not even through another stream."""
    daemon = sluiced({"wire": watch(far.tap)}, nsx={"enabled": "yes"})
    nsx = Nsx(daemon)
    with receiver(far.inside, 4754, dir / "got"), receiver(far.inside, 4755, dir / "other"):
        ids = [
            nsx.create(capmode="STREAM", streamaddress=THERE, streamport=port, options=options)[
                "sessionid"
            ]
            for port, options in (
                (4754, {"values": []}),
                (4755, {"values": [{"name": "IPPROTO", "value": "0x11"}]}),
            )
        ]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for n in range(20):
                s.sendto(struct.pack("!I", n) * 360, (THERE, 9))
        mine = lambda name: [
            d for _, d in datagrams(dir / name) if struct.pack("!H", 9) == d[4 + 36 : 4 + 38]
        ]
        for name in ("got", "other"):
            until(f"{name} has all", lambda n=name: len(mine(n)) >= 20)
        time.sleep(1)
        counts = [daemon.api.capture(id)["ledger"]["accepted"] for id in ids]
        time.sleep(1)
        again = [daemon.api.capture(id)["ledger"]["accepted"] for id in ids]
        for id in ids:
            nsx.act(id, "terminate")
            balanced(daemon.api.capture(id))
        assert len(mine("got")) == len(mine("other")) == 20
    # what else is on the wire: answers to port 9, ARP; nothing that multiplies
    assert all(b - a < 10 for a, b in zip(counts, again)), (counts, again)
    assert all(20 <= count < 150 for count in again), again


REFUSED = [
    ("127.0.0.1", "loopback"),
    ("127.9.9.9", "loopback"),
    ("::1", "loopback"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("224.0.0.5", "multicast"),
    ("ff02::1", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("0.0.0.0", "not an address"),
    ("::ffff:10.0.0.1", "IPv4"),
    ("192.0.2.1", "[stream] allow"),
    ("2001:db8::1", "[stream] allow"),
    (HERE, "this host itself"),
]


def test_where_a_stream_may_not_go(sluiced, far, source, dir):
    daemon = sluiced({"tap0": replay(source)}, nsx={"enabled": "yes"})
    nsx = Nsx(daemon)
    for address, word in REFUSED:
        error = nsx.create(400, capmode="STREAM", streamaddress=address)["error_message"]
        assert error.startswith("streamaddress: ") and word in error, error
        native = daemon.api.request(
            "POST", "/api/v1/captures", {"output": {"type": "stream", "address": address}}
        )
        assert native.status == 400 and native.json()["pointer"] == "/output/address", native
    assert "streamaddress" in nsx.create(400, capmode="STREAM")["error_message"]
    assert (
        "capfilesize"
        in nsx.create(400, capmode="STREAM", streamaddress=THERE, capfilesize=1)["error_message"]
    )
    refused = daemon.api.request(
        "POST",
        "/api/v1/captures",
        {"filter": "tcp) or (udp", "output": {"type": "stream", "address": THERE}},
    )
    assert refused.status == 400 and refused.json()["pointer"] == "/filter"
    assert daemon.api.captures()["captures"] == []
    allowing = sluiced({"tap0": replay(source)}, stream={"allow": f"{HERE}/32, 127.0.0.0/8"})
    for address in (HERE, "127.0.0.1"):
        made = allowing.api.create(
            limits={"packets": 1}, output={"type": "stream", "address": address}
        )
        balanced(allowing.api.wait_closed(made["id"]))
