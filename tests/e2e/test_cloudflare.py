# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The Cloudflare dialect, as its documents say it and as its official client uses it."""
import datetime
import os
import re
import subprocess

import pytest

import capcheck
import frames
import harness
import oracle
from harness import Api, replay, until

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
PCAPS = f"/accounts/{ACCOUNT}/pcaps"
COUNT = 1000
SIMPLE = {"type": "simple", "system": "magic-transit", "time_limit": 300, "packet_limit": 100}
FULL = {
    "type": "full",
    "system": "magic-transit",
    "time_limit": 300,
    "colo_name": "ord02",
    "destination_conf": "s3://pcaps-bucket/sub?region=us-east-1",
}


@pytest.fixture(scope="module")
def daemon(module_dir):
    path = frames.write_pcap(
        module_dir / "s.pcap",
        [frames.numbered(1, n, 300, sport=1000 + n % 4, dport=80 + n % 2) for n in range(COUNT)],
    )
    with harness.Daemon(
        {"tap0": replay(path, infinite=True, rate=20_000)},
        **{
            "cloudflare": {"enabled": "yes"},
            "sampling": {"simple": 10},
            "account default": {"id": ACCOUNT, "ports": "*", "colo": "ord02"},
        },
    ) as daemon:
        yield daemon


def envelope(answer, status=200):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].startswith("application/json"), answer
    body = answer.json()
    assert {"success", "errors", "messages", "result"} <= set(body), body
    assert body["success"] is (status == 200)
    if status == 200:
        assert body["errors"] == []
    else:
        assert body["result"] is None and body["errors"]
        for error in body["errors"]:
            assert isinstance(error["code"], int) and error["code"] >= 1000 and error["message"]
    return body


# What is asked and answered here; the published description has the last word.
EXCHANGES = oracle.Exchanges("cloudflare-pcaps.openapi.json", "cloudflare.patch.json")


def ask(daemon, method, path, body=None):
    answer = daemon.api.request(method, path, body)
    EXCHANGES.add(method, path, body, answer, strip="/client/v4")
    return answer


def create(daemon, base=SIMPLE, want=200, prefix="", **changes):
    spec = {k: v for k, v in {**base, **changes}.items() if v is not None}
    return envelope(ask(daemon, "POST", prefix + PCAPS, spec), want)


def get(daemon, id):
    return envelope(ask(daemon, "GET", f"{PCAPS}/{id}"))["result"]


def ready(daemon, id):
    done = until(
        f"{id} is ready",
        lambda: (lambda p: p if p["status"] in ("success", "failed") else None)(get(daemon, id)),
        30,
    )
    return done


def dashed(id):
    return f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"


@pytest.mark.parametrize("prefix", ["", "/client/v4"])
@pytest.mark.sanitize
def test_simple(daemon, prefix):
    made = create(daemon, prefix=prefix)["result"]
    assert re.fullmatch("[0-9a-f]{32}", made["id"])
    assert (
        made["status"] == "pending"
        and made["type"] == "simple"
        and made["system"] == "magic-transit"
    )
    assert made["time_limit"] == 300 and made["filter_v1"] == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", made["submitted"])
    assert "destination_conf" not in made and "stop_requested" not in made
    assert ready(daemon, made["id"])["status"] == "success"
    answer = daemon.api.request("GET", f"{prefix}{PCAPS}/{made['id']}/download")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/vnd.tcpdump.pcap"
    assert answer.body[:4] == bytes.fromhex("d4c3b2a1")
    path = daemon.dir / "simple.pcap"
    path.write_bytes(answer.body)
    packets = frames.read_pcap(path)
    assert len(packets) == 100 and harness.capinfos_count(path) == 100
    numbers = [capcheck.number(data)[1] for _, _, data in packets]
    assert {(b - a) % COUNT for a, b in zip(numbers, numbers[1:])} == {10}, "every tenth packet"
    assert {len(data) for _, _, data in packets} == {160} and {size for _, size, _ in packets} == {
        300
    }
    capture, file = daemon.settled(dashed(made["id"]))
    assert capture["dialect"] == "cloudflare" and len(file) == 100
    assert [data for _, _, data in packets] == file.frames()


@pytest.mark.sanitize
def test_full_and_stop(daemon):
    made = create(daemon, FULL, byte_limit=100_000_000, packet_limit=10_000)["result"]
    assert made["status"] == "pending" and made["type"] == "full"
    assert made["colo_name"] == "ord02" and made["byte_limit"] == 100_000_000
    assert made["destination_conf"] == FULL["destination_conf"] and "stop_requested" not in made
    until("it is running", lambda: get(daemon, made["id"])["status"] == "running")
    unfinished = daemon.api.request("GET", f"{PCAPS}/{made['id']}/download")
    assert envelope(unfinished, 409)["errors"][0]["code"] == 1409
    assert unfinished.headers["x-should-retry"] == "false"
    until("it has packets", lambda: daemon.api.capture(dashed(made["id"]))["ledger"]["accepted"])
    for _ in range(2):
        answer = ask(daemon, "PUT", f"{PCAPS}/{made['id']}/stop")
        assert answer.status == 204 and answer.body == b""
    done = ready(daemon, made["id"])
    assert done["status"] == "success" and done["stop_requested"]
    capture, file = daemon.settled(dashed(made["id"]))
    assert done["packets_captured"] == len(file) == capture["ledger"]["offered"] > 0
    complaints, _ = capcheck.claims(file, COUNT)
    assert not complaints
    assert daemon.api.request("GET", f"{PCAPS}/{made['id']}/download").body[:4] == bytes.fromhex(
        "d4c3b2a1"
    )


def test_full_to_its_limit(daemon):
    made = create(daemon, FULL, packet_limit=500)["result"]
    assert ready(daemon, made["id"])["status"] == "success"
    _, file = daemon.settled(dashed(made["id"]))
    assert len(file) == 500


def test_full_without_a_match_failed(daemon):
    made = create(daemon, FULL, time_limit=1, filter_v1={"protocol": 132})["result"]
    done = ready(daemon, made["id"])
    assert done["status"] == "failed"
    assert done["error_message"] == (
        "No packets matched the filter in the time limit given. Please modify the filter or try again."
    )
    assert done["packets_captured"] == 0


def test_simple_without_a_match_succeeds(daemon):
    made = create(daemon, time_limit=1, filter_v1={"protocol": 132})["result"]
    assert ready(daemon, made["id"])["status"] == "success"
    answer = daemon.api.request("GET", f"{PCAPS}/{made['id']}/download")
    assert answer.status == 200 and len(answer.body) == 24


@pytest.mark.parametrize(
    "filter_v1,keeps",
    [
        ({}, lambda s, d: True),
        ({"source_port": 1001}, lambda s, d: s == 1001),
        ({"destination_port": 81.0, "protocol": 17}, lambda s, d: d == 81),
        ({"source_address": "10.0.0.2", "destination_address": "10.0.1.0"}, lambda s, d: True),
        ({"source_port": 1002, "destination_port": 80}, lambda s, d: (s, d) == (1002, 80)),
    ],
)
def test_filters(daemon, filter_v1, keeps):
    made = create(daemon, FULL, packet_limit=200, filter_v1=filter_v1)["result"]
    assert made["filter_v1"] == filter_v1
    assert ready(daemon, made["id"])["status"] == "success"
    _, file = daemon.settled(dashed(made["id"]), readers=False)
    numbers = [capcheck.number(frame)[1] for frame in file.frames()]
    assert len(numbers) == 200
    kept = [n for n in range(COUNT) if keeps(1000 + n % 4, 80 + n % 2)]
    where = {n: i for i, n in enumerate(kept)}
    assert all((where[b] - where[a]) % len(kept) == 1 for a, b in zip(numbers, numbers[1:]))


BAD = [
    (SIMPLE, {"type": None}, "type"),
    (SIMPLE, {"type": "half"}, "type"),
    (SIMPLE, {"system": None}, "system"),
    (SIMPLE, {"system": "magic-wand"}, "system"),
    (SIMPLE, {"time_limit": None}, "time_limit"),
    (SIMPLE, {"time_limit": 0}, "time_limit"),
    (SIMPLE, {"time_limit": 301}, "time_limit"),
    (SIMPLE, {"time_limit": "300"}, "time_limit"),
    (SIMPLE, {"packet_limit": None}, "packet_limit"),
    (SIMPLE, {"packet_limit": 10001}, "packet_limit"),
    (SIMPLE, {"packet_limit": 0}, "packet_limit"),
    (SIMPLE, {"packet_limit": 1.5}, "packet_limit"),
    (SIMPLE, {"offset_time": "yesterday"}, "offset_time"),
    (SIMPLE, {"offset_time": "2020-01-01T00:00:00Z"}, "offset_time"),
    (SIMPLE, {"filter_v1": 5}, "filter_v1"),
    (SIMPLE, {"filter_v1": {"source_port": 70000}}, "source_port"),
    (SIMPLE, {"filter_v1": {"protocol": 256}}, "protocol"),
    (SIMPLE, {"filter_v1": {"source_address": "example.com"}}, "source_address"),
    (SIMPLE, {"filter_v1": {"destination_address": "1.2.3.4 or tcp"}}, "destination_address"),
    (FULL, {"time_limit": 86401}, "time_limit"),
    (FULL, {"colo_name": None}, "colo_name"),
    (FULL, {"colo_name": "lhr01"}, "ord02"),
    (FULL, {"destination_conf": None}, "destination_conf"),
    (FULL, {"destination_conf": "/etc/passwd"}, "destination_conf"),
    (FULL, {"byte_limit": 0}, "byte_limit"),
    (FULL, {"byte_limit": 1_000_000_001}, "byte_limit"),
]


@pytest.mark.parametrize("base,changes,word", BAD, ids=lambda v: str(v)[:40])
@pytest.mark.sanitize
def test_bad_field(daemon, base, changes, word):
    error = create(daemon, base, 400, **changes)["errors"][0]
    assert error["code"] == 1400 and word in error["message"], error


def test_what_clients_send_too(daemon):
    """Members that the vendor does not define are ignored; colo stands for colo_name, in any case.
    Members that the vendor does not define are ignored; colo stands for colo_name, in any case."""
    ids = [
        create(daemon, FULL, colo_name=None, colo="ORD", packet_limit=1)["result"],
        create(daemon, FULL, colo_name="ORD02", packet_limit=1.0, anything="else")["result"],
        create(daemon, time_limit=0.5 + 1)["result"],
        create(daemon, offset_time=datetime.datetime.now(datetime.timezone.utc).isoformat())[
            "result"
        ],
    ]
    for made in ids[:2]:
        assert made["colo_name"].lower() == "ord02" or made["colo_name"] == "ORD"
        ready(daemon, made["id"])


@pytest.mark.sanitize
def test_refusals(daemon):
    unknown = "0" * 32
    stranger = Api(daemon.http)
    key = {"X-Auth-Email": "me@example.com", "X-Auth-Key": daemon.api.token}
    service = {"X-Auth-User-Service-Key": daemon.api.token}
    for prefix in ("", "/client/v4"):
        pcaps = prefix + PCAPS
        cases = [
            (stranger.request("GET", pcaps), 401, 10000),
            (stranger.request("GET", pcaps, headers={"Authorization": "Bearer wrong"}), 401, 10000),
            (stranger.request("GET", pcaps, headers={**key, "X-Auth-Key": "wrong"}), 401, 10000),
            (daemon.api.request("GET", f"{pcaps}/{unknown}"), 404, 1404),
            (daemon.api.request("GET", f"{pcaps}/{unknown}/download"), 404, 1404),
            (daemon.api.request("PUT", f"{pcaps}/{unknown}/stop"), 404, 1404),
            (daemon.api.request("GET", f"{prefix}/accounts/{unknown}/pcaps"), 404, None),
            (daemon.api.request("GET", f"{prefix}/accounts/{ACCOUNT}/nothing"), 404, 7003),
            (daemon.api.request("GET", f"{pcaps}/ownership"), 404, None),
            (
                daemon.api.request("POST", f"{pcaps}/ownership", {"destination_conf": "s3://x"}),
                404,
                None,
            ),
            (daemon.api.request("DELETE", pcaps), 405, 10405),
            (daemon.api.request("POST", pcaps, b"{"), 400, 1400),
        ]
        for answer, status, code in cases:
            body = envelope(answer, status)
            if code:
                assert body["errors"][0]["code"] == code, body
        assert stranger.request("GET", pcaps, headers=key).status == 200
        assert stranger.request("GET", pcaps, headers=service).status == 200
    simple = create(daemon)["result"]["id"]
    envelope(ask(daemon, "PUT", f"{PCAPS}/{simple}/stop"), 400)


def test_viewer_may_look_only(daemon):
    secret = daemon.api.ask("POST", "/api/v1/tokens", {"name": "cfview", "role": "viewer"}, 201)[
        "secret"
    ]
    viewer = Api(daemon.http, secret)
    try:
        envelope(viewer.request("GET", PCAPS))
        assert envelope(viewer.request("POST", PCAPS, SIMPLE), 403)["errors"][0]["code"] == 10000
    finally:
        daemon.api.ask("DELETE", "/api/v1/tokens/cfview", want=204)


def test_list_is_newest_first_and_short(daemon):
    ids = [create(daemon, packet_limit=1)["result"]["id"] for _ in range(55)]
    listed = envelope(ask(daemon, "GET", PCAPS))["result"]
    assert [p["id"] for p in listed] == ids[::-1][:50]
    for id in ids:
        ready(daemon, id)
        daemon.api.delete(dashed(id))
    envelope(daemon.api.request("GET", f"{PCAPS}/{ids[0]}"), 404)


def test_limits_of_an_account(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, 0, 100)])
    daemon = sluiced(
        {"tap0": replay(path, infinite=True, rate=1000)},
        **{
            "cloudflare": {"enabled": "yes", "full_concurrent": 1, "simple_per_minute": 2},
            "account default": {"id": ACCOUNT, "colo": "ord02"},
        },
    )
    first = create(daemon, FULL)["result"]["id"]
    refused = daemon.api.request("POST", PCAPS, FULL)
    assert envelope(refused, 429)["errors"][0]["code"] == 1429
    assert refused.headers["x-should-retry"] == "false"
    assert daemon.api.request("PUT", f"{PCAPS}/{first}/stop").status == 204
    ready(daemon, first)
    second = create(daemon, FULL, packet_limit=1)["result"]["id"]
    ready(daemon, second)
    for _ in range(2):
        ready(daemon, create(daemon, packet_limit=1)["result"]["id"])
    create(daemon, want=429)


def test_off_unless_enabled(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, 0, 100)])
    daemon = sluiced({"tap0": replay(path)}, **{"account default": {"id": ACCOUNT}})
    assert daemon.api.request("GET", PCAPS).status == 404
    assert daemon.api.request("GET", "/client/v4" + PCAPS).status == 404


def test_official_client(daemon):
    """The npm package `cloudflare`, unpatched, with its base URL pointed here: client.mjs does the
    asking."""
    place = oracle.npm_packages(harness.SOURCE / "tests" / "e2e" / "cloudflare")
    environment = {
        **os.environ,
        "SLUICE_URL": daemon.api.url,
        "SLUICE_TOKEN": daemon.api.token,
        "CLOUDFLARE_ACCOUNT": ACCOUNT,
    }
    done = subprocess.run(
        ["node", "client.mjs"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90 * harness.SLOW,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_the_published_description_agrees():
    """Comes last: what the tests before it asked and were answered."""
    EXCHANGES.judge()
