# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""TLS in process: everything that HTTP can goes over it, nothing old does; certificates are read again
without dropping a capture or a connection."""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

import capcheck
import certificates
import frames
import harness
import net
import websocket
from harness import SLOW, until

NUMBER = 6000


@pytest.fixture(scope="module")
def authority(module_dir):
    return certificates.Authority(module_dir)


@pytest.fixture(scope="module")
def signed(authority):
    return authority.sign("server")


@pytest.fixture(scope="module")
def source(module_dir):
    return frames.write_pcap(
        module_dir / "source.pcap", [frames.numbered(1, n, 1000) for n in range(NUMBER)]
    )


@pytest.fixture
def secure(sluiced, authority, signed, dir):
    """secure(ports, **api): a daemon with a certificate of its own, which a test may replace."""

    def start(ports=None, begin=True, **api):
        for name, path in zip(("tls_certificate", "tls_key"), signed):
            shutil.copy(path, dir / path.name)
            api.setdefault(name, dir / path.name)
        ports = ports or {"tap0": {"device": "net_null0", "poll": "wanted"}}
        return sluiced(ports, begin=begin, tls=authority, api=api)

    return start


def handshake(daemon, context, timeout=10):
    """A connected TLS socket, or the error."""
    raw = socket.create_connection(("127.0.0.1", daemon.http), timeout * SLOW)
    try:
        return context.wrap_socket(raw, server_hostname="127.0.0.1")
    except Exception:
        raw.close()
        raise


def ask(tls, daemon, path="/api/v1/status"):
    """One request on a connection that stays open; the whole answer."""
    tls.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.api.token}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = tls.recv(65536)
        assert data, "closed before its answer"
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
    while len(body) < length:
        body += tls.recv(65536)
    return head + b"\r\n\r\n" + body


def metric(daemon, name):
    for line in daemon.api.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no {name} in /metrics")


@pytest.mark.sanitize
def test_everything_goes_over_tls(secure, authority, veth, dir):
    wire = veth()
    daemon = secure({"tap0": harness.watch(wire.tap)})
    assert daemon.api.url.startswith("https://")
    sent = [frames.numbered(1, n, 1000) for n in range(NUMBER)]
    id = daemon.api.create()["id"]
    live = dir / "live.pcapng"
    with open(live, "wb") as out, websocket.Socket(
        daemon.http,
        "/api/v1/stream",
        [f"Authorization: Bearer {daemon.api.token}"],
        timeout=30 * SLOW,
        tls=authority.context(),
    ) as stream:
        watcher = subprocess.Popen(
            [harness.SLUICE, "watch", "--raw", id], stdout=out, env=daemon.client_env()
        )
        until("the header came", lambda: live.stat().st_size > 0)
        stream.ask(subscribe="capture", id=id, rate=10_000)
        assert stream.event("subscribed")
        with net.Sender(wire.far) as sender:
            sender.send(sent, pps=4000)
        daemon.api.wait_offered(id, len(sent))
        daemon.api.stop(id)
        assert watcher.wait(timeout=30 * SLOW) == 0
        end = stream.event("end")
    assert end["delivered"] + end["skipped"] == len(sent)
    capture, file = daemon.settled(id)  # downloads all 6 MB, and asks with `sluice balance`
    assert file.frames() == sent and capture["ledger"]["written"] == len(sent)
    seen = capcheck.read(live, closed=False)
    # On a busy machine a watcher may be skipped; what it got is in order and unharmed.
    got, rest = seen.frames(), iter(sent)
    assert all(frame in rest for frame in got)
    assert len(got) > NUMBER // 10, "hardly anything came over TLS"
    print(f"{len(got)} of {NUMBER} live")
    part = dir / "part"
    harness.run(
        "curl", "-sS", "--fail", "-m", "20", "--cacert", authority.path, "-r", "100-299",
        "-H", f"Authorization: Bearer {daemon.api.token}", "-o", part,
        f"{daemon.api.url}/api/v1/captures/{id}/download",
    )  # fmt: skip
    assert part.stat().st_size == 200


def test_whom_the_client_trusts(secure, module_dir):
    """The secret goes to nobody whose certificate does not say that he is the daemon."""
    daemon = secure()
    stranger = certificates.Authority(module_dir, "stranger")
    assert daemon.sluice("ports").returncode == 0
    refused = daemon.sluice("ports", "--ca-file", stranger.path, check=False)
    assert refused.returncode == 3 and "certificate" in refused.stderr
    environment = {k: v for k, v in daemon.client_env().items() if k != "SLUICE_CA"}
    refused = harness.run(harness.SLUICE, "ports", env=environment, check=False)
    assert refused.returncode == 3 and "certificate" in refused.stderr


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_nothing_old_is_spoken(secure, authority):
    daemon = secure()
    with handshake(daemon, authority.context()) as tls:
        assert tls.version() == "TLSv1.3" and b" 200 OK" in ask(tls, daemon)
        assert tls.compression() is None
    modern = authority.context()
    modern.maximum_version = ssl.TLSVersion.TLSv1_2
    with handshake(daemon, modern) as tls:
        assert tls.version() == "TLSv1.2" and "ECDHE" in tls.cipher()[0]
        assert tls.cipher()[0].endswith(("GCM-SHA256", "GCM-SHA384", "POLY1305"))
    modern.set_alpn_protocols(["h2", "http/1.1"])
    with handshake(daemon, modern) as tls:
        assert tls.selected_alpn_protocol() == "http/1.1"
    for limit in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old = authority.context()
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, limit
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(daemon, old)
    for ciphers in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
        weak = authority.context()
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers(ciphers + ":@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(daemon, weak)
    second = authority.context()
    second.set_alpn_protocols(["h2"])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(daemon, second)
    # Neither in the clear, and no certificate is needed to find that out.
    with socket.create_connection(("127.0.0.1", daemon.http), 10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"HTTP" not in plain.recv(1000)
        except ConnectionError:
            pass


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_renegotiation_and_no_resumption(secure, authority, version, dir):
    daemon = secure()
    saved = dir / "session"
    where = ["-connect", f"127.0.0.1:{daemon.http}", "-CAfile", str(authority.path), version]
    asked = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    done = harness.run(
        "openssl", "s_client", "-quiet", "-sess_out", saved, *where, input=asked, check=False
    )
    assert "200 OK" in done.stdout
    if saved.exists():
        done = harness.run(
            "openssl", "s_client", "-sess_in", saved, *where, input=asked, check=False
        )
        assert "200 OK" in done.stdout and "Reused" not in done.stdout
    if version == "-tls1_2":
        done = harness.run("openssl", "s_client", *where, input="R\n", check=False)
        assert "no renegotiation" in done.stdout + done.stderr


def test_certificates_change_under_way(secure, authority, source, dir):
    """SIGHUP: what is open stays open, what comes sees the new one, a bad one changes nothing."""
    port = harness.replay(source, infinite=True, rate=2000, poll="always")
    daemon = secure({"tap0": port})
    id = daemon.api.create()["id"]
    old = handshake(daemon, authority.context())
    first = old.getpeercert()["serialNumber"]

    def replace(pair):
        for path, name in zip(pair, ("server.pem", "server.key")):
            shutil.copy(path, dir / f"{name}.new")
            os.rename(dir / f"{name}.new", dir / name)
        os.kill(daemon.pid, signal.SIGHUP)

    def serial():
        with handshake(daemon, authority.context()) as tls:
            return tls.getpeercert()["serialNumber"]

    assert b" 200 OK" in ask(old, daemon)
    replace(authority.sign("second"))
    second = until("the new one is shown", lambda: serial() != first and serial())
    assert b" 200 OK" in ask(old, daemon), "the old connection goes on"
    # Broken ones: no certificate, the key of another, a key that all may read.
    daemon.allow("tls certificate kept")
    (dir / "bad.pem").write_text("rubbish")
    third = authority.sign("third")
    for number, pair in enumerate([(dir / "bad.pem", third[1]), (third[0], authority.key), third]):
        if pair == third:
            third[1].chmod(0o644)
        replace(pair)
        until(
            "it was looked at",
            lambda: metric(daemon, 'sluice_tls_reloads_total{result="failed"}') == number + 1,
        )
        assert serial() == second
    log = daemon.log()
    for word in ("holds no certificate", "is not the key of the certificate", "lets others in"):
        assert word in log, word
    third[1].chmod(0o600)
    replace(third)
    until("the third is shown", lambda: serial() not in (first, second))
    assert b" 200 OK" in ask(old, daemon)
    assert metric(daemon, 'sluice_tls_reloads_total{result="done"}') == 2
    assert metric(daemon, "sluice_tls_certificate_expiry_timestamp_seconds") > time.time()
    old.close()
    daemon.api.stop(id)
    capture, file = daemon.settled(id)
    assert capture["ledger"]["written"] == capture["ledger"]["offered"] == len(file) > 0
    assert not any(capture["ledger"]["dropped"].values())


def test_clients_show_certificates(secure, authority, module_dir, dir):
    stranger = certificates.Authority(module_dir, "other")
    mine, others = authority.sign("client", "DNS:client"), stranger.sign("spy", "DNS:spy")
    ca = {"tls_client_ca": authority.path}
    wanted = secure(tls_client="wanted", **ca)
    with handshake(wanted, authority.context()) as tls:
        assert b" 200 OK" in ask(tls, wanted)
    with handshake(wanted, authority.context(mine)) as tls:
        assert b" 200 OK" in ask(tls, wanted)
    required = secure(begin=False, tls_client="required", **ca)
    required.api.tls = authority.context(mine)
    required.start()
    with handshake(required, authority.context(mine)) as tls:
        assert b" 200 OK" in ask(tls, required)
        required.api.token, token = "0" * 64, required.api.token
        assert b" 401 " in ask(tls, required), "a certificate replaces no token"
        required.api.token = token
    for daemon, context in (
        (wanted, authority.context(others)),
        (required, authority.context(others)),
        (required, authority.context()),
    ):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with handshake(daemon, context) as tls:  # TLS 1.3 refuses after the client is done
                tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert tls.recv(100) == b"", "let in"
                raise ConnectionError
    pem = dir / "both.pem"
    pem.write_text(mine[0].read_text() + mine[1].read_text())
    assert required.sluice("--cert", pem, "ports").returncode == 0
    assert required.sluice("ports", check=False).returncode == 3


def test_files_that_will_not_do_end_the_start(authority, signed, dir):
    other = authority.sign("unrelated")
    locked = dir / "locked.key"
    harness.run(
        "openssl", "ec", "-in", signed[1], "-aes256", "-passout", "pass:x", "-out", locked
    )
    locked.chmod(0o600)
    open_key = dir / "open.key"
    shutil.copy(signed[1], open_key)
    open_key.chmod(0o604)
    empty = dir / "empty"
    empty.touch()
    for options, words in (
        ({"tls_key": other[1]}, "api.tls_key: .*is not the key of the certificate"),
        ({"tls_key": locked}, "api.tls_key: .*passphrase"),
        ({"tls_key": open_key}, "api.tls_key: .*mode 0604 and lets others in"),
        ({"tls_certificate": empty}, "api.tls_certificate: .*holds no certificate"),
        ({"tls_client": "wanted", "tls_client_ca": empty}, "api.tls_client_ca: .*no certificate"),
    ):
        files = dict(zip(("tls_certificate", "tls_key"), signed))
        daemon = harness.Daemon(
            {"tap0": {"device": "net_null0"}}, root=dir / "root", api={**files, **options}
        )
        (dir / "root").mkdir(exist_ok=True)
        done = harness.run(harness.SLUICED, "--config", daemon.config, check=False, timeout=30)
        daemon.discard()
        assert done.returncode == 1, done.stdout + done.stderr
        assert re.search(words, done.stdout + done.stderr), done.stdout + done.stderr
