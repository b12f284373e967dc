# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Starting: configuration errors by file, line and key; missing devices; --check and --help-
config."""
import re
import socket

import pytest

import frames
import harness
import net
from harness import replay, run, watch

PORT = "[port tap0]\ninterface = lo\n"

# text, line of the error, key, words of the message
BAD_CONFIGS = [
    ("[engine]\nrx_cpu = 1\n" + PORT, 2, "rx_cpu", []),
    ("[motor]\nx = 1\n" + PORT, None, "motor", []),
    ("[engine]\nrx_cpus = 9999\n" + PORT, 2, "rx_cpus", ["9999"]),
    ("[engine]\nrx_cpus = one\n" + PORT, 2, "rx_cpus", ["one"]),
    ("[engine]\nhugepages = maybe\n" + PORT, 2, "hugepages", ["maybe", "auto", "yes", "no"]),
    ("[engine]\nblock_memory = lots\n" + PORT, 2, "block_memory", ["lots"]),
    ("[engine]\nblock_memory = 1\n" + PORT, 2, "block_memory", []),
    ("[engine]\nmain_cpu = 0\nmain_cpu = 0\n" + PORT, 3, "main_cpu", []),
    ("[storage]\nquota = 120%\n" + PORT, 2, "quota", ["120"]),
    ("[storage]\nquota = much\n" + PORT, 2, "quota", ["much"]),
    ("[storage]\ndurable_every = 1parsec\n" + PORT, 2, "durable_every", ["1parsec"]),
    ("[storage]\nwhen_full = panic\n" + PORT, 2, "when_full", ["panic", "delete-oldest", "refuse"]),
    ("[api]\nlisten = nowhere\n" + PORT, 2, "listen", ["nowhere"]),
    ("[api]\nlisten = 127.0.0.1:99999\n" + PORT, 2, "listen", ["99999"]),
    ("[api]\nlisten = 0.0.0.0:8080\n" + PORT, None, "listen", ["insecure"]),
    ("[port tap0]\n", None, "tap0", ["interface", "device"]),
    ("[port tap0]\ninterface = lo\ndevice = net_null0\n", None, "tap0", ["interface", "device"]),
    ("[port tap0]\ninterface = lo\nmtu = 5\n", 3, "mtu", ["5"]),
    ("[port tap0]\ninterface = lo\nsnaplen = 0x10\n", 3, "snaplen", ["0x10"]),
    ("[port tap0]\ninterface = lo\nrate = fast\n", 3, "rate", ["fast", "max"]),
    ("[port tap0]\ninterface = lo\npoll = often\n", 3, "poll", ["often", "always", "wanted"]),
    (PORT + "[account a]\nid = xyz\n", 4, "id", ["xyz", "32"]),
    (PORT + "[account a]\nports = tap9\n", 4, "ports", ["tap9"]),
    (PORT + "[sampling]\nsimple = 0\n", 4, "simple", []),
    (PORT + "[port bad name!]\ninterface = lo\n", None, "bad name!", []),
    (PORT + "just words\n", 3, "", []),
    (PORT + "[storage]\nroot = /" + "x" * 250 + "\n", 4, "", ["258", "199"]),
]


@pytest.mark.parametrize("case", BAD_CONFIGS, ids=lambda c: " ".join(c[0].split())[:50])
@pytest.mark.sanitize
def test_bad_config(dir, case):
    text, line, key, words = case
    path = dir / "bad.ini"
    path.write_text(text)
    done = run(harness.SLUICED, "--check", "--config", path, check=False)
    assert done.returncode == 2, done
    said = done.stderr
    assert str(path) in said
    if line is not None:
        assert re.search(rf"{re.escape(str(path))}:{line}: ", said), said
    for word in [key, *words]:
        assert word in said, said
    started = run(harness.SLUICED, "--config", path, check=False)
    assert started.returncode == 2 and said.strip() in started.stderr


def test_check_of_good_files(dir):
    for path in sorted((harness.SOURCE / "config").glob("*.ini")):
        # As it is, but for CPUs that this machine may not have.
        here = dir / path.name
        here.write_text(re.sub(r"^(\w+_cpus?) = .*", r"\1 = 0", path.read_text(), flags=re.M))
        done = run(harness.SLUICED, "--check", "--config", here, check=False)
        assert done.returncode == 0, f"{path}: {done.stderr}"
    odd = dir / "odd.ini"
    odd.write_text(
        "; a word first\n" + PORT + "[api]\nlisten = 127.0.0.1:8080,\n  [::1]:8081 ; two\n"
    )
    run(harness.SLUICED, "--check", "--config", odd)


def test_usage():
    assert run(harness.SLUICED, "--no-such", check=False).returncode == 2
    done = run(harness.SLUICED, "--check", "--config", "/nonexistent/x.ini", check=False)
    assert done.returncode == 2 and "/nonexistent/x.ini" in done.stderr


def test_help_config():
    said = run(harness.SLUICED, "--help-config").stdout
    for key in (
        "listen",
        "insecure",
        "public_url",
        "token_file",
        "root",
        "quota",
        "durable_every",
        "when_full",
        "keep",
        "delete_unuploaded",
        "endless",
        "hugepages",
        "main_cpu",
        "rx_cpus",
        "writer_cpus",
        "block_memory",
        "interface",
        "device",
        "rx_queues",
        "mtu",
        "snaplen",
        "poll",
        "rate",
        "simple",
        "site_id",
        "org_id",
        "ports",
        "colo",
        "deliver",
    ):
        assert re.search(rf"\b{key}\b", said), key


def fails_to_start(daemon, code, *words):
    daemon.root.mkdir(exist_ok=True)
    try:
        done = run(harness.SLUICED, "--config", daemon.config, check=False, timeout=30)
    finally:
        daemon.discard()
    assert done.returncode == code, done
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.sanitize
def test_missing_interface():
    fails_to_start(harness.Daemon({"tap0": watch("nosuch0")}), 1, "tap0", "nosuch0")


def test_missing_file(dir):
    fails_to_start(harness.Daemon({"tap0": replay(dir / "none.pcap")}), 1, "tap0", "none.pcap")


def test_missing_device():
    fails_to_start(harness.Daemon({"tap0": {"device": "0000:ff:1f.7"}}), 1, "tap0", "0000:ff:1f.7")


def test_address_in_use():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        daemon = harness.Daemon({"tap0": watch("lo")}, api={"listen": f"127.0.0.1:{port}"})
        fails_to_start(daemon, 1, str(port))


def test_endless_forbidden(sluiced, dir):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, 0)])
    daemon = sluiced({"tap0": replay(path)}, capture={"endless": "no"})
    answer = daemon.api.request("POST", "/api/v1/captures", {})
    assert answer.status in (400, 403) and "limit" in answer.body.decode()
    daemon.settled(daemon.api.create(limits={"packets": 1})["id"])


@pytest.mark.sanitize
def test_interface_removed(sluiced, veth):
    """A port that goes away ends its captures, whole and readable, with its reason."""
    wire, other = veth(), veth()
    daemon = sluiced({"tap0": watch(wire.tap), "tap1": watch(other.tap)})
    daemon.allow("port|interface|link")
    doomed = daemon.api.create(ports=["tap0"])["id"]
    safe = daemon.api.create(ports=["tap1"])["id"]
    sent = [frames.numbered(1, n) for n in range(100)]
    for pair in (wire, other):
        with net.Sender(pair.far) as sender:
            sender.send(sent)
    daemon.api.wait_offered(doomed, 100)
    run("ip", "link", "del", wire.tap)
    capture = daemon.api.wait_closed(doomed)
    assert capture["reason"] == "port_lost"
    _, file = daemon.settled(doomed)
    assert file.frames() == sent
    assert daemon.api.capture(safe)["state"] == "running"
    assert daemon.api.ports()["tap0"]["link"] == "down"
    daemon.api.stop(safe)
    _, file = daemon.settled(safe)
    assert file.frames() == sent


def test_link_state(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    port = daemon.api.ports()["tap0"]
    assert port["interface"] == wire.tap and port["link"] == "up" and port["mtu"] == 1500
    run("ip", "link", "set", wire.far, "down")
    harness.until("link down is seen", lambda: daemon.api.ports()["tap0"]["link"] == "down")
    run("ip", "link", "set", wire.far, "up")
    harness.until("link up is seen", lambda: daemon.api.ports()["tap0"]["link"] == "up")
