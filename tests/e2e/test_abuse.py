# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Abuse of the API costs a capture no packet, and who asks honestly is answered. The long form, with
figures, is `scripts/soak --only abuse`."""
import socket
import time

import abuse
import certificates
import frames
import harness

RATE = 10_000


class Drip:
    """A request of which a byte comes now and then: ten seconds for the whole of it. opening None:
    not even a handshake."""

    def __init__(self, daemon, opening):
        raw = socket.create_connection(("127.0.0.1", daemon.http), 20 * harness.SLOW)
        self.begun, self.opening, self.socket = time.monotonic(), opening, raw
        self.over = False
        if opening is not None:
            self.socket = daemon.api.tls.wrap_socket(raw, server_hostname="127.0.0.1")
            self.socket.sendall(opening)

    def on(self):
        # On a slow machine its time may be over already.
        if self.opening is not None:
            try:
                self.socket.sendall(b" ")
            except OSError:
                self.over = True

    def ended(self):
        if not self.over:
            data = self.socket.recv(4096)
            assert data.startswith(b"HTTP/1.1 408 ") if self.opening else data == b"", data
        passed = time.monotonic() - self.begun
        assert passed < 10 + 10 * harness.SLOW, passed
        self.socket.close()


def check_all(seen):
    for kind, counts in seen.items():
        assert counts["failures"] == counts["hangs"] == 0, (kind, counts)


def test_abuse_costs_nothing(sluiced, dir):
    authority = certificates.Authority(dir)
    certificate, key = authority.sign("server")
    source = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 300) for n in range(5000)])
    daemon = sluiced(
        {"tap0": harness.replay(source, infinite=True, rate=RATE, poll="always")},
        tls=authority,
        api={"tls_certificate": certificate, "tls_key": key},
    )
    before, fds = daemon.rss(), daemon.fds()
    id = daemon.api.create()["id"]
    drips = [Drip(daemon, opening) for opening in (None, b"GET / HTTP/1.1\r\nX-Y: ", abuse.BODY)]
    slow = abuse.start(daemon, ("slowloris", "slowbody"), 10)
    for kinds in (("connects",), ("handshakes", "bodies"), ("pollers", "corpus")):
        seen, honest = abuse.run(daemon, kinds, 2)
        for drip in drips:
            drip.on()
        print(seen, f"{len(honest.times)} honest, p99 {honest.p99():.3f} s")
        check_all(seen)
        assert not honest.wrong, honest.wrong
        assert max(honest.times) < abuse.HANG * harness.SLOW
    seen = abuse.finish(slow)
    print(seen)
    check_all(seen)
    for drip in drips:
        drip.ended()
    grown = daemon.rss() - before
    daemon.api.stop(id)
    assert grown < (200 << 20) * harness.SLOW, f"{grown >> 20} MiB more"
    capture, _ = daemon.settled(id, readers=False)
    ledger = capture["ledger"]
    assert ledger["offered"] > RATE and not any(ledger["dropped"].values())
    counters = daemon.api.counters()
    assert not any(counters[name] for name in ("nic_missed", "nic_errors", "nic_nombuf"))
    harness.until("all that was opened is closed", lambda: daemon.fds() <= fds + 3)
