# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Links that go down and interfaces that go away, and what a stop still catches."""
import time

import pytest

import frames
import net
from harness import run, until, watch


def numbered(count, first=0):
    return [frames.numbered(1, first + n, 100) for n in range(count)]


def link(daemon, word):
    until(f"link {word}", lambda: daemon.api.ports()["tap0"]["link"] == word, 5)


def test_link_down_is_seen_and_survived(sluiced, veth):
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    id = daemon.api.create()["id"]
    link(daemon, "up")
    with net.Sender(wire.far) as sender:
        sender.send(numbered(50))
    run("ip", "link", "set", wire.far, "down")
    link(daemon, "down")
    assert daemon.api.capture(id)["state"] == "running"
    run("ip", "link", "set", wire.far, "up")
    link(daemon, "up")
    with net.Sender(wire.far) as sender:
        sender.send(numbered(50, first=50))
    daemon.api.wait_offered(id, 100)
    daemon.api.stop(id)
    capture, file = daemon.settled(id)
    assert (capture["state"], capture["reason"]) == ("complete", "stopped")
    assert file.frames() == numbered(100)


@pytest.mark.sanitize
def test_removed_interface_ends_the_capture(sluiced, veth):
    wire, other = veth(), veth()
    daemon = sluiced({"tap0": watch(wire.tap), "tap1": watch(other.tap)})
    lost = daemon.api.create(ports=["tap0"])["id"]
    kept = daemon.api.create(ports=["tap1"])["id"]
    with net.Sender(wire.far) as sender:
        sender.send(numbered(30))
    daemon.api.wait_offered(lost, 30)
    run("ip", "link", "del", wire.tap)
    daemon.api.wait_closed(lost)
    capture, file = daemon.settled(lost)
    assert (capture["state"], capture["reason"]) == ("failed", "port_lost")
    assert file.frames() == numbered(30)
    refused = daemon.api.request("POST", "/api/v1/captures", {"ports": ["tap0"]})
    assert refused.status == 503 and "tap0" in refused.json()["detail"], refused
    assert daemon.api.capture(kept)["state"] == "running"
    with net.Sender(other.far) as sender:
        sender.send(numbered(10))
    daemon.api.wait_offered(kept, 10)
    daemon.api.stop(kept)
    assert daemon.settled(kept)[1].frames() == numbered(10)


def test_a_stop_catches_what_was_sent_before(sluiced, veth):
    """A frame lies in the kernel's ring for some milliseconds: a stop right behind it waits."""
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    with net.Sender(wire.far) as sender:
        for round in range(10):
            id = daemon.api.create()["id"]
            sent = numbered(20, first=20 * round)
            sender.send(sent)
            daemon.api.stop(id)
            assert daemon.settled(id)[1].frames() == sent


def test_nothing_from_before_the_start(sluiced, veth):
    """Frames that the kernel still holds when a capture begins belong to nobody."""
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    with net.Sender(wire.far) as sender:
        for round in range(10):
            sender.send(numbered(20, first=1000))
            time.sleep(0.001)
            id = daemon.api.create()["id"]
            sent = numbered(5, first=round)
            sender.send(sent)
            daemon.api.stop(id)
            assert daemon.settled(id)[1].frames() == sent
