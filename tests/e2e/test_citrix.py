# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The Citrix SD-WAN dialect: log in, POST and wait, download, as the vendor's documents and scripts do."""
import concurrent.futures
import json
import time

import pytest

import capcheck
import frames
import harness
from harness import Api, quiet, replay, run, until

PACKETS = 300
RATE = 5000
MEMBERS = {"interface", "duration", "filter_str", "max_packets", "message", "summary"}
COLUMNS = ["number", "time", "src_mac", "dst_mac", "src_ip", "dst_ip", "src_port", "dst_port"]
COLUMNS += ["protocol", "length"]
FIELDS = ["eth.src", "eth.dst", "ip.src", "ip.dst", "udp.srcport", "udp.dstport", "frame.len"]


@pytest.fixture(scope="module")
def daemon(module_dir):
    def source(name, stream):
        made = [
            frames.numbered(stream, n, 70 + n % 900, sport=1000 + n % 4, dport=53 + stream)
            for n in range(PACKETS)
        ]
        path = frames.write_pcap(module_dir / f"{name}.pcap", made)
        return replay(path, infinite=True, device=f"net_pcap{stream}", rate=RATE)

    with harness.Daemon(
        {"tap0": source("a", 1), "tap1": source("b", 2)},
        **{
            "citrix": {"enabled": "yes", "interfaces": "MGMT=tap0, 1/2=tap1"},
            "account one": {"ports": "tap1"},
        },
    ) as daemon:
        yield daemon


class Client:
    """What the vendor's clients do: log in, keep the cookie's text before the first semicolon."""

    def __init__(self, daemon, version="v2", name="admin", secret=None):
        self.api, self.base = Api(daemon.http), f"/sdwan/nitro/{version}"
        secret = secret or daemon.api.token
        body = {"login": {"username": name, "password": secret, "timeout": "9999"}}
        answer = self.api.request("POST", f"{self.base}/config/login?action=add", body)
        assert answer.status == 200, answer
        assert "Login Success" in answer.json()["login"]["message"]
        self.headers = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}

    def ask(self, method, path, body=None, want=200):
        answer = self.api.request(method, self.base + path, body, self.headers)
        assert answer.status == want, answer
        if want != 200:
            error = answer.json()
            assert set(error) == {"errorcode", "errormessage"} and error["errorcode"] == want
            return error["errormessage"]
        return answer

    def capture(self, method, want=200, **members):
        body = {"packet_capture": members} if method in ("POST", "PUT") else None
        answer = self.ask(method, "/diag/packet_capture", body, want)
        return answer if want != 200 else answer.json()

    def download(self):
        return self.ask("GET", "/download/pcap_download")


def newest(daemon):
    return daemon.api.captures()["captures"][0]


def wait_running(daemon):
    def running():
        listed = daemon.api.captures("?state=running")["captures"]
        return any(capture["dialect"] == "citrix" for capture in listed)

    until("it runs", running)


def rows_by_tshark(path):
    out = quiet(
        "tshark", "-n", "-r", path, "-T", "fields", *(w for f in FIELDS for w in ("-e", f))
    )
    return [line.split("\t") for line in out.splitlines()]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.sanitize
def test_flow(daemon, version):
    client = Client(daemon, version)
    asked = {
        "interface": "MGMT--1/2",
        "duration": "30" if version == "v1" else 30,
        "filter_str": "udp src port 1001",
        "max_packets": "1000" if version == "v1" else 1000,
    }
    made = client.capture("POST", **asked)["packet_capture"]
    assert set(made) == MEMBERS and made["message"] == "resource added succesfully"
    assert {name: made[name] for name in asked} == asked
    assert len(made["summary"]) == 1000
    assert all(
        list(row) == COLUMNS and all(isinstance(v, str) for v in row.values())
        for row in made["summary"]
    )
    shown = client.capture("GET")
    assert isinstance(shown, list if version == "v2" else dict)
    shown = shown[0] if version == "v2" else shown["packet_capture"]
    assert shown == {**made, "message": "packet capture completed"}

    answer = client.download()
    assert answer.headers["Content-Type"] == "application/x-pcapng"
    path = daemon.dir / "citrix.pcapng"
    path.write_bytes(answer.body)
    rows = [[row[c] for c in COLUMNS[2:8] + ["length"]] for row in made["summary"]]
    assert rows == rows_by_tshark(path)
    assert [row["number"] for row in made["summary"]] == [str(n) for n in range(1, 1001)]
    assert {row["protocol"] for row in made["summary"]} == {"UDP"}

    capture = newest(daemon)
    assert capture["dialect"] == "citrix" and capture["ports"] == ["tap0", "tap1"]
    assert (capture["reason"], capture["limits"]["seconds"]) == ("packet_limit", 30)
    assert capture["limits"]["file_bytes"] == 575_000_000
    capture, file = daemon.settled(capture["id"])
    assert len(file) == 1000 and file.data[:] == answer.body
    numbers = [capcheck.number(frame) for frame in file.frames()]
    assert {stream for stream, _ in numbers} == {1, 2} and {n % 4 for _, n in numbers} == {1}
    assert made["summary"][0]["time"].startswith(time.strftime("%Y-", time.gmtime()))

    deleted = client.capture("DELETE")
    assert deleted == {"packet_capture": {"message": "resource deleted succesfully"}}
    assert client.capture("GET") == ([] if version == "v2" else {"packet_capture": {}})
    assert "no packet capture" in client.ask("GET", "/download/pcap_download", want=400)
    assert client.ask("DELETE", "/config/login/admin").json() == {
        "login": {"message": "resource deleted succesfully"}
    }
    client.capture("GET", want=401)


@pytest.mark.sanitize
def test_nothing_waits_for_a_post(daemon):
    """While one POST is open everything else is answered; PUT changes it, DELETE ends it."""
    client = Client(daemon)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        post = pool.submit(client.capture, "POST", filter_str="tcp", duration=30, max_packets=1000)
        wait_running(daemon)
        began = time.monotonic()
        shown = client.capture("GET")[0]
        assert shown["message"] == "packet capture is running" and shown["summary"] == []
        assert "already running" in client.capture("POST", want=400)
        assert "still running" in client.ask("GET", "/download/pcap_download", want=400)
        other = daemon.api.create(limits={"packets": 10})
        daemon.settled(other["id"])
        assert "interface" in client.capture("PUT", want=400, interface="1/2")
        assert "filter_str" in client.capture("PUT", want=400, filter_str="udp")
        assert "duration" in client.capture("PUT", want=400, duration=60)
        changed = client.capture("PUT", duration=15, max_packets="MAX")
        assert changed == {"packet_capture": {"message": "resource modified succesfully"}}
        limits = daemon.api.captures()["captures"][1]["limits"]
        assert (limits["packets"], limits["seconds"]) == (0, 15)
        assert not post.done() and time.monotonic() - began < 10 * harness.SLOW
        deleted = pool.submit(client.capture, "DELETE")
        assert deleted.result()["packet_capture"]["message"] == "resource deleted succesfully"
        made = post.result()["packet_capture"]
    assert made["message"] == "resource added succesfully" and made["summary"] == []
    assert (made["duration"], made["max_packets"]) == (15, "MAX")
    assert client.capture("GET") == []


@pytest.mark.sanitize
def test_a_changed_limit_is_exact(daemon):
    """A packet limit that is set, or taken away, while packets come."""
    client = Client(daemon)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        post = pool.submit(client.capture, "POST", interface="1/2", duration=30)
        wait_running(daemon)
        client.capture("PUT", max_packets=5000)
        made = post.result()["packet_capture"]
    assert made["max_packets"] == 5000 and len(made["summary"]) == 5000
    capture, file = daemon.settled(newest(daemon)["id"], readers=False)
    assert capture["reason"] == "packet_limit" and len(file) == 5000
    complaints, _ = capcheck.claims(file, PACKETS)
    assert not complaints

    capture = daemon.api.create(limits={"packets": 1_000_000})
    daemon.api.wait_offered(capture["id"], 100)
    changed = daemon.api.ask(
        "PATCH", f"/api/v1/captures/{capture['id']}", {"limits": {"packets": 5000}, "name": "n"}
    )
    assert changed["limits"]["packets"] == 5000 and changed["name"] == "n"
    capture, file = daemon.settled(capture["id"], readers=False)
    assert capture["reason"] == "packet_limit" and len(file) == 5000
    refused = daemon.api.request(
        "PATCH", f"/api/v1/captures/{capture['id']}", {"limits": {"packets": 1}}
    )
    assert refused.status == 409
    endless = daemon.api.create()
    path = f"/api/v1/captures/{endless['id']}"
    refused = daemon.api.request("PATCH", path, {"limits": {"packets": 1}})
    assert refused.status == 400 and refused.json()["pointer"] == "/limits/packets"
    # What is over already ends at once.
    daemon.api.ask("PATCH", path, {"limits": {"seconds": 0.001}})
    capture, _ = daemon.settled(endless["id"], readers=False)
    assert capture["reason"] == "time_limit"


def test_time_ends_it_and_a_client_that_hangs_up_does_not(daemon):
    client = Client(daemon)
    with pytest.raises(TimeoutError):
        client.api.request(
            "POST",
            client.base + "/diag/packet_capture",
            {"packet_capture": {"interface": "MGMT", "duration": 5}},
            client.headers,
            timeout=0.5 / harness.SLOW,
        )
    capture, file = daemon.settled(newest(daemon)["id"])
    assert capture["reason"] == "time_limit" and capture["limits"]["seconds"] == 5
    assert len(file) > RATE
    shown = client.capture("GET")[0]
    assert len(shown["summary"]) == 5000 and shown["max_packets"] == "MAX"


@pytest.mark.sanitize
def test_a_new_one_replaces_the_old(daemon):
    client = Client(daemon)
    ids = []
    for _ in range(2):
        client.capture("POST", max_packets=1000)
        ids.append(newest(daemon)["id"])

    def listed():
        return [capture["id"] for capture in daemon.api.captures()["captures"]]

    until("the old one is gone", lambda: ids[0] not in listed())
    assert len(client.capture("GET")[0]["summary"]) == 1000
    daemon.api.delete(ids[1])
    assert client.capture("GET") == []


def test_who_may_what(daemon):
    def token(name, role, account):
        body = {"name": name, "role": role, "account": account}
        return daemon.api.ask("POST", "/api/v1/tokens", body, 201)["secret"]

    admin = Client(daemon)
    admin.capture("POST", max_packets=1000)
    viewer = Client(daemon, name="look", secret=token("look", "viewer", "*"))
    assert len(viewer.capture("GET")[0]["summary"]) == 1000
    assert "operator" in viewer.capture("POST", want=403)
    assert "operator" in viewer.capture("DELETE", want=403)
    one = Client(daemon, name="one", secret=token("one", "operator", "one"))
    assert one.capture("GET") == [], "another account's capture"
    assert "known: 1/2, tap1" in one.capture("POST", want=400, interface="MGMT")
    made = one.capture("POST", max_packets=1000)["packet_capture"]
    assert made["interface"] == "tap1" and newest(daemon)["account"] == "one"
    assert len(admin.capture("GET")[0]["summary"]) == 1000
    for name in ("look", "one"):
        daemon.api.ask("DELETE", f"/api/v1/tokens/{name}", want=204)
    assert viewer.capture("GET", want=401) and one.capture("GET", want=401)


def test_as_curl_does_it(daemon):
    """The documents' examples, with a cookie jar."""
    base = f"{daemon.api.url}/sdwan/nitro/v1"
    jar = daemon.dir / "jar"
    login = {"login": {"username": "admin", "password": daemon.api.token}}

    def curl(*words):
        return run("curl", "-sS", "-m", "30", "-f", "-b", jar, "-c", jar, *words).stdout

    curl("-d", json.dumps(login), f"{base}/config/login")
    wanted = json.dumps({"packet_capture": {"interface": "MGMT", "max_packets": "2000"}})
    made = json.loads(
        curl("-H", "Content-Type: application/json", "-d", wanted, f"{base}/diag/packet_capture")
    )
    assert len(made["packet_capture"]["summary"]) == 2000
    out = daemon.dir / "curl.pcapng"
    curl("-o", out, f"{base}/download/pcap_download")
    assert harness.capinfos_count(out) == 2000
    curl("-X", "DELETE", f"{base}/config/login")
    assert run("curl", "-sSf", "-b", jar, f"{base}/diag/packet_capture", check=False).returncode


def test_names_that_cannot_be_told_apart_are_refused(dir):
    path = dir / "sluice.ini"
    for sections, word in (
        ({"citrix": {"enabled": "yes", "interfaces": "A--B=tap0"}, "port tap0": {}}, "A--B=tap0"),
        ({"citrix": {"enabled": "yes"}, "port a--b": {}}, "[port a--b]"),
    ):
        for name in sections:
            if name.startswith("port"):
                sections[name]["interface"] = "lo"
        path.write_text(harness.config_text(sections), encoding="utf-8")
        done = run(harness.SLUICED, "--check", "--config", path, check=False)
        assert done.returncode == 2 and word in done.stderr, done
