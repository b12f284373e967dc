# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The Juniper Mist dialect: captures of a site and of an organisation, lists, signed links."""
import os
import re
import socket
import stat
import time
import uuid

import pytest

import capcheck
import frames
import harness
import oracle
from harness import Api, replay, run, until

SITE = "67970e46-4e12-11e6-9188-0242ac110007"
ORG = "a9346fba-f920-e99a-cc51-2e8dcc57fa3c"
OTHER = "11111111-2222-4333-8444-555555555555"
DEVICES = {"tap0": "5c5b35000010", "tap1": "5c5b35000011"}
PCAPS = f"/api/v1/sites/{SITE}/pcaps"
CAPTURE = f"{PCAPS}/capture"
EDGE = f"/api/v1/orgs/{ORG}/pcaps/capture"
CLIENT, PEER, GROUP = (bytes.fromhex(text) for text in ("60a10a773412", "60a10a773499", "01005e000001"))


def traffic(stream):
    """Ten each of: TCP, UDP of another port, to the client, of the client, of another to a group."""
    made = []
    for n in range(10):
        made.append(frames.numbered(stream, 5 * n, 200, dport=53))
        made.append(frames.numbered(stream, 5 * n + 1, 300 + n, dport=443))
        made.append(frames.numbered(stream, 5 * n + 2, 1400, dst=CLIENT))
        head = PEER + CLIENT
        made.append(head + frames.numbered(stream, 5 * n + 3, 100)[12:])
        made.append(frames.numbered(stream, 5 * n + 4, 100, dst=GROUP))
    return made


@pytest.fixture(scope="module")
def daemon(module_dir):
    def source(stream):
        path = frames.write_pcap(module_dir / f"{stream}.pcap", traffic(stream))
        return replay(path, infinite=True, device=f"net_pcap{stream}", rate=2000)

    devices = ", ".join(f"{mac}={port}" for port, mac in DEVICES.items())
    with harness.Daemon(
        {"tap0": source(0), "tap1": source(1)},
        **{
            "mist": {"enabled": "yes", "devices": devices, "url_ttl": "2s"},
            "account default": {"site_id": SITE, "org_id": ORG, "ports": "*"},
            "account other": {"site_id": OTHER, "ports": "tap1"},
        },
    ) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def judge():
    """Every exchange of this file; the published description has the last word."""
    return oracle.Exchanges("mist-pcaps.openapi.json", "mist.patch.json")


class Client:
    def __init__(self, daemon, judge=None, token=None):
        self.api, self.judge = Api(daemon.http), judge
        self.headers = {"Authorization": f"Token {token or daemon.api.token}"}

    def ask(self, method, path, body=None, want=200):
        answer = self.api.request(method, path, body, self.headers)
        assert answer.status == want, answer
        assert answer.headers["Content-Type"] == "application/json"
        if self.judge:
            self.judge.add(method, path, body, answer)
        return answer.json()

    def start(self, path=CAPTURE, want=200, **body):
        return self.ask("POST", path, body, want)

    def items(self, query="", path=PCAPS):
        return self.ask("GET", f"{path}{query}")["results"]

    def ended(self, id, path=PCAPS):
        """The list's item once there is a file, as clients poll for it."""

        def look():
            item = next(i for i in self.items("?limit=5", path) if i["id"] == id)
            return item if item["url"] else None

        return until(f"{id} has a link", look)


@pytest.fixture
def client(daemon, judge):
    client = Client(daemon, judge)
    yield client
    for path in (CAPTURE, EDGE):
        assert client.ask("DELETE", path) == {}


@pytest.mark.sanitize
def test_wired(daemon, client):
    began = time.time()
    made = client.start(
        type="wired",
        duration=600,
        num_packets=100,
        max_pkt_len=128,
        ap_mac="5C:5B:35:00:00:10",
        tcpdump_expression="udp port 53 or udp port 443 -vvv -tttt -en",
        band="24",
        raw=False,
    )
    assert uuid.UUID(made["id"]) and (made["org_id"], made["site_id"]) == (ORG, SITE)
    assert (made["type"], made["format"], made["enabled"]) == ("wired", "pcap", True)
    assert (made["duration"], made["num_packets"], made["max_pkt_len"]) == (600, 100, 128)
    assert abs(made["timestamp"] - began) < 5 * harness.SLOW
    assert round(made["expiry"] - made["timestamp"], 3) == 600
    assert made["aps"] == [DEVICES["tap0"]] and made["ap_count"] == 1 and made["invalid_aps"] == {}
    assert made["tcpdump_parser_expression"] == "udp port 53 or udp port 443"
    item = client.ended(made["id"])
    assert (item["type"], item["format"], item["max_num_packets"]) == ("wired", "pcap", 100)
    assert item["ap_macs"] == [DEVICES["tap0"]] and item["termination_reason"] == "default"
    assert int(item["timestamp"]) in range(int(began), int(began) + 10)

    # The link needs no credentials, and nothing that is changed in it works.
    link = re.fullmatch(r"http://127\.0\.0\.1:\d+(/.*expires=(\d+)&signature=)([0-9a-f]{64})", item["pcap_url"])
    stranger = Api(daemon.http)
    answer = stranger.request("GET", link[1] + link[3])
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/vnd.tcpdump.pcap"
    assert answer.body[:4] == bytes.fromhex("d4c3b2a1")
    path = daemon.dir / "mist.pcap"
    path.write_bytes(answer.body)
    packets = frames.read_pcap(path)
    assert harness.capinfos_count(path) == len(packets) == 100
    assert {len(data) for _, _, data in packets} == {128}
    later = link[1].replace(link[2], str(int(link[2]) + 1))
    for bad in (later + link[3], link[1] + link[3][::-1], link[1] + link[3].upper(), link[1]):
        if bad != link[1] + link[3]:
            assert stranger.request("GET", bad).status == 403, bad
    until("the link expires", lambda: stranger.request("GET", link[1] + link[3]).status == 403, 10)

    capture, file = daemon.settled(made["id"])
    assert capture["dialect"] == "mist" and capture["ports"] == ["tap0"]
    assert capture["reason"] == "packet_limit" and capture["account"] == "default"
    assert [data for _, _, data in packets] == file.frames()
    assert {n % 5 for _, n in map(capcheck.number, file.frames())} == {0, 1}
    key = daemon.root / "links.key"
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600


@pytest.mark.sanitize
def test_status_stop_and_notes(daemon, client):
    assert client.ask("DELETE", CAPTURE) == {}
    client.ask("GET", CAPTURE, want=404)
    made = client.start(type="wired", num_packets=0, tcpdump_expression="udp port 53")
    status = until(
        "packets are counted", lambda: (lambda s: s if s["num_packets"] else None)(client.ask("GET", CAPTURE))
    )
    assert status["id"] == made["id"] and status["type"] == "wired" and status["format"] == "pcap"
    assert (status["max_num_packets"], status["max_pkt_len"], status["duration"]) == (0, 512, 600)
    assert status["tcpdump_expression"] == "udp port 53" and status["failed"] == []
    assert sorted(status["aps"]) == sorted(status["ok"]) == sorted(DEVICES.values())
    assert abs(status["started_time"] - time.time()) < 10 * harness.SLOW
    refused = client.start(type="wired", want=400)
    assert "Recording already in progress" in refused["detail"]
    assert client.items()[0]["id"] == made["id"] and "pcap_url" not in client.items()[0]
    assert client.ask("DELETE", CAPTURE) == {}
    again = client.start(type="wired", num_packets=1)
    client.ended(again["id"])
    capture, file = daemon.settled(made["id"])
    assert capture["reason"] == "stopped" and capture["ports"] == ["tap0", "tap1"]
    assert {stream for stream, _ in map(capcheck.number, file.frames())} == {0, 1}

    assert client.ask("PUT", f"{PCAPS}/{made['id']}", {"notes": "wired pcap test"}) == {}
    assert daemon.api.capture(made["id"])["notes"] == "wired pcap test"
    assert next(i for i in client.items() if i["id"] == made["id"])["notes"] == "wired pcap test"
    assert client.ask("PUT", f"{PCAPS}/{OTHER}", {"notes": "x"}, want=404)["id"] == OTHER
    assert client.ask("PUT", f"{PCAPS}/{made['id']}", {"notes": 5}, want=400)["detail"].startswith("notes")


def kinds(file):
    return {n % 5 for _, n in map(capcheck.number, file.frames())}


@pytest.mark.parametrize("mcast,expected", [(False, {2, 3}), (True, {2, 3, 4})])
def test_client(daemon, client, mcast, expected):
    made = client.start(
        type="client", client_mac="60A10A-773412", includes_mcast=mcast, num_packets=50, ssid=None
    )
    assert made["client_mac"] == CLIENT.hex() and made["include_mcast"] is mcast
    item = client.ended(made["id"])
    assert item["format"] == "pcap" and item["pcap_url"]
    _, file = daemon.settled(made["id"], readers=False)
    assert kinds(file) == expected and len(file) == 50
    assert client.items(f"?client_mac={CLIENT.hex()}")[0]["id"] == made["id"]
    assert client.items("?client_mac=60a10a773499") == []


SWITCHES = [
    # (devices, top-level expression, ports, kinds)
    ({}, None, {"tap0", "tap1"}, {0, 1, 2, 3, 4}),
    ({"5c5b35000010": {}}, "udp port 53", {"tap0"}, {0}),
    ({"5c5b35000010": {"ports": {"ge-0/0/0": {"tcpdump_expression": "udp port 443"}, "ge-0/0/1": {}}}},
     "udp port 53", {"tap0"}, {0, 1}),
    ({"5c5b35000010": {"ports": {"ge-0/0/0": {}}}, "001122334466": {"ports": {"ge-0/0/0": {}}}}, None,
     {"tap0"}, {0, 1, 2, 3, 4}),
    ({"5c5b35000010": {"ports": {"a": {"tcpdump_expression": "udp port 443"}}},
      "5c5b35000011": {"ports": {"b": {"tcpdump_expression": "udp port 443"}}}}, None, {"tap0", "tap1"}, {1}),
]


@pytest.mark.parametrize("kind,name", [("switch", "switches"), ("gateway", "gateways")])
def test_devices(daemon, client, kind, name):
    for devices, expression, ports, expected in SWITCHES:
        body = {"type": kind, name: devices, "num_packets": 200, "format": "stream"}
        if expression:
            body["tcpdump_expression"] = expression
        made = client.start(**body)
        assert made["format"] == "stream" and made["type"] == kind
        known = [mac for mac in devices if mac in DEVICES.values()] or list(DEVICES.values())
        unknown = [mac for mac in devices if mac not in DEVICES.values()]
        assert made[name] == known and list(made["invalid_aps"]) == unknown
        item = client.ended(made["id"])
        assert "pcap_url" not in item and item["ap_macs"] == known
        capture, file = daemon.settled(made["id"], readers=False)
        assert set(capture["ports"]) == ports and kinds(file) == expected, devices


@pytest.mark.sanitize
def test_edge(daemon, client):
    """An organisation's captures are its own: beside the site's, and in its own list."""
    site = client.start(type="wired", num_packets=0, tcpdump_expression="udp port 53")
    edges = {f"00000000-0000-0000-1000-{DEVICES['tap1']}": {"interfaces": {"tap1": {"tcpdump_expression": "udp port 443"}}}}
    made = client.start(EDGE, type="mxedge", mxedges=edges, num_packets=100)
    assert made["org_id"] == ORG and made["max_pkt_len"] == 128 and made["format"] == "stream"
    item = client.ended(made["id"], f"/api/v1/orgs/{ORG}/pcaps")
    assert item["id"] == made["id"] and item["type"] == "mxedge"
    assert made["id"] not in [i["id"] for i in client.items()]
    assert client.ask("GET", CAPTURE)["id"] == site["id"]
    client.ask("GET", EDGE, want=404)
    capture, file = daemon.settled(made["id"], readers=False)
    assert capture["ports"] == ["tap1"] and kinds(file) == {1} and capture["snaplen"] == 128


def test_edge_to_a_tzsp_receiver(sluiced, dir, judge):
    """Each packet a TZSP datagram, which tshark takes apart again."""
    made = [frames.numbered(1, n, 70 + n) for n in range(200)]
    path = frames.write_pcap(dir / "s.pcap", made)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.settimeout(10 * harness.SLOW)
        daemon = sluiced(
            {"tap0": replay(path, rate=1000)},
            stream={"allow": "127.0.0.1/32"},
            **{"mist": {"enabled": "yes"}, "account default": {"site_id": SITE, "org_id": ORG}},
        )
        client = Client(daemon, judge)
        started = client.start(
            EDGE,
            type="mxedge",
            mxedges={},
            format="tzsp",
            tzsp_host="127.0.0.1",
            tzsp_port=receiver.getsockname()[1],
            num_packets=len(made),
        )
        assert started["format"] == "tzsp" and started["tzsp_host"] == "127.0.0.1"
        got = [receiver.recv(65536) for _ in made]
    wire = frames.write_pcap(
        dir / "wire.pcap",
        [
            bytes(12) + b"\x08\0" + frames.ipv4(17, 1, 2, frames.udp(61754, 37008, data))
            for data in got
        ],
    )
    fields = ("frame.protocols", "tzsp.encap", "eth.src")
    out = harness.quiet(
        "tshark", "-n", "-r", wire, "-T", "fields", *(w for f in fields for w in ("-e", f))
    )
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == len(made) and all("tzsp:eth" in row[0] for row in rows), rows[:3]
    assert [row[2].split(",")[1] for row in rows] == [frame[6:12].hex(":") for frame in made]
    assert all(data.endswith(frame[:128]) for data, frame in zip(got, made))
    capture = daemon.api.wait_closed(started["id"])
    harness.check_residuals(capcheck.books(capture), capture)
    assert capture["ledger"]["written"] == len(made)
    assert client.items(path=f"/api/v1/orgs/{ORG}/pcaps")[0]["url"] == ""


def test_lists(daemon, client):
    before = len(client.items("?limit=1000"))
    ids = []
    for _ in range(5):
        ids.append(client.start(type="wired", num_packets=1)["id"])
        client.ended(ids[-1])
    now = int(time.time())
    # as the generated SDK asks
    first = client.ask("GET", f"{PCAPS}?page=1&limit=100&start=0&end=0&duration=1d")
    assert first["limit"] == 100 and 0 <= first["end"] - now <= 5 and first["end"] - first["start"] == 86400
    assert [i["id"] for i in first["results"]][:5] == ids[::-1] and "next" not in first
    # page after page, by next
    seen, path = [], f"{PCAPS}?limit=2&duration=1w"
    while path:
        page = client.ask("GET", path)
        assert page["total"] == before + 5 and len(page["results"]) <= 2
        seen += [i["id"] for i in page["results"]]
        path = page.get("next")
        assert path is None or path.startswith("/api/v1/")
    assert len(seen) == len(set(seen)) == before + 5 and seen[:5] == ids[::-1]
    answer = client.api.request("GET", f"{PCAPS}?limit=2&page=2", headers=client.headers)
    assert answer.headers["X-Page-Total"] == str(before + 5)
    assert (answer.headers["X-Page-Limit"], answer.headers["X-Page-Page"]) == ("2", "2")
    stamps = [i["timestamp"] for i in first["results"]]
    assert stamps == sorted(stamps, reverse=True)
    for query, found in (
        (f"start={now - 3600}&end={now + 5}", True),
        (f"end={now - 3600}&duration=1h", False),
        ("start=-1h&end=now", True),
        ("start=-2w&end=-1d", False),
        ("duration=10m", True),
        ("limit=0", False),
        (f"start={now + 100}&end={now + 200}", False),
    ):
        assert bool(client.items(f"?{query}")) is found, query


def test_who_may_what(daemon, client):
    def token(name, role, account):
        body = {"name": name, "role": role, "account": account}
        return daemon.api.ask("POST", "/api/v1/tokens", body, 201)["secret"]

    viewer = Client(daemon, token=token("mview", "viewer", "default"))
    assert isinstance(viewer.items(), list)
    viewer.start(type="wired", want=403)
    viewer.ask("GET", f"/api/v1/sites/{OTHER}/pcaps", want=404)
    me = client.ask("GET", "/api/v1/self")
    scopes = {(p["scope"], p.get("org_id") or p.get("site_id"), p["role"]) for p in me["privileges"]}
    assert scopes == {("org", ORG, "admin"), ("site", SITE, "admin"), ("site", OTHER, "admin")}
    me = viewer.ask("GET", "/api/v1/self")
    assert {p["role"] for p in me["privileges"]} == {"read"} and len(me["privileges"]) == 2
    basic = {"Authorization": harness.basic("admin", daemon.api.token)}
    assert client.api.request("GET", PCAPS, headers=basic).status == 200
    # A capture of another site is not there.
    made = client.start(f"/api/v1/sites/{OTHER}/pcaps/capture", type="wired", num_packets=1)
    assert made["site_id"] == OTHER
    assert made["id"] not in [i["id"] for i in client.items()]
    assert client.ask("PUT", f"{PCAPS}/{made['id']}", {"notes": "x"}, want=404)["id"] == made["id"]
    daemon.settled(made["id"])
    daemon.api.ask("DELETE", "/api/v1/tokens/mview", want=204)


def test_as_curl_does_it(daemon, client):
    """`{}` with a GET, no content type, both kinds of JSON accepted."""
    auth = ["-H", f"Authorization: Token {daemon.api.token}", "-H", "Content-Type:", "-m", "20", "-sS", "-f"]
    url = daemon.api.url + CAPTURE
    run("curl", *auth, "-d", '{"type":"wired","num_packets":5}', url)
    listed = run("curl", *auth, "-X", "GET", "-d", "{}", "-H", "Accept: application/vnd.api+json", daemon.api.url + PCAPS)
    assert '"wired"' in listed.stdout
    run("curl", *auth, "-X", "DELETE", "-d", "{}", url)


def test_links_follow_the_public_address(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, 0, 100)])
    daemon = sluiced(
        {"tap0": replay(path, infinite=True, rate=1000)},
        api={"public_url": "https://capture1.example.net/base"},
        **{"mist": {"enabled": "yes"}, "account default": {"site_id": SITE, "org_id": ORG}},
    )
    client = Client(daemon)
    made = client.start(type="wired", num_packets=1)
    assert made["aps"] == [], "a port without a MAC"
    item = client.ended(made["id"])
    assert item["url"].startswith(f"https://capture1.example.net/base{PCAPS}/{made['id']}/download?")
    link = item["url"].partition("/base")[2]
    assert Api(daemon.http).request("GET", link).status == 200
    daemon.stop()
    daemon.start()
    assert Api(daemon.http).request("GET", link).status == 200, "the key outlives a restart"


def test_the_published_description_agrees(judge, dir):
    """Comes last: what the tests before it asked and were answered."""
    judge.judge(dir / "ajv")
