# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A device that makes frames by itself: DPDK's net_null, zeros of one size as fast as they are taken."""
import pytest

SIZE = 128


def null_port(**options):
    return {"device": f"net_null0,size={SIZE}", "poll": "wanted", **options}


@pytest.mark.sanitize
def test_net_null_into_a_file(sluiced):
    daemon = sluiced({"tap0": null_port(rate=200_000)})
    id = daemon.api.create(limits={"packets": 10_000})["id"]
    capture, file = daemon.settled(id)
    assert (capture["state"], capture["reason"]) == ("complete", "packet_limit")
    assert file.frames() == [bytes(SIZE)] * 10_000
    assert capture["filter_engine"] == "none"


def test_net_null_at_full_speed(sluiced):
    """More than any disk takes: what is not in the file is in the ledger, to the packet."""
    daemon = sluiced({"tap0": null_port()}, engine={"block_memory": "4M"})
    id = daemon.api.create(limits={"seconds": 0.5})["id"]
    capture, file = daemon.settled(id, readers=False)
    ledger = capture["ledger"]
    assert capture["reason"] == "time_limit" and ledger["accepted"] > 0
    assert len(file) == ledger["written"]
    port = daemon.api.counters()
    assert port["rx"] == port["matched"] + port["unmatched"]
    assert port["rx"] >= ledger["offered"]


def test_snaplen_of_the_port(sluiced):
    """A port's own snaplen holds for every capture on it, and the true length is kept."""
    daemon = sluiced({"tap0": null_port(rate=50_000, snaplen=64)})
    wide = daemon.api.create(limits={"packets": 100})["id"]
    narrow = daemon.api.create(limits={"packets": 100}, snaplen=32)["id"]
    for id, kept in ((wide, 64), (narrow, 32)):
        _, file = daemon.settled(id)
        assert file.frames() == [bytes(kept)] * 100
        assert set(file.origlen) == {SIZE}
        assert file.interfaces[0].snaplen == kept
