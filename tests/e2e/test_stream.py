# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Watching: packet lists, live downloads and the WebSocket, against what was sent and what tshark
reads; and that nobody who watches, or does not look, costs a capture a packet."""
import base64
import json
import resource
import subprocess
import time

import pytest

import capcheck
import frames
import harness
import net
import websocket
from harness import SLOW, check_residuals, until, watch

STREAM = "/api/v1/stream"


def bearer(daemon):
    return [f"Authorization: Bearer {daemon.api.token}"]


def connect(daemon, **options):
    return websocket.Socket(daemon.api.port, STREAM, bearer(daemon), timeout=30 * SLOW, **options)


def subscribe(socket, id, **options):
    socket.ask(subscribe="capture", id=id, **options)
    answer = socket.event("subscribed", "error")
    assert answer["event"] == "subscribed", answer
    return answer


def listen(socket):
    """Everything up to the end of the capture: packets, how many were skipped, the end's own words."""
    packets, skipped = [], 0
    while True:
        message = socket.event("packets", "end")
        if message["event"] == "end":
            return packets, message
        packets += message["packets"]
        skipped += message["skipped"]


FIELDS = ["frame.len", "eth.src", "eth.dst", "vlan.id", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
          "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport"]


def tshark_rows(path):
    """What tshark says of each frame's outermost headers."""
    words = ["tshark", "-r", path, "-T", "fields", "-E", "separator=|", "-E", "occurrence=f",
             "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
    for field in FIELDS:
        words += ["-e", field]
    lines = harness.run(*words).stdout.splitlines()
    return [dict(zip(FIELDS, line.split("|"))) for line in lines]


def check_against_tshark(packets, rows):
    assert len(packets) == len(rows)
    n_ip = n_ports = 0
    for packet, row in zip(packets, rows):
        about = (packet, row)
        assert packet["length"] == int(row["frame.len"]), about
        if not row["eth.src"]:
            continue
        assert (packet["src_mac"], packet["dst_mac"]) == (row["eth.src"], row["eth.dst"]), about
        if row["vlan.id"]:
            assert int(row["vlan.id"]) in packet["vlans"], about
        source = row["ip.src"] or row["ipv6.src"]
        if source and packet["tunnel"] is None and not (row["ip.src"] and row["ipv6.src"]):
            assert packet["src_ip"] == source, about
            assert packet["dst_ip"] == (row["ip.dst"] or row["ipv6.dst"]), about
            n_ip += 1
        port = row["tcp.srcport"] or row["udp.srcport"]
        if port and packet["src_port"] is not None:
            assert packet["src_port"] == int(port), about
            assert packet["dst_port"] == int(row["tcp.dstport"] or row["udp.dstport"]), about
            n_ports += 1
    assert n_ip > len(rows) // 3 and n_ports > len(rows) // 5


@pytest.mark.sanitize
def test_packets_are_what_tshark_reads(sluiced, veth, tmp_path):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = frames.mixed(1500, seed=5, longest=1400, runts=False)
    id = daemon.api.create()["id"]
    with net.Sender(wire.far) as sender:
        sender.send(sent, pps=20000)
    daemon.api.wait_offered(id, len(sent))
    daemon.api.stop(id)
    capture, file = daemon.settled(id)
    packets = []
    for offset in range(0, len(sent), 400):
        page = daemon.api.ask("GET", f"/api/v1/captures/{id}/packets?offset={offset}&limit=400")
        assert page["total"] == len(sent)
        packets += page["packets"]
    assert [packet["number"] for packet in packets] == list(range(1, len(sent) + 1))
    check_against_tshark(packets, tshark_rows(daemon.file(id)[0]))
    assert daemon.api.ask("GET", f"/api/v1/captures/{id}/packets?offset=1500")["packets"] == []
    for query in ("limit=0", "limit=1001", "offset=-1", "offset=x", "from=1"):
        answer = daemon.api.request("GET", f"/api/v1/captures/{id}/packets?{query}")
        assert answer.status == 400 and query.split("=")[0] in answer.body.decode()
    listed = daemon.sluice("packets", id, "-n", "3").stdout.splitlines()
    assert len(listed) == 4 and packets[2]["info"].split()[0] in listed[3]


@pytest.mark.sanitize
def test_the_stream_tells_each_packet_and_the_end(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = [frames.numbered(1, n, 70 + n % 1200) for n in range(300)]
    id = daemon.api.create()["id"]
    with connect(daemon) as plain, connect(daemon) as raw, net.Sender(wire.far) as sender:
        assert subscribe(plain, id)["format"] == "summary"
        assert subscribe(raw, id, format="raw", rate=5000, bytes=16384)["rate"] == 5000
        sender.send(sent, pps=500)
        daemon.api.wait_offered(id, len(sent))
        until("rates are told", lambda: plain.event("rates")["ledger"]["accepted"] > 0)
        daemon.api.stop(id)
        _, plain_end = listen(plain)
        packets, end = listen(raw)
    capture, file = daemon.settled(id)
    assert end["reason"] == plain_end["reason"] == "stopped"
    assert end["delivered"] + end["skipped"] == capture["ledger"]["written"] == len(sent)
    assert plain_end["delivered"] + plain_end["skipped"] == len(sent)
    assert plain_end["delivered"] > 0
    assert end["skipped"] == 0, "500 a second is less than was asked for"
    assert [base64.b64decode(packet["data"]) for packet in packets] == file.frames() == sent
    assert [packet["number"] for packet in packets] == list(range(1, len(sent) + 1))
    assert all(packet["protocol"] == "UDP" for packet in packets)


def test_a_rate_is_kept_and_what_it_costs_is_counted(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = [frames.numbered(1, n, 100) for n in range(4000)]
    id = daemon.api.create(output={"type": "none"})["id"]
    with connect(daemon) as slow, net.Sender(wire.far) as sender:
        subscribe(slow, id, rate=50)
        sender.send(sent, pps=4000)
        daemon.api.wait_offered(id, len(sent))
        daemon.api.stop(id)
        packets, end = listen(slow)
    capture = daemon.api.wait_closed(id)
    check_residuals(capcheck.books(capture), "output none")
    assert end["delivered"] == len(packets) < 200
    assert end["delivered"] + end["skipped"] == len(sent) == capture["ledger"]["accepted"]
    numbers = [packet["number"] for packet in packets]
    assert numbers == sorted(numbers) and numbers[-1] - numbers[0] > 2000, "chosen evenly"


def test_live_is_pcapng_that_tshark_reads(sluiced, veth, tmp_path):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = [frames.numbered(1, n, 70 + n % 1200) for n in range(2000)]
    id = daemon.api.create()["id"]
    environment = daemon.client_env()
    live = tmp_path / "live.pcapng"
    with open(live, "wb") as out:
        raw = subprocess.Popen([harness.SLUICE, "watch", "--raw", id], stdout=out, env=environment)
        lines = subprocess.Popen([harness.SLUICE, "watch", "--packets", id], env=environment,
                                 stdout=subprocess.PIPE, text=True)
        until("the header came", lambda: live.stat().st_size > 0)
        time.sleep(0.5 * SLOW)
        with net.Sender(wire.far) as sender:
            sender.send(sent, pps=4000)
        daemon.api.wait_offered(id, len(sent))
        daemon.api.stop(id)
        text = lines.communicate(timeout=30 * SLOW)[0].splitlines()
        assert raw.wait(timeout=30 * SLOW) == 0 and lines.returncode == 0
    _, file = daemon.settled(id)
    seen = capcheck.read(live, closed=False)
    assert seen.frames() == file.frames() == sent
    assert harness.capinfos_count(live) == len(sent)
    assert harness.tshark_lengths(live) == [len(frame) for frame in sent]
    assert len(text) == len(sent)
    assert all(" IP 10." in line and "UDP, length" in line for line in text[:10]), text[:3]
    answer = daemon.api.request("GET", f"/api/v1/captures/{id}/live")
    assert answer.status == 409
    answer = daemon.api.request("GET", f"/api/v1/captures/{id}/live?format=gif")
    assert answer.status == 400 and "format" in answer.body.decode()


def test_live_says_what_it_skips(sluiced, tmp_path):
    """A source that is faster than any watcher: shown and skipped are what the capture accepted."""
    daemon = sluiced({"tap0": {"device": "net_null0,size=1500", "poll": "wanted", "rate": 300_000}})
    id = daemon.api.create(output={"type": "none"})["id"]
    live = tmp_path / "live.pcapng"
    with open(live, "wb") as out:
        raw = subprocess.Popen([harness.SLUICE, "watch", "--raw", id], stdout=out,
                               env=daemon.client_env())
        time.sleep(1.0 * SLOW)
        daemon.api.stop(id)
        assert raw.wait(timeout=30 * SLOW) == 0
    capture = daemon.api.wait_closed(id)
    check_residuals(capcheck.books(capture), "output none")
    seen = capcheck.read(live, closed=False)
    skipped = sum(seen.dropcount) + max(0, seen.statistics[-1].tail_gap)
    assert skipped > 0 and len(seen) > 0
    assert len(seen) + skipped <= capture["ledger"]["accepted"]
    assert seen.statistics[-1].usrdeliv == len(seen)
    assert harness.capinfos_count(live) == len(seen)


def test_a_thousand_watchers_cost_no_packet(sluiced, veth):
    """Half of them never read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < 8192 else 8192, hard))
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    id = daemon.api.create()["id"]
    before = daemon.rss()
    sockets = []
    try:
        for n in range(1000):
            sockets.append(connect(daemon, receive_buffer=4096 if n % 2 else None))
            sockets[-1].ask(subscribe="capture", id=id, format="raw" if n % 4 else "summary")
        for socket in sockets[::2]:
            assert socket.event("subscribed")
        sent = [frames.numbered(1, n, 1000) for n in range(10_000)]
        with net.Sender(wire.far) as sender:
            sender.send(sent, pps=5000)
        daemon.api.wait_offered(id, len(sent))
        assert daemon.api.ask("GET", "/api/v1/status"), "and the API answers"
        grown = daemon.rss() - before
        daemon.api.stop(id)
        ends = []
        for socket in sockets[::2][:50]:
            packets, end = listen(socket)
            assert len(packets) == end["delivered"]
            ends.append(end)
    finally:
        for socket in sockets:
            socket.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    capture, file = daemon.settled(id)
    assert capture["ledger"]["written"] == len(sent) == len(file), "not one was lost"
    assert grown < (256 << 20) * SLOW, grown
    assert all(end["delivered"] + end["skipped"] == len(sent) for end in ends)
    assert sum(end["delivered"] for end in ends) > 0
    until("the sockets are gone", lambda: daemon.fds() < 100)


def test_the_stream_has_manners(sluiced, veth):
    daemon = sluiced({"tap0": watch(veth().tap)})
    id = daemon.api.create()["id"]
    port = daemon.api.port
    for headers in ([], ["Authorization: Bearer " + "0" * 64],
                    ["Sec-WebSocket-Protocol: sluice.v1, bearer." + "0" * 64]):
        with pytest.raises(websocket.Refused) as refused:
            websocket.Socket(port, STREAM, headers)
        assert refused.value.status == 401
    assert daemon.api.request("GET", STREAM).status == 426
    protocol = [f"Sec-WebSocket-Protocol: sluice.v1, bearer.{daemon.api.token}"]
    with websocket.Socket(port, STREAM, protocol) as socket:
        assert "Sec-WebSocket-Protocol: sluice.v1" in socket.head
        for message, status, field in (
                ("nonsense", 400, None), ("[]", 400, None), ("{}", 400, "subscribe"),
                ('{"subscribe":"nothing"}', 400, "subscribe"),
                ('{"subscribe":"capture"}', 400, "id"),
                ('{"subscribe":"capture","id":"x"}', 404, "id"),
                ('{"subscribe":"status","unsubscribe":"status"}', 400, "subscribe"),
                ('{"subscribe":"capture","id":"%s","rate":0}' % id, 400, "rate"),
                ('{"subscribe":"capture","id":"%s","rate":10001}' % id, 400, "rate"),
                ('{"subscribe":"capture","id":"%s","bytes":13}' % id, 400, "bytes"),
                ('{"subscribe":"capture","id":"%s","format":"x"}' % id, 400, "format"),
                ('{"subscribe":"capture","id":"%s","more":1}' % id, 400, "more"),
                ('{"unsubscribe":"capture","id":"%s"}' % id, 404, "id")):
            socket.send(message)
            answer = socket.event("error", "subscribed")
            assert answer["event"] == "error" and answer["status"] == status, (message, answer)
            assert field is None or answer["field"] == field, (message, answer)
        subscribe(socket, id)
        socket.ask(subscribe="capture", id=id)
        assert socket.event("error")["status"] == 409
        socket.ask(unsubscribe="capture", id=id)
        assert socket.event("unsubscribed")["delivered"] == 0
        socket.ask(subscribe="status")
        assert socket.event("subscribed")["to"] == "status"
        status = socket.event("status")
        assert status["status"]["version"] and [c["id"] for c in status["captures"]] == [id]
        daemon.api.stop(id)
        daemon.api.wait_closed(id)
        socket.ask(subscribe="capture", id=id)
        assert socket.event("error")["status"] == 409
        socket.send(b"\0", websocket.BINARY)
        with pytest.raises(websocket.Closed) as closed:
            socket.event("nothing")
        assert closed.value.code == 1003
    daemon.settled(id)


def test_the_daemon_stops_under_watchers(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    id = daemon.api.create()["id"]
    sockets = [connect(daemon) for _ in range(5)]
    for socket in sockets:
        subscribe(socket, id)
    raw = subprocess.Popen([harness.SLUICE, "watch", "--raw", id], env=daemon.client_env(),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    daemon.stop()
    raw.wait(timeout=30 * SLOW)
    for socket in sockets:
        with pytest.raises((websocket.Closed, ConnectionError)):
            while True:
                socket.event()
        socket.socket.close()
