# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The quick path: a wire, start, traffic, stop, download; by API and by client (test_readme.py: as the README has it)."""
import json
import signal
import subprocess

import pytest

import capcheck
import frames
import harness
import net
from harness import check_residuals, until, watch


def numbered(count, size=100, stream=1):
    return [frames.numbered(stream, n, size) for n in range(count)]


@pytest.mark.sanitize
def test_api_start_stop_download(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = numbered(2000)
    capture = daemon.api.create(ports=["tap0"], name="first")
    assert capture["state"] == "running" and capture["reason"] is None
    with net.Sender(wire.far) as sender:
        sender.send(sent, pps=20000)
    daemon.api.wait_offered(capture["id"], len(sent))
    stopped = daemon.api.stop(capture["id"])
    assert stopped["state"] in ("converting", "complete")
    capture, file = daemon.settled(capture["id"])
    assert (capture["state"], capture["reason"]) == ("complete", "stopped")
    assert wire.arrived() == len(sent), "the kernel's own count"
    assert file.frames() == sent
    assert file.interfaces[0].name == "tap0"
    assert capture["ledger"]["offered"] == len(sent)
    daemon.settle_ports()
    assert daemon.api.counters()["offered"] == len(sent)


def test_stop_is_idempotent_and_delete_forgets(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    id = daemon.api.create()["id"]
    first = daemon.api.stop(id)
    daemon.api.wait_closed(id)
    again = daemon.api.stop(id)
    assert again["ended_at"] == daemon.api.capture(id)["ended_at"] and first["id"] == again["id"]
    daemon.settled(id)
    daemon.api.delete(id)
    for method, tail in (("GET", ""), ("POST", "/stop"), ("GET", "/download"), ("DELETE", "")):
        assert daemon.api.request(method, f"/api/v1/captures/{id}{tail}").status == 404
    assert not list((daemon.root / "captures").iterdir())
    running = daemon.api.create()["id"]
    daemon.api.delete(running)
    assert daemon.api.captures() == {"captures": [], "next": None}


def test_empty_capture(sluiced, veth):
    daemon = sluiced({"tap0": watch(veth().tap)})
    capture = daemon.api.create()
    daemon.api.stop(capture["id"])
    capture, file = daemon.settled(capture["id"])
    assert len(file) == 0 and capture["state"] == "complete"


def test_list_names_and_notes(sluiced, veth):
    daemon = sluiced({"tap0": watch(veth().tap)})
    ids = [daemon.api.create(name=f"n{i}")["id"] for i in range(5)]
    for id in ids[:3]:
        daemon.api.stop(id)
        daemon.api.wait_closed(id)
    page, seen = daemon.api.captures("?limit=2"), []
    while True:
        seen += [c["id"] for c in page["captures"]]
        if page["next"] is None:
            break
        page = daemon.api.captures(f"?limit=2&cursor={page['next']}")
    assert seen == ids[::-1], "newest first, each once"
    complete = daemon.api.captures("?state=complete")["captures"]
    assert [c["id"] for c in complete] == ids[2::-1]
    changed = daemon.api.ask(
        "PATCH", f"/api/v1/captures/{ids[0]}", {"name": "neu", "notes": "später"}
    )
    assert (changed["name"], changed["notes"]) == ("neu", "später")
    assert daemon.api.capture(ids[0])["notes"] == "später"


def test_direction(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    assert daemon.api.ports()["tap0"]["direction"] == "exact"
    ids = {d: daemon.api.create(direction=d)["id"] for d in ("in", "out", "both")}
    inbound, outbound = numbered(300, stream=1), numbered(200, stream=2)
    with net.Sender(wire.far) as far, net.Sender(wire.tap) as near:
        far.send(inbound, pps=5000)
        near.send(outbound, pps=5000)
    want = {"in": inbound, "out": outbound, "both": inbound + outbound}
    for direction, id in ids.items():
        daemon.api.wait_offered(id, 500)
        daemon.api.stop(id)
        _, file = daemon.settled(id)
        assert file.frames() == want[direction], direction
        bits = {1: 1, 2: 2}
        for i in range(len(file)):
            assert file.flags[i] & 3 == bits[capcheck.number(file[i])[0]]


def test_snaplen(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = [frames.numbered(1, n, 62 + n) for n in range(500)]
    capture = daemon.api.create(snaplen=128, limits={"packets": len(sent)})
    with net.Sender(wire.far) as sender:
        sender.send(sent, pps=10000)
    _, file = daemon.settled(capture["id"])
    assert file.frames() == [frame[:128] for frame in sent]
    assert list(file.origlen) == [len(frame) for frame in sent]
    assert file.interfaces[0].snaplen == 128


@pytest.mark.sanitize
def test_client_to_its_limit(sluiced, veth, dir):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = numbered(1500)
    out = dir / "out.pcapng"
    client = subprocess.Popen(
        [harness.SLUICE, "start", "-i", "tap0", "-w", out, "-c", "1000", "udp port 20000"],
        env=daemon.client_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until("the capture runs", lambda: daemon.api.captures("?state=running")["captures"])
    with net.Sender(wire.far) as sender:
        sender.send(sent, pps=10000)
    _, errors = client.communicate(timeout=30 * harness.SLOW)
    assert client.returncode == 0, errors
    file = capcheck.read(out)
    assert file.frames() == sent[:1000]
    capture = daemon.api.captures()["captures"][0]
    assert capture["reason"] == "packet_limit" and capture["filter"] == "udp port 20000"
    check_residuals(capcheck.books(capture, file), capture)
    assert harness.capinfos_count(out) == 1000


def test_client_until_interrupted(sluiced, veth, dir):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    sent = numbered(700)
    out = dir / "out.pcapng"
    client = subprocess.Popen(
        [harness.SLUICE, "start", "-i", "tap0", "-w", out],
        env=daemon.client_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = until("the capture runs", lambda: daemon.api.captures("?state=running")["captures"])
    with net.Sender(wire.far) as sender:
        sender.send(sent, pps=10000)
    daemon.api.wait_offered(running[0]["id"], len(sent))
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=30 * harness.SLOW)
    assert client.returncode == 0, errors
    assert capcheck.read(out).frames() == sent
    daemon.settled(running[0]["id"])


def test_client_commands(sluiced, veth, dir):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    id = daemon.sluice("start", "-i", "tap0", "--name", "by hand", "-s", "96").stdout.split()[0]
    assert daemon.api.capture(id)["snaplen"] == 96
    with net.Sender(wire.far) as sender:
        sender.send(numbered(50), pps=5000)
    daemon.api.wait_offered(id, 50)
    assert id in daemon.sluice("list").stdout
    assert json.loads(daemon.sluice("--json", "show", id).stdout)["name"] == "by hand"
    daemon.sluice("stop", id)
    daemon.settled(id)
    daemon.sluice("download", id, "-w", dir / "c.pcapng")
    assert len(capcheck.read(dir / "c.pcapng")) == 50
    assert "tap0" in daemon.sluice("ports").stdout
    assert json.loads(daemon.sluice("--json", "status").stdout)["blocks"]["total"] > 0
    daemon.sluice("balance")
    daemon.sluice("delete", id)
    assert daemon.sluice("show", id, check=False).returncode == 1
    assert daemon.sluice("start", "--no-such-flag", check=False).returncode == 2
    assert (
        daemon.sluice(
            "--url", f"http://127.0.0.1:{harness.free_port()}", "list", check=False
        ).returncode
        == 3
    )


def test_tokens_by_client(sluiced, veth):
    daemon = sluiced({"tap0": watch(veth().tap)})
    made = daemon.api.ask("POST", "/api/v1/tokens", {"name": "eye", "role": "viewer"}, 201)
    eye = harness.Api(daemon.http, made["secret"])
    assert eye.request("GET", "/api/v1/captures").status == 200
    assert eye.request("POST", "/api/v1/captures", {}).status == 403
    assert "eye" in daemon.sluice("token", "list").stdout
    daemon.api.ask("DELETE", "/api/v1/tokens/eye", want=204)
    assert eye.request("GET", "/api/v1/captures").status == 401
