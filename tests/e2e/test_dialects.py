# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Four vendors' clients and the native API at once, on one port, under traffic."""
import concurrent.futures

import pytest

import capcheck
import frames
import harness
import websocket
from harness import Api, replay, until

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
SITE = "67970e46-4e12-11e6-9188-0242ac110007"
ORG = "a9346fba-f920-e99a-cc51-2e8dcc57fa3c"
COUNT = 2000
CYCLE = 500


@pytest.fixture
def daemon(sluiced, dir):
    path = frames.write_pcap(
        dir / "s.pcap", [frames.numbered(1, n, 70 + n % 400) for n in range(CYCLE)]
    )
    return sluiced(
        {"tap0": replay(path, infinite=True, rate=3000)},
        **{
            "account default": {"id": ACCOUNT, "site_id": SITE, "org_id": ORG, "colo": "ord02"},
            "cloudflare": {"enabled": "yes"},
            "nsx": {"enabled": "yes", "points": "vmnic0=tap0"},
            "citrix": {"enabled": "yes", "interfaces": "MGMT=tap0"},
            "mist": {"enabled": "yes", "devices": "5c5b35000010=tap0"},
        },
    )


class Clients:
    """One call each: start a capture of COUNT packets, in the words of a dialect."""

    def __init__(self, daemon):
        self.daemon, self.api, secret = daemon, Api(daemon.http), daemon.api.token
        self.bearer = {"Authorization": f"Bearer {secret}"}
        self.token = {"Authorization": f"Token {secret}"}
        self.basic = {"Authorization": harness.basic("admin", secret)}
        login = {"login": {"username": "admin", "password": secret}}
        answer = self.api.request("POST", "/sdwan/nitro/v1/config/login", login)
        self.cookie = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}

    def post(self, path, body, headers):
        answer = self.api.request("POST", path, body, headers)
        assert answer.status in (200, 201), answer
        return answer.json()

    def native(self):
        return self.post("/api/v1/captures", {"limits": {"packets": COUNT}}, self.bearer)

    def cloudflare(self):
        body = {
            "type": "full",
            "system": "magic-transit",
            "time_limit": 60,
            "packet_limit": COUNT,
            "colo_name": "ORD",
            "destination_conf": "s3://pcaps",
        }
        return self.post(f"/client/v4/accounts/{ACCOUNT}/pcaps", body, self.bearer)

    def nsx(self):
        body = {"cappoint": "VMNIC", "capvalue": "vmnic0", "capsource": "CLI", "capamount": COUNT}
        return self.post("/api/v1/pktcap/session", body, self.basic)

    def citrix(self):
        body = {"packet_capture": {"interface": "MGMT", "max_packets": COUNT, "duration": 30}}
        return self.post("/sdwan/nitro/v1/diag/packet_capture", body, self.cookie)

    def mist(self):
        body = {"type": "wired", "num_packets": COUNT}
        return self.post(f"/api/v1/sites/{SITE}/pcaps/capture", body, self.token)

    def listed(self):
        """How many each dialect shows of its own."""
        ask = self.api.request
        return {
            "cloudflare": len(ask("GET", f"/accounts/{ACCOUNT}/pcaps", None, self.bearer).json()["result"]),
            "nsx": ask("GET", "/api/v1/pktcap/sessions", None, self.basic).json()["result_count"],
            "citrix": len(ask("GET", "/sdwan/nitro/v2/diag/packet_capture", None, self.cookie).json()),
            "mist": ask("GET", f"/api/v1/sites/{SITE}/pcaps", None, self.token).json()["total"],
        }


@pytest.mark.sanitize
def test_all_at_once(daemon):
    clients = Clients(daemon)
    names = ["native", "cloudflare", "nsx", "citrix", "mist"]
    headers = [f"Authorization: {clients.token['Authorization']}"]
    with websocket.Socket(daemon.http, "/api-ws/v1/stream", headers) as stream:
        stream.ask(subscribe=f"/sites/{SITE}/pcaps")
        assert stream.event()["event"] == "channel_subscribed"
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            asked = {name: pool.submit(getattr(clients, name)) for name in names}
            until("all run", lambda: len(daemon.api.captures()["captures"]) == len(names))
            messages = [stream.event("data")["data"] for _ in range(COUNT + 1)]
            made = {name: call.result() for name, call in asked.items()}
    assert messages[-1]["pcap_dict"] is None and len(made["citrix"]["packet_capture"]["summary"]) == COUNT
    assert {m["capture_id"] for m in messages} == {made["mist"]["id"]}
    listed = daemon.api.captures()["captures"]
    assert sorted(c["dialect"] for c in listed) == sorted(names)
    for capture in listed:
        capture, file = daemon.settled(capture["id"])
        assert (capture["reason"], len(file)) == ("packet_limit", COUNT), capture
        complaints, _ = capcheck.claims(file, CYCLE)
        assert not complaints, capture["dialect"]
    assert clients.listed() == {"cloudflare": 1, "nsx": 1, "citrix": 1, "mist": 1}
