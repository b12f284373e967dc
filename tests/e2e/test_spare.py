# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Spares: what large deleted captures leave, who gets it, and that nothing of the old shows in the new.

Files are a little over 1 GiB, the least that makes a spare, and are looked at by capinfos where they lie:
taking them apart would take minutes."""
import http.client
import os

import pytest

import capcheck
import frames
from harness import capinfos_count, replay, run, until

COUNT = 1000
LARGE = 1_100_000_000


@pytest.fixture
def daemon(sluiced, dir):
    """tap0 makes large captures quickly, tap1 small ones of other packets."""
    jumbo = [frames.numbered(1, n, 9000) for n in range(1, 65)]
    small = [frames.numbered(2, n, 300) for n in range(COUNT)]
    args = "{},rx_pcap={},infinite_rx=1"
    made = sluiced(
        {
            "tap0": {
                "device": args.format("net_pcap0", frames.write_pcap(dir / "l.pcap", jumbo)),
                "poll": "wanted",
                "mtu": 9000,
            },
            "tap1": {
                "device": args.format("net_pcap1", frames.write_pcap(dir / "s.pcap", small)),
                "poll": "wanted",
                "rate": 20_000,
            },
        },
        storage={"spare": "1200M", "quota": "1400M", "when_full": "refuse"},
    )
    system = run("stat", "-f", "-c", "%T", made.root).stdout.strip()
    space = os.statvfs(made.root)
    if system not in ("ext2/ext3", "xfs") or space.f_bavail * space.f_frsize < 4 << 30:
        pytest.skip(f"{system} here, or not 4 GiB free")
    return made


def large(daemon):
    id = daemon.api.create(ports=["tap0"], limits={"file_bytes": LARGE})["id"]
    capture = daemon.api.wait_closed(id)
    path = daemon.root / "captures" / id / "capture.pcapng"
    assert capture["size_bytes"] == path.stat().st_size > LARGE - 20_000
    assert capinfos_count(path) == capture["ledger"]["written"]
    daemon.sluice("balance", id)
    return id


def spares(daemon):
    """Sizes of the spares. The file goes a moment before the status knows."""

    def agreed():
        storage = daemon.api.status()["storage"]
        sizes = [p.stat().st_size for p in (daemon.root / "spare").iterdir()]
        return (sizes,) if sum(sizes) == storage["spare_bytes"] <= storage["used_bytes"] else None

    return until("files and status agree on the spares", agreed)[0]


def whose(file):
    """The streams in the file, which is whole."""
    complaints, last = capcheck.claims(file, COUNT)
    assert not complaints, complaints
    return set(last)


def test_spare_is_kept_taken_and_clean_after_a_kill(daemon):
    daemon.api.delete(large(daemon))
    (size,) = spares(daemon)
    assert LARGE <= size + 20_000 and size % 4096 == 0

    # One that stays small gives it back whole.
    id = daemon.api.create(ports=["tap1"])["id"]
    assert spares(daemon) == []
    assert (daemon.root / "captures" / f"{id}.open" / "lane0.pcapng").stat().st_size == size
    assert daemon.api.status()["storage"]["used_bytes"] >= size
    daemon.api.wait_offered(id, 5000)
    daemon.api.stop(id)
    _, file = daemon.settled(id)
    assert whose(file) == {2}
    assert spares(daemon) == [size]

    # One of which little is expected does not take it.
    id = daemon.api.create(ports=["tap1"], limits={"packets": 100})["id"]
    daemon.settled(id)
    assert spares(daemon) == [size]

    # A killed daemon leaves the new packets and nothing of the old ones.
    id = daemon.api.create(ports=["tap1"])["id"]
    assert spares(daemon) == []
    daemon.api.wait(id, "2000 packets durable", lambda c: c["ledger"]["durable"] > 2000)
    daemon.kill()
    daemon.start()
    capture, file = daemon.settled(id)
    assert capture["reason"] == "recovered" and len(file) > 2000
    assert whose(file) == {2}
    assert daemon.api.status()["storage"]["used_bytes"] < LARGE / 2
    daemon.allow("recover")


def test_spare_goes_when_room_is_short_and_not_to_a_reader(daemon):
    # Somebody still reads it: the file goes, and its packets stay theirs to the end.
    id = large(daemon)
    size = daemon.api.capture(id)["size_bytes"]
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http, timeout=60)
    headers = {"Authorization": f"Bearer {daemon.api.token}"}
    connection.request("GET", f"/api/v1/captures/{id}/download", headers=headers)
    answer = connection.getresponse()
    got = len(answer.read(1 << 20))
    daemon.api.delete(id)
    assert spares(daemon) == []
    zeros = bytes(4096)
    while piece := answer.read(1 << 20):
        got += len(piece)
        assert zeros not in piece
    connection.close()
    assert got == size

    # The quota: a new capture is not refused, and takes the room of the spare.
    daemon.api.delete(large(daemon))
    assert len(spares(daemon)) == 1
    id = daemon.api.create(ports=["tap0"], limits={"file_bytes": 400_000_000})["id"]
    daemon.api.wait_closed(id)
    until("the spare is gone", lambda: spares(daemon) == [])
    daemon.sluice("balance", id)
