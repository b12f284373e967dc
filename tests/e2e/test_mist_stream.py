# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The Mist dialect's WebSocket: every packet a message, before and after subscribing, read or not."""
import base64
import json
import os
import struct
import time

import pytest

import capcheck
import frames
import harness
import oracle
import websocket
from harness import Api, replay, run, until

SITE = "67970e46-4e12-11e6-9188-0242ac110007"
ORG = "a9346fba-f920-e99a-cc51-2e8dcc57fa3c"
OTHER = "11111111-2222-4333-8444-555555555555"
DEVICE = "5c5b35000010"
CHANNEL, EDGES = f"/sites/{SITE}/pcaps", f"/orgs/{ORG}/pcaps"
RATE = 2000
WIRED = ["src_mac", "dst_mac", "vlan", "src_ip", "dst_ip", "src_port", "dst_port", "proto", "ap_mac"]
WIRED += ["direction", "timestamp", "length", "interface", "info"]


@pytest.fixture(scope="module")
def daemon(module_dir):
    made = []
    for n in range(500):
        frame = frames.numbered(1, n, 80 + n % 300, sport=1000 + n % 7, dport=53)
        made.append(frame[:12] + b"\x81\0\0\x2a" + frame[12:] if n % 5 == 0 else frame)
    made[7] = b"\xff" * 6 + made[7][6:12] + b"\x08\x06" + struct.pack(
        "!HHBBH6sI6sI", 1, 0x800, 6, 4, 1, made[7][6:12], 0x0A000001, bytes(6), 0x0A000002
    )
    path = frames.write_pcap(module_dir / "s.pcap", made)
    with harness.Daemon(
        {"tap0": replay(path, infinite=True, rate=RATE)},
        **{
            "mist": {"enabled": "yes", "devices": f"{DEVICE}=tap0"},
            "account default": {"site_id": SITE, "org_id": ORG, "ports": "*"},
            "account other": {"site_id": OTHER, "ports": "*"},
        },
    ) as daemon:
        yield daemon


class Stream(websocket.Socket):
    def __init__(self, daemon, *channels, token=None, **options):
        auth = f"Authorization: Token {token or daemon.api.token}"
        super().__init__(daemon.http, "/api-ws/v1/stream", [auth, "Origin: http://localhost"], **options)
        for channel in channels:
            self.subscribe(channel)

    def subscribe(self, channel):
        self.ask(subscribe=channel)
        # A client gives up 10 s after it asked.
        assert self.event("channel_subscribed", seconds=10) == {
            "event": "channel_subscribed", "channel": channel,
        }

    def until_end(self, id, channel=CHANNEL):
        """All messages of one capture, and its end."""
        got = []
        while True:
            message = self.event("data")
            assert message["channel"] == channel
            data = message["data"]
            if data["capture_id"] != id:
                continue
            if data["pcap_dict"] is None:
                assert set(data) == {"capture_id", "lost_messages", "pcap_dict"}
                return got, data
            got.append(data)


def start(daemon, path=f"/api/v1{CHANNEL}/capture", **body):
    answer = Api(daemon.http).request(
        "POST", path, {"type": "wired", **body}, {"Authorization": f"Token {daemon.api.token}"}
    )
    assert answer.status == 200, answer
    return answer.json()


def stop(daemon, path=f"/api/v1{CHANNEL}/capture"):
    headers = {"Authorization": f"Token {daemon.api.token}"}
    assert Api(daemon.http).request("DELETE", path, None, headers).status == 200


def raw_packet(text):
    """The one packet of a message's pcap file: (time, captured, original length)."""
    data = base64.b64decode(text, validate=True)
    assert data[:24] == struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    seconds, micros, caplen, origlen = struct.unpack("<IIII", data[24:40])
    assert len(data) == 40 + caplen
    return seconds * 10**6 + micros, data[40:], origlen


def same_packets(messages, file):
    """The messages are the file's packets, in their order, none missing."""
    raws = [raw_packet(m["pcap_raw"]) for m in messages]
    assert [raw for _, raw, _ in raws] == file.frames()
    assert [t for t, _, _ in raws] == [stamp // 1000 for stamp in file.stamp]
    assert [size for _, _, size in raws] == list(file.origlen)


@pytest.mark.sanitize
def test_every_packet_is_a_message(daemon):
    with Stream(daemon, CHANNEL) as stream:
        made = start(daemon, num_packets=200, max_pkt_len=96)
        messages, end = stream.until_end(made["id"])
    _, file = daemon.settled(made["id"])
    assert len(messages) == 200 and end["lost_messages"] == 0
    assert {m["lost_messages"] for m in messages} == {0}
    same_packets(messages, file)
    for message, frame, size, stamp in zip(messages, file.frames(), file.origlen, file.stamp):
        told = message["pcap_dict"]
        assert list(told) == WIRED
        assert told["src_mac"] == frame[6:12].hex(":") and told["dst_mac"] == frame[:6].hex(":")
        assert told["ap_mac"] == "5c:5b:35:00:00:10" and told["interface"] == "wired"
        assert told["direction"] in ("tx", "rx") and told["timestamp"] == stamp // 10**9
        assert isinstance(told["length"], float) and told["length"] == size
        assert told["info"].endswith("\n") and told["info"].startswith(f"{stamp // 10**9}.")
        if frame[12:14] == b"\x08\x06":
            assert told["proto"] == "ARP" and told["src_port"] is None
            continue
        assert told["vlan"] == (42 if frame[12:14] == b"\x81\0" else None)
        assert (told["src_ip"], told["dst_ip"]) == ("10.0.0.2", "10.0.1.0")
        assert told["dst_port"] == 53 and told["src_port"] in range(1000, 1007) and told["proto"] == "UDP"
        assert "10.0.0.2" in told["info"]


@pytest.mark.sanitize
def test_a_late_subscriber_gets_what_there_was(daemon):
    """Clients start a capture first and subscribe afterwards."""
    made = start(daemon, num_packets=0)
    until("there are packets", lambda: daemon.api.capture(made["id"])["ledger"]["written"] > 300)
    with Stream(daemon, CHANNEL) as stream, Stream(daemon, CHANNEL) as second:
        for _ in range(100):
            stream.event("data")
        stop(daemon)
        rest, end = stream.until_end(made["id"])
        both, _ = second.until_end(made["id"])
    capture, file = daemon.settled(made["id"], readers=False)
    assert capture["ledger"]["accepted"] == len(both) == 100 + len(rest) and end["lost_messages"] == 0
    same_packets(both, file)
    # One that had ended before anybody subscribed is told once, and to nobody who comes later.
    made = start(daemon, num_packets=20)
    daemon.settled(made["id"], readers=False)
    with Stream(daemon, CHANNEL) as stream:
        messages, _ = stream.until_end(made["id"])
        assert len(messages) == 20
    with Stream(daemon, CHANNEL) as stream:
        with pytest.raises(TimeoutError):
            stream.read(0.5)


def test_who_does_not_read_loses_and_is_told(daemon):
    """Read + lost = captured; neither the capture nor another subscriber notices."""
    with Stream(daemon, CHANNEL) as reader, Stream(daemon, CHANNEL, receive_buffer=4096) as sleeper:
        made = start(daemon, num_packets=6000, max_pkt_len=2048)
        got, end = reader.until_end(made["id"])
        late, late_end = sleeper.until_end(made["id"])
    capture, file = daemon.settled(made["id"], readers=False)
    assert capture["ledger"]["accepted"] == 6000
    assert len(got) + sum(m["lost_messages"] for m in [*got, end]) == 6000
    assert len(late) + sum(m["lost_messages"] for m in [*late, late_end]) == 6000
    assert len(got) > len(late) >= 1900, "2,000 are kept for who reads late"
    frames_of = {raw_packet(m["pcap_raw"])[1] for m in late}
    assert frames_of <= set(file.frames())


def test_many_subscribers_half_of_them_asleep(daemon):
    before = daemon.rss()
    streams = [Stream(daemon, CHANNEL, receive_buffer=4096) for _ in range(60)]
    try:
        made = start(daemon, num_packets=3000)
        for stream in streams[::2]:
            stream.until_end(made["id"])
        assert daemon.rss() - before < 60 * 300_000 + 32 * 2**20
    finally:
        for stream in streams:
            stream.socket.close()
    capture, file = daemon.settled(made["id"], readers=False)
    assert len(file) == 3000 and not any(capture["ledger"]["dropped"].values())
    complaints, _ = capcheck.claims(file)
    assert capture["reason"] == "packet_limit"


def test_edges_have_a_channel_of_their_own(daemon):
    with Stream(daemon, CHANNEL, EDGES) as stream:
        edge = f"/api/v1{EDGES}/capture"
        site = start(daemon, num_packets=30)
        made = start(daemon, edge, type="mxedge", mxedges={}, num_packets=30)
        seen = {}
        while len([d for d in seen.values() if d[-1]["pcap_dict"] is None]) < 2:
            message = stream.event("data")
            seen.setdefault((message["channel"], message["data"]["capture_id"]), []).append(message["data"])
    assert set(seen) == {(CHANNEL, site["id"]), (EDGES, made["id"])}
    told = seen[EDGES, made["id"]][0]["pcap_dict"]
    assert "protocol" in told and "proto" not in told and told["interface"] == "tap0"
    assert told["mxedge_id"] == f"00000000-0000-0000-1000-{DEVICE}"
    for id in (site["id"], made["id"]):
        daemon.settled(id, readers=False)


@pytest.mark.sanitize
def test_refusals(daemon):
    def token(name, account):
        body = {"name": name, "role": "viewer", "account": account}
        return daemon.api.ask("POST", "/api/v1/tokens", body, 201)["secret"]

    for headers in ([], ["Authorization: Token wrong"], [f"Authorization: Bearer {daemon.api.token}"]):
        with pytest.raises(websocket.Refused) as refused:
            websocket.Socket(daemon.http, "/api-ws/v1/stream", headers)
        assert refused.value.status == 401 and "application/json" in refused.value.head
    answer = Api(daemon.http).request(
        "GET", "/api-ws/v1/stream", None, {"Authorization": f"Token {daemon.api.token}"}
    )
    assert answer.status == 426 and answer.json()["detail"]
    with Stream(daemon, token=token("mstream", "default")) as stream:
        for channel in (f"/sites/{OTHER}/pcaps", "/sites/x/pcaps", f"/sites/{SITE}/stats", "", "x" * 500,
                        f"{CHANNEL}/", f"/site/{SITE}/pcaps", '/sites/"/pcaps'):
            stream.ask(subscribe=channel)
            failed = stream.event()
            assert failed["event"] == "subscribe_failed" and failed["channel"] == channel
            assert failed["detail"]
        for rubbish in ("{", "[]", '{"subscribe":5}', "null", "\u00e4"):
            stream.send(rubbish)
            assert stream.event()["event"] == "subscribe_failed"
        # and it still works; twice is once; to leave is possible
        stream.subscribe(CHANNEL)
        stream.subscribe(CHANNEL)
        stream.ask(unsubscribe=CHANNEL)
        assert stream.event()["event"] == "channel_unsubscribed"
        made = start(daemon, num_packets=10)
        daemon.settled(made["id"], readers=False)
        with pytest.raises(TimeoutError):
            stream.read(0.3)
        stream.send(b"ping", websocket.PING)
        assert stream.frame() == (websocket.PONG, b"ping")
        # 2,000 channels a connection: the same one in other cases of its letters
        for n in range(2001):
            name = "".join(c.upper() if n >> i & 1 else c for i, c in enumerate(ORG.replace("-", "")[:12]))
            stream.ask(subscribe="/orgs/" + "-".join([name[:8], name[8:12], ORG[14:]]) + "/pcaps")
        events = [stream.event()["event"] for _ in range(2001)]
        assert set(events) <= {"channel_subscribed", "subscribe_failed"}
    daemon.api.ask("DELETE", "/api/v1/tokens/mstream", want=204)


def test_as_mistapi_does_it(daemon, dir):
    """npm's ws: REST first, then the WebSocket, a ping, until the null message."""
    place = oracle.npm_install(harness.SOURCE / "tests" / "e2e" / "mist", dir / "client")
    environment = {
        **os.environ,
        "SLUICE_URL": daemon.api.url,
        "SLUICE_TOKEN": daemon.api.token,
        "MIST_SITE": SITE,
    }
    done = run("node", "client.mjs", cwd=place, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    told = json.loads(done.stdout)
    _, file = daemon.settled(told["started"]["id"])
    assert len(told["messages"]) == 300 and told["end"]["lost_messages"] == 0
    same_packets(told["messages"], file)


def test_the_daemon_stops_under_subscribers(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 100) for n in range(10)])
    daemon = sluiced(
        {"tap0": replay(path, infinite=True, rate=RATE)},
        **{"mist": {"enabled": "yes"}, "account default": {"site_id": SITE, "org_id": ORG}},
    )
    with Stream(daemon, CHANNEL) as stream, Stream(daemon, CHANNEL, EDGES):
        start(daemon, num_packets=0)
        stream.event("data")
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 10 * harness.SLOW
