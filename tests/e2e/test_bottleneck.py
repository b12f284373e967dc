# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Why am I losing packets, and where? Each resource is made the narrowest, and `sluice status` says so."""
import threading
import time

import frames
import harness
import net
from harness import replay, until, watch

FRAME = 1514
RATE = 80_000_000


def named(daemon, name, losing=True):
    """The status in which name is the bottleneck, and what the client makes of it."""

    def look():
        status = daemon.api.status()
        return status["bottleneck"] == name and status

    status = until(f"the bottleneck is {name}", look, 15)
    text = daemon.sluice("status").stdout
    assert f"\nbottleneck  {name}, since 2" in text, text
    assert "\nbecause     " in text and ("no loss was seen" not in text) == losing, text
    for resource in ("nic", "rx_core", "blocks", "disk"):
        assert f"\n{resource} " in text, text
    return status


def source(dir, size=FRAME):
    return frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, size) for n in range(256)])


class Bursts:
    """Long frames on a wire, many at once, with pauses in between."""

    def __init__(self, interface, count, every, size=60_000):
        self.frames = [frames.numbered(1, n, size) for n in range(count)]
        self.interface, self.every = interface, every
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.sent = 0

    def _run(self):
        with net.Sender(self.interface) as sender:
            while not self.over.is_set():
                began = time.monotonic()
                self.sent += sender.send(self.frames)
                self.over.wait(max(0.0, self.every - (time.monotonic() - began)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


def test_disk(sluiced, dir, slow_disk):
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True)},
        engine={"block_memory": "16M"},
        preexec=slow_disk(RATE),
    )
    id = daemon.api.create()["id"]
    status = named(daemon, "disk")
    disk = status["resources"]["disk"]
    assert disk["busy_percent"] >= 90 or disk["slow_writes"] > 0, status
    assert "because the disk takes less than comes in" in status["explanation"]
    assert status["resources"]["blocks"]["missed_per_second"] > 0
    assert status["resources"]["blocks"]["low"] <= 1
    daemon.api.stop(id)
    capture, _ = daemon.settled(id, readers=False)
    assert capture["ledger"]["dropped"]["no_block"] > 0


def test_rx_core(sluiced, dir):
    """A source that always has more, and filters that keep nothing: nothing is lost, nothing is left."""
    daemon = sluiced({"tap0": replay(source(dir, 62), infinite=True)})
    ids = [
        daemon.api.create(filter=f"udp dst port {n} and ip[8] = {n}", output={"type": "none"})["id"]
        for n in range(2000, 2008)
    ]
    status = named(daemon, "rx_core", losing=False)
    lcore = status["resources"]["rx_core"]["lcores"][0]
    assert lcore["busy_percent"] >= 95 and lcore["full_polls_percent"] >= 95, status
    assert status["resources"]["blocks"]["missed_per_second"] == 0
    for id in ids:
        daemon.api.stop(id)


def test_blocks(sluiced, veth):
    """Bursts that the smallest pool cannot hold, into a sink that is never the reason."""
    wire = veth(mtu=65_000)
    daemon = sluiced({"tap0": watch(wire.tap)}, engine={"block_memory": "1M"})
    id = daemon.api.create(output={"type": "none"})["id"]
    with Bursts(wire.far, 300, 0.3):
        status = named(daemon, "blocks")
        assert status["resources"]["disk"]["bytes_per_second"] == 0
        assert status["resources"]["blocks"]["missed_per_second"] > 0
    daemon.api.stop(id)
    capture = daemon.api.wait_closed(id)
    assert capture["ledger"]["dropped"]["no_block"] > 0
    daemon.sluice("balance", id)


def test_nic(sluiced, veth):
    """Bursts that the kernel's ring of one queue cannot hold, while the lcore has time left."""
    wire = veth(mtu=65_000)
    daemon = sluiced(
        {"tap0": watch(wire.tap, rx_queues=16)}, engine={"block_memory": "256M"}
    )
    ids = [daemon.api.create(output={"type": "none"})["id"] for _ in range(16)]
    with Bursts(wire.far, 400, 0.5) as bursts:
        status = named(daemon, "nic")
        port = status["resources"]["nic"]["ports"][0]
        assert port["name"] == "tap0" and port["missed_per_second"] > 0, status
        assert port["loss_visibility"] == "exact"
        assert status["resources"]["rx_core"]["lcores"][0]["busy_percent"] < 95
        assert "bursts are longer than its receive ring" in status["explanation"]
    for id in ids:
        daemon.api.stop(id)
    for id in ids:
        daemon.api.wait_closed(id)
    daemon.settle_ports()
    assert daemon.api.counters()["offered"] == bursts.sent
    daemon.sluice("balance")
