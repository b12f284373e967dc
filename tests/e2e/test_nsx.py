# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The NSX dialect: the manager's API and the policy API as their documents say it, and as real clients
were seen to use it (bodies on GET, status codes, no escapes in what comes back)."""
import json
import re
import socket
import struct

import pytest

import capcheck
import frames
import harness
from harness import Api, basic, replay, until

NODE = "3ad1d0e5-6f12-4f61-a5c2-0d4b5d4a9bd1"
COUNT = 1000
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
MINIMAL = {"cappoint": "VMNIC", "capsource": "UI"}


def ether(payload, kind, src=1, dst=2, tags=()):
    head = b"\x00\x50\x56\0\0" + bytes([dst]) + b"\x00\x50\x56\0\0" + bytes([src])
    for tag in tags:
        head += struct.pack("!HH", 0x8100, tag)
    return (head + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def v4(protocol, src, dst, payload, **more):
    address = lambda text: int.from_bytes(socket.inet_aton(text), "big")
    return frames.ipv4(protocol, address(src), address(dst), payload, **more)


def v6(protocol, src, dst, payload):
    pton = lambda text: socket.inet_pton(socket.AF_INET6, text)
    return frames.ipv6(protocol, pton(src), pton(dst), payload)


def tcp(sport, dport):
    return frames.tcp(sport, dport, 7, 16, b"x" * 10)


def udp(sport, dport, payload=b"x" * 10):
    return frames.udp(sport, dport, payload)


A, B = "10.9.0.1", "10.9.0.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
IP4, IP6 = 0x0800, 0x86DD


def vxlan(vni, inner, outer6=False):
    data = udp(50000, 4789, struct.pack("!BBHI", 8, 0, 0, vni << 8) + inner)
    if outer6:
        return ether(v6(17, "2001:db8:f::1", "2001:db8:f::2", data), IP6, 8, 9)
    return ether(v4(17, "192.0.2.1", "192.0.2.2", data), IP4, 8, 9)


def geneve(vni, inner, outer6=False, options=b""):
    head = struct.pack("!BBHI", len(options) // 4, 0, 0x6558, vni << 8)
    data = udp(50000, 6081, head + options + inner)
    if outer6:
        return ether(v6(17, "2001:db8:f::1", "2001:db8:f::2", data), IP6, 8, 9)
    return ether(v4(17, "192.0.2.1", "192.0.2.2", data), IP4, 8, 9)


WEB = ether(v4(6, A, B, tcp(1111, 80)), IP4)
DNS = ether(v4(17, B, A, udp(53, 2222)), IP4, 2, 1)
WEB6 = ether(v6(6, A6, B6, tcp(1111, 80)), IP6)
TAGGED = ether(v4(6, A, B, tcp(1111, 80)), IP4, tags=(100,))
OPTIONS = struct.pack("!HBBI", 0x0101, 1, 1, 0xDEADBEEF)

# Every frame by a name, so that a case can say which ones it must keep.
FRAMES = {
    "web": WEB,
    "dns": DNS,
    "ping": ether(v4(1, A, "10.7.0.9", frames.icmp(8, b"x" * 20)), IP4, 1, 3),
    "sctp": ether(v4(132, A, B, struct.pack("!HHII", 1111, 80, 1, 0) + b"x" * 8), IP4),
    "fragment": ether(v4(17, A, B, struct.pack("!HH", 53, 80) + b"x" * 20, fragment=100), IP4),
    "arp": ether(b"\0\1\x08\0\6\4\0\1" + b"\0" * 20, 0x0806, 3, 4),
    "web6": WEB6,
    "dns6": ether(v6(17, B6, A6, udp(53, 2222)), IP6, 2, 1),
    "tagged": TAGGED,
    "tagged200": ether(v4(17, A, B, udp(53, 80)), IP4, tags=(200,)),
    "qinq": ether(v4(17, A, B, udp(53, 80)), IP4, tags=(100, 200)),
    "vxlan_web": vxlan(5001, WEB),
    "vxlan_dns": vxlan(5002, DNS),
    "vxlan_tagged": vxlan(5001, TAGGED),
    "vxlan6_web": vxlan(5001, WEB, outer6=True),
    "vxlan_web6": vxlan(5001, WEB6),
    "geneve_web": geneve(5001, WEB),
    "geneve_dns": geneve(5001, DNS, options=OPTIONS),
    "geneve_tagged": geneve(5001, TAGGED),
    "geneve6_web6": geneve(5001, WEB6, outer6=True, options=OPTIONS * 2),
    "geneve_other": geneve(5002, WEB),
}
INNER = {name for name in FRAMES if name.startswith(("vxlan", "geneve"))}


class Nsx:
    """A client of one family."""

    def __init__(self, daemon, policy=False):
        self.daemon, self.policy = daemon, policy
        self.api = Api(daemon.http)
        self.base = "/policy/api/v1/infra/pktcap" if policy else "/api/v1/pktcap"
        self.auth = basic("admin", daemon.api.token)

    def request(self, method, path, body=None, headers=None):
        headers = {"Authorization": self.auth, **(headers or {})}
        return self.api.request(method, path, body, headers)

    def ask(self, method, path, body=None, status=200):
        answer = self.request(method, self.base + path, body)
        assert answer.status == status, answer
        assert answer.headers["Content-Type"] == "application/json"
        return answer.json() if status == 200 else error_of(answer, status)

    def create(self, status=200, **request):
        return self.ask("POST", "/session", {**MINIMAL, **request}, status)

    def get(self, id):
        return self.ask("GET", f"/session/{id}")

    def act(self, id, action, status=200):
        return self.ask("POST", f"/session/{id}?action={action}", status=status)

    def delete(self, id):
        if self.policy:
            return self.ask("DELETE", f"/session/{id}")
        return self.act(id, "delete")

    def delete_all(self):
        if self.policy:
            return self.ask("DELETE", "/sessions")
        return self.ask("POST", "/sessions?action=delete")

    def file(self, id, status=200):
        name = "CapturedFile" if self.policy else "capturefile"
        answer = self.request(
            "GET",
            f"{self.base}/session/{id}/{name}",
            headers={"Accept": "application/octet-stream"},
        )
        assert answer.status == status, answer
        if status == 200:
            assert answer.headers["Content-Type"] == "application/octet-stream"
        return answer

    def ended(self, id):
        """As the script that most people use polls."""
        states = ("FINISHED", "STOPPED", "ERROR")
        return until(
            f"{id} has ended",
            lambda: (lambda s: s if s["sessionstatus"] in states else None)(self.get(id)),
            30,
        )

    def packets(self, id):
        """The file as its readers see it: [(stamp, length, data)]."""
        path = self.daemon.dir / "nsx.pcap"
        path.write_bytes(self.file(id).body)
        packets = frames.read_pcap(path)
        assert harness.tshark_lengths(path) == [length for _, length, _ in packets]
        return packets


def error_of(answer, status):
    assert answer.status == status, answer
    error = answer.json()
    assert isinstance(error["error_code"], int) and error["module_name"] and error["error_message"]
    assert set(error) <= {"httpStatus", "error_code", "module_name", "error_message", "details"}
    return error


def session_of(session, policy=False):
    """A PacketCaptureSession has what its document requires, in its types, and nothing escaped."""
    assert re.fullmatch(UUID, session["sessionid"])
    assert session["sessionstatus"] in ("CREATED", "STARTED", "STOPPED", "FINISHED", "ERROR")
    assert isinstance(session["request"], dict) and isinstance(session["filesize"], int)
    assert session["sessionname"] and session["filelocation"]
    assert session["starttime"] > 1_600_000_000_000 and session["_protection"] == "NOT_PROTECTED"
    assert session["id"] == session["sessionid"]
    assert "\\" not in json.dumps(session, ensure_ascii=False)
    other = "LOGICALPORT" if policy else "SEGMENTPORT"
    assert session["request"]["cappoint"] != other
    return session


@pytest.fixture(scope="module")
def daemon(module_dir):
    kinds = frames.write_pcap(module_dir / "k.pcap", list(FRAMES.values()))
    flow = frames.write_pcap(
        module_dir / "f.pcap", [frames.numbered(1, n, 300) for n in range(COUNT)]
    )
    with harness.Daemon(
        {
            "kinds": replay(kinds),
            "flow": replay(flow, infinite=True, rate=20_000, device="net_pcap1"),
        },
        **{
            "nsx": {"enabled": "yes", "points": "vmnic0=flow", "node": NODE},
            "account narrow": {"ports": "flow"},
        },
    ) as daemon:
        yield daemon


@pytest.fixture(params=[False, True], ids=["manager", "policy"])
def nsx(daemon, request):
    client = Nsx(daemon, request.param)
    yield client
    client.delete_all()


@pytest.mark.sanitize
def test_whole_flow(daemon, nsx):
    wanted = {
        "node": NODE,
        "cappoint": "SEGMENTPORT" if nsx.policy else "LOGICALPORT",
        "capvalue": "vmnic0",
        "capsource": "UI",
        "direction": "DUAL",
        "capamount": 500,
        "capduration": 600,
        "capfilesize": 100,
        "caprate": 0,
        "capsnaplen": 128,
        "capmode": "STANDALONE",
        "options": {"values": [{"name": "IPPROTO", "value": "0x11"}]},
    }
    created = session_of(
        nsx.create(**wanted, whatever={"clients": "send this too"}, node_ip=None), nsx.policy
    )
    id = created["sessionid"]
    assert created["request"] == wanted and created["sessionname"] == id
    assert "endtime" not in created and "errormsg" not in created
    done = session_of(nsx.ended(id), nsx.policy)
    assert done["sessionstatus"] == "FINISHED" and done["endtime"] >= done["starttime"]
    packets = nsx.packets(id)
    assert len(packets) == 500 and done["filesize"] == len(nsx.file(id).body)
    assert {(length, len(data)) for _, length, data in packets} == {(300, 128)}
    numbers = [capcheck.number(data + bytes(300 - 128))[1] for _, _, data in packets]
    assert all((b - a) % COUNT == 1 for a, b in zip(numbers, numbers[1:]))
    # the same in the other family's words, in the list and in the native API
    other = Nsx(daemon, not nsx.policy)
    assert session_of(other.get(id), other.policy)["sessionid"] == id
    assert other.packets(id) == packets
    listed = nsx.ask("GET", "/sessions")
    assert listed["result_count"] == 1 == len(listed["results"]) and listed["results"][0] == done
    capture, file = daemon.settled(id)
    assert capture["dialect"] == "nsx" and capture["limits"]["packets"] == 500
    assert capture["reason"] == "packet_limit" and [d for _, _, d in packets] == file.frames()
    # terminate is idempotent and changes nothing that has ended
    assert nsx.act(id, "terminate")["sessionstatus"] == "FINISHED"
    assert nsx.delete(id)["sessionid"] == id
    nsx.ask("GET", f"/session/{id}", status=404)
    assert nsx.ask("GET", "/sessions") == {"results": [], "result_count": 0}
    assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404


@pytest.mark.sanitize
def test_terminate_and_restart(daemon, nsx):
    id = nsx.create(capvalue="flow")["sessionid"]
    until("it has packets", lambda: nsx.get(id)["filesize"] > 5000)
    assert nsx.get(id)["sessionstatus"] == "STARTED"
    assert "not finished" in error_of(nsx.file(id, 412), 412)["error_message"]
    for _ in range(2):
        stopped = session_of(nsx.act(id, "terminate"))
        assert stopped["sessionstatus"] == "STOPPED" and stopped["endtime"]
    first = nsx.packets(id)
    assert len(first) and stopped["filesize"] == len(nsx.file(id).body)
    daemon.settled(id)
    again = session_of(nsx.act(id, "restart"))
    assert again["sessionid"] == id and again["sessionstatus"] in ("CREATED", "STARTED")
    assert again["starttime"] > stopped["starttime"] and "endtime" not in again
    assert again["request"] == stopped["request"]
    # a running one can be restarted, too
    assert nsx.act(id, "restart")["sessionid"] == id
    newest = daemon.api.captures()["captures"][0]["id"]
    until("it has packets", lambda: daemon.api.capture(newest)["ledger"]["written"] > 100)
    assert nsx.ask("GET", "/sessions")["result_count"] == 1
    assert nsx.act(id, "terminate")["sessionstatus"] == "STOPPED"
    second = nsx.packets(id)
    assert second[0][0] > first[-1][0], "the new run's packets"
    capture, file = daemon.settled(newest)
    assert len(file) == len(second) and capture["dialect"] == "nsx"
    until("what was replaced is gone", lambda: len(daemon.api.captures()["captures"]) == 1)
    assert nsx.delete(id)["sessionstatus"] == "STOPPED"
    assert daemon.api.captures()["captures"] == []


def test_restart_keeps_the_file_until_it_has_a_packet(daemon):
    nsx = Nsx(daemon)
    nothing = {"options": {"values": [{"name": "ETHTYPE", "value": "0x9999"}]}}
    id = nsx.create(capvalue="kinds", capamount=5)["sessionid"]
    nsx.ended(id)
    first = nsx.packets(id)
    assert len(first) == 5
    # a restart that keeps nothing, made by hand as there is no way to restart with another filter
    made = daemon.api.create(ports=["kinds"], filter="ether proto 0x9999", replaces=id)
    assert made["replaces"] == id
    daemon.api.wait_offered(made["id"], len(FRAMES))
    daemon.api.stop(made["id"])
    daemon.settled(made["id"])
    assert nsx.packets(id) == first
    daemon.api.delete(made["id"])
    # and the same in the dialect: nothing matches, twice
    empty = nsx.create(capvalue="kinds", **nothing)["sessionid"]
    assert nsx.act(empty, "restart")["sessionid"] == empty
    stopped = nsx.act(empty, "terminate")
    assert stopped["filesize"] == 24 == len(nsx.file(empty).body)
    assert nsx.delete(empty)["sessionid"] == empty
    nsx.delete(id)
    assert daemon.api.captures()["captures"] == []


def test_duration_rate_and_size_end_a_session(daemon):
    nsx = Nsx(daemon, policy=True)
    timed = nsx.create(capvalue="flow", capduration=2, caprate=500)["sessionid"]
    small = nsx.create(capvalue="flow", capfilesize=1)["sessionid"]
    sized = nsx.ended(small)
    assert sized["sessionstatus"] == "FINISHED" and 800_000 < sized["filesize"] <= 1_000_000
    capture, _ = daemon.settled(small)
    assert capture["reason"] == "file_limit" and capture["size_bytes"] <= 1_000_000
    assert nsx.ended(timed)["sessionstatus"] == "FINISHED"
    capture, file = daemon.settled(timed)
    assert capture["reason"] == "time_limit" and capture["sampling"]["rate_pps"] == 500
    # 2 s of 500, and the bucket of a tenth of a second that was full at the start
    assert 900 <= len(file) <= 1055 and capture["ledger"]["sampled_out"] > 10_000
    nsx.delete_all()


@pytest.mark.sanitize
def test_delete_all(daemon, nsx):
    stopped = nsx.create(capvalue="flow", capamount=1)["sessionid"]
    nsx.ended(stopped)
    nsx.act(stopped, "restart")
    running = [nsx.create(capvalue="flow")["sessionid"] for _ in range(3)]
    native = daemon.api.create(limits={"packets": 1}, ports=["flow"])["id"]
    gone = nsx.delete_all()
    assert gone["result_count"] == 4
    assert {s["sessionid"] for s in gone["results"]} == {stopped, *running}
    assert all(session_of(s)["sessionstatus"] in ("STOPPED", "FINISHED") for s in gone["results"])
    assert nsx.delete_all() == {"results": [], "result_count": 0}
    assert [c["id"] for c in daemon.api.captures()["captures"]] == [
        native
    ], "the dialect's own only"
    daemon.api.wait_closed(native)
    daemon.api.delete(native)


def values(**options):
    return {"values": [{"name": name, "value": value} for name, value in options.items()]}


NOT_INNER = set(FRAMES) - INNER
CASES = [
    ({}, set(FRAMES)),
    ({"ETHTYPE": "0x0806"}, {"arp"}),
    ({"ETHTYPE": "34525"}, {"web6", "dns6", "vxlan6_web", "geneve6_web6"}),
    ({"MAC": "00:50:56:00:00:03"}, {"ping", "arp"}),
    ({"SRCMAC": "00-50-56-00-00-03"}, {"arp"}),
    ({"DSTMAC": "00:50:56:00:00:03"}, {"ping"}),
    ({"VLAN": "100"}, {"tagged", "qinq"}),
    ({"VLAN": "200"}, {"tagged200"}),
    ({"VLAN": "100", "PORT": "80"}, {"tagged"}),
    ({"PORT": "80", "VLAN": "100"}, {"tagged"}),
    ({"VLAN": "100", "ETHTYPE": "0x0800"}, {"tagged"}),
    ({"IP": "10.7.0.9"}, {"ping"}),
    ({"IP": "10.7.0.0/16"}, {"ping"}),
    ({"IP": "0.0.0.0/0", "IPPROTO": "1"}, {"ping"}),
    ({"SRCIP": B}, {"dns"}),
    ({"DSTIP": B}, {"web", "sctp", "fragment"}),
    ({"SRCIP": A, "DSTIP": "10.9.0.77/24"}, {"web", "sctp", "fragment"}),
    ({"IPPROTO": "0x01"}, {"ping"}),
    ({"IPPROTO": "0x84"}, {"sctp"}),
    ({"PORT": "80"}, {"web", "sctp", "web6"}),
    ({"SRCPORT": "53"}, {"dns", "dns6"}),
    ({"DSTPORT": "2222", "IPPROTO6": "0x11"}, {"dns6"}),
    ({"IP6": A6}, {"web6", "dns6"}),
    ({"SRCIP6": A6}, {"web6"}),
    ({"DSTIP6": "2001:db8::/127"}, {"dns6"}),
    ({"IPPROTO6": "6"}, {"web6"}),
    ({"VNI": "5001"}, INNER - {"vxlan_dns", "geneve_other"}),
    ({"VNI": "0x138a"}, {"vxlan_dns", "geneve_other"}),
    ({"VNI": "5003"}, set()),
    ({"VNI": "5001", "SRCIP": A}, {"vxlan_web", "vxlan6_web", "geneve_web"}),
    ({"DSTIP": A, "VNI": "5001"}, {"geneve_dns"}),
    ({"IP": "10.9.0.0/30", "VNI": "5002"}, {"vxlan_dns", "geneve_other"}),
    ({"IP": "192.0.2.1", "VNI": "5001"}, set()),
    (
        {"VNI": "5001", "PORT": "80"},
        {"vxlan_web", "vxlan6_web", "vxlan_web6", "geneve_web", "geneve6_web6"},
    ),
    ({"VNI": "5002", "SRCPORT": "53", "IPPROTO": "17"}, {"vxlan_dns"}),
    ({"VNI": "5001", "VLAN": "100"}, {"vxlan_tagged", "geneve_tagged"}),
    ({"VNI": "5001", "DSTPORT": "80", "VLAN": "100"}, {"vxlan_tagged", "geneve_tagged"}),
    ({"VNI": "5001", "VLAN": "101"}, set()),
    ({"VNI": "5001", "IP6": B6}, {"vxlan_web6", "geneve6_web6"}),
    ({"VNI": "5001", "SRCIP6": A6, "DSTPORT": "80"}, {"vxlan_web6", "geneve6_web6"}),
    ({"VNI": "5001", "SRCIP6": "2001:db8::/126", "IPPROTO6": "6"}, {"vxlan_web6", "geneve6_web6"}),
    ({"VNI": "5001", "SRCMAC": "00:50:56:00:00:02"}, {"geneve_dns"}),
    ({"VNI": "5001", "MAC": "00:50:56:00:00:08"}, set()),
    ({"VNI": "5001", "ETHTYPE": "0x86dd"}, {"vxlan_web6", "geneve6_web6"}),
]


def test_options_choose(daemon):
    """All captures run over the same frames, each from the first one on."""
    nsx = Nsx(daemon)
    names = {data: name for name, data in FRAMES.items()}
    # one at a time: a replayed source starts over when nobody listens any more
    for options, kept in CASES:
        id = nsx.create(capvalue="kinds", options=values(**options))["sessionid"]
        daemon.api.wait_offered(id, len(FRAMES))
        nsx.act(id, "terminate")
        capture, file = daemon.settled(id, readers=False)
        assert capture["ledger"]["offered"] == len(FRAMES)
        assert [names[frame] for frame in file.frames()] == [n for n in FRAMES if n in kept], (
            options,
            capture["filter"],
        )
        nsx.delete(id)


def test_points_directions_and_stages(daemon):
    nsx = Nsx(daemon)
    found = nsx.request("GET", "/api/v1/fabric/virtual-machines?display_name=flow").json()
    id_of_flow = found["results"][0]["external_id"]
    for point in ("flow", "vmnic0", id_of_flow, f"/infra/segments/sluice/ports/{id_of_flow}"):
        made = nsx.create(capvalue=point, capamount=1)["sessionid"]
        assert daemon.api.capture(made)["ports"] == ["flow"]
    for stage in ("PRE", "POST"):
        made = nsx.create(cappoint="DVFILTER", filtertype=stage, capvalue="flow", capamount=1)
        assert made["request"]["filtertype"] == stage
    every = nsx.create(capamount=1, capvalue="")["sessionid"]
    assert daemon.api.capture(every)["ports"] == ["kinds", "flow"]
    # a replayed file does not say which way a packet went
    for direction in ("INPUT", "OUTPUT"):
        refused = nsx.create(400, direction=direction)
        assert "direction" in refused["error_message"]
    nsx.delete_all()


def test_inventory(daemon):
    """What a script asks before it starts a capture, in its order."""
    nsx = Nsx(daemon)

    def listed(path):
        answer = nsx.request("GET", path)
        assert answer.status == 200, answer
        body = answer.json()
        assert body["result_count"] == len(body["results"])
        return body["results"]

    (machine,) = listed("/api/v1/fabric/virtual-machines?display_name=flow")
    assert re.fullmatch(UUID, machine["external_id"]) and machine["external_id"][14] == "5"
    assert machine["host_id"] == NODE and machine["source"]["target_display_name"] == "flow"
    assert len(listed("/api/v1/fabric/virtual-machines")) == 2
    assert listed("/api/v1/fabric/virtual-machines?display_name=nothing") == []
    (vif,) = listed(f"/api/v1/fabric/vifs?owner_vm_id={machine['external_id']}")
    assert vif["device_name"] == "flow" and re.fullmatch(UUID, vif["lport_attachment_id"])
    assert vif.get("mac_address") == daemon.api.ports()["flow"]["mac"]
    query = f"resource_type:SegmentPort%20AND%20attachment.id:{vif['lport_attachment_id']}"
    (port,) = listed(f"/policy/api/v1/search?query={query}")
    assert port["resource_type"] == "SegmentPort" and port["path"].startswith(port["parent_path"])
    for point in (vif["lport_attachment_id"], port["unique_id"], port["path"]):
        made = nsx.create(node=machine["host_id"], capvalue=point, capamount=1)["sessionid"]
        assert daemon.api.capture(made)["ports"] == ["flow"]
    nsx.delete_all()


def test_what_clients_are_known_to_send(daemon):
    """{} as the body of a GET on a kept-alive connection, empty bodies with a type, an action without a
    body."""
    nsx = Nsx(daemon)
    id = nsx.create(capvalue="flow", capamount=1)["sessionid"]
    nsx.ended(id)
    head = (
        f"Host: x\r\nAuthorization: {nsx.auth}\r\nContent-Type: application/json\r\n"
        "Content-Length: 2\r\n\r\n{}"
    )
    with socket.create_connection(("127.0.0.1", daemon.http), timeout=10) as s:
        received = b""
        for method, path in (
            ("GET", "/sessions"),
            ("GET", f"/session/{id}"),
            ("POST", f"/session/{id}?action=terminate"),
            ("GET", f"/session/{id}/capturefile"),
            ("POST", f"/session/{id}?action=delete"),
            ("GET", "/sessions"),
        ):
            s.sendall(f"{method} {nsx.base}{path} HTTP/1.1\r\n{head}".encode())
        s.settimeout(5 * harness.SLOW)
        while received.count(b"HTTP/1.1 200 OK") < 6:
            piece = s.recv(65536)
            assert piece, received
            received += piece
    assert received.count(b"HTTP/1.1") == 6


def test_who_may(daemon):
    make = lambda **spec: daemon.api.ask("POST", "/api/v1/tokens", spec, 201)["secret"]
    viewer = make(name="nsxview", role="viewer")
    narrow = make(name="nsxnarrow", role="operator", account="narrow")
    nsx = Nsx(daemon)
    try:
        id = nsx.create(capvalue="flow", capamount=1)["sessionid"]
        stranger = Api(daemon.http)
        answer = stranger.request("GET", nsx.base + "/sessions")
        assert error_of(answer, 401) and answer.headers["WWW-Authenticate"].startswith("Basic ")
        for auth in (
            basic("admin", "wrong"),
            basic("nsxview", daemon.api.token),
            "Basic !!!!",
            "Basic " + "A" * 4000,
            "Bearer wrong",
        ):
            answer = stranger.request(
                "GET", nsx.base + "/sessions", headers={"Authorization": auth}
            )
            error_of(answer, 403)
        nsx.auth = basic("nsxview", viewer)
        assert nsx.get(id)["sessionid"] == id
        assert "operator" in nsx.create(403)["error_message"]
        nsx.act(id, "terminate", 403)
        assert (
            stranger.request("GET", "/api/v1/captures", headers={"Authorization": nsx.auth}).status
            == 401
        )
        nsx.auth = basic("nsxnarrow", narrow)
        nsx.ask("GET", f"/session/{id}", status=404)
        assert "flow" in nsx.create(400, capvalue="kinds")["error_message"]
        own = nsx.create(capamount=1)
        assert daemon.api.capture(own["sessionid"])["ports"] == ["flow"]
        assert own["_create_user"] == "nsxnarrow"
        assert nsx.delete_all()["result_count"] == 1
    finally:
        daemon.api.ask("DELETE", "/api/v1/tokens/nsxview", want=204)
        daemon.api.ask("DELETE", "/api/v1/tokens/nsxnarrow", want=204)
    Nsx(daemon).delete_all()


def corpus():
    path = harness.SOURCE / "tests" / "api" / "nsx.txt"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#"):
            status, code, field, method, path, body = (line.split("\t") + [""])[:6]
            yield pytest.param(
                int(status), int(code), field, method, path, body or None, id=f"line{number}"
            )


def test_bad_input(daemon):
    """tests/api/nsx.txt: each line is refused in the dialect's shape, naming what was wrong."""
    nsx = Nsx(daemon)
    id = nsx.create(capvalue="flow", capamount=1)["sessionid"]
    nsx.ended(id)
    before = len(daemon.api.captures()["captures"])
    lines = 0
    for param in corpus():
        status, code, field, method, path, body = param.values
        answer = nsx.request(method, path.replace("ID", id), body)
        assert answer.status == status, (param.id, answer)
        error = error_of(answer, status)
        assert error["error_code"] == code and field in error["error_message"], (param.id, error)
        lines += 1
    assert lines > 80
    assert len(daemon.api.captures()["captures"]) == before, "nothing was started"
    nsx.delete_all()


def test_survives_a_restart_of_the_daemon(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 100) for n in range(50)])
    daemon = sluiced(
        {"tap0": replay(path, infinite=True, rate=5000)},
        nsx={"enabled": "yes", "format": "pcapng", "node_ip": "192.0.2.7"},
    )
    nsx = Nsx(daemon)
    id = nsx.create(node="any", node_ip="192.0.2.7", capvalue="tap0", capamount=50)["sessionid"]
    nsx.ended(id)
    nsx.act(id, "restart")
    newest = daemon.api.captures()["captures"][0]["id"]
    assert newest != id
    nsx.ended(id)
    until("what was replaced is gone", lambda: len(daemon.api.captures()["captures"]) == 1)
    before = nsx.get(id)
    assert before["request"]["node"] == "any"
    assert nsx.create(404, node_ip="192.0.2.8")["error_code"] == 600
    daemon.stop()
    daemon.start()
    assert Nsx(daemon).get(id) == before
    _, file = daemon.settled(newest)
    body = nsx.file(id).body
    assert len(file) == 50 and body[:4] == b"\x0a\x0d\x0d\x0a" and len(body) == before["filesize"]


def test_off_unless_enabled(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, 0, 100)])
    daemon = sluiced({"tap0": replay(path)})
    for path in ("/api/v1/pktcap/sessions", "/policy/api/v1/infra/pktcap/sessions"):
        assert daemon.api.request("GET", path).status == 404
