# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The durable mark: it moves behind a successful fdatasync and nowhere else, and a failed one is the
last that anybody believes."""
import concurrent.futures
import re

import pytest

import fake_s3
import frames
import harness
import uploads

FRAMES = [frames.numbered(1, i, 100) for i in range(1000)]
OFTEN = {"storage": {"durable_every": "100ms"}}
NEVER = {"storage": {"durable_every": "1h"}}


@pytest.fixture
def source(dir):
    return frames.write_pcap(dir / "numbered.pcap", FRAMES)


@pytest.fixture
def endless(source):
    return {"tap0": harness.replay(source, infinite=True, rate=5000)}


def metric(daemon, name):
    text = daemon.api.request("GET", "/metrics").body.decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


def marks(daemon, id):
    ledger = daemon.api.capture(id)["ledger"]
    return ledger["durable"], ledger["written"]


def durable_above(daemon, id, count):
    return daemon.api.wait(
        id, f"more than {count} packets durable", lambda c: c["ledger"]["durable"] > count
    )


def test_the_mark_stands_still_while_a_sync_hangs(faulty, faults, endless):
    daemon = faulty(endless, **OFTEN)
    daemon.allow("the storage does not answer")
    id = daemon.api.create(ports=["tap0"])["id"]
    durable_above(daemon, id, 0)
    faults.set("fdatasync: always -> stall")
    faults.wait_hit("fdatasync")
    durable, written = marks(daemon, id)
    for ahead in (2000, 4000, 6000):
        daemon.api.wait(id, "more written", lambda c: c["ledger"]["written"] > written + ahead)
        assert marks(daemon, id)[0] == durable
    risk = daemon.api.status()["at_risk"]
    assert risk["packets"] >= 6000 and risk["bytes"] >= 6000 * 100 and risk["seconds"] > 0.5
    assert metric(daemon, "sluice_at_risk_packets") >= risk["packets"]
    assert metric(daemon, "sluice_at_risk_seconds") >= risk["seconds"]
    shown = daemon.sluice("show", id).stdout
    assert re.search(rf"^ *durable +{durable:,}$".replace(",", "[,']?"), shown, re.M), shown
    faults.clear()
    durable_above(daemon, id, durable + 6000)
    daemon.api.stop(id)
    capture, _ = daemon.settled(id)
    assert capture["ledger"]["durable"] == capture["ledger"]["written"]
    assert daemon.api.status()["at_risk"] == {"packets": 0, "bytes": 0, "seconds": 0}


def test_what_came_last_becomes_durable_on_an_idle_line(faulty, source):
    daemon = faulty({"tap0": harness.replay(source)}, **OFTEN)
    id = daemon.api.create(ports=["tap0"])["id"]
    durable_above(daemon, id, len(FRAMES) - 1)
    assert daemon.api.capture(id)["state"] == "running"
    risk = daemon.api.status()["at_risk"]
    assert risk == {"packets": 0, "bytes": 0, "seconds": 0}
    daemon.api.stop(id)
    daemon.settled(id)


def test_an_index_that_cannot_be_written_is_told(faulty, faults, endless):
    """It costs no packet; and what a recovery knows without it is true."""
    daemon = faulty(endless, **NEVER)
    daemon.allow("its index could not be written", "recover")
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait(id, "packets are written", lambda c: c["ledger"]["written"] > 1000)
    faults.set("tend/pwrite: always -> EIO")
    told = daemon.api.wait(id, "it is told", lambda c: c["events"])
    assert "index could not be written (Input/output error)" in told["events"][0]["text"]
    seen = daemon.api.wait(
        id, "it goes on", lambda c: c["ledger"]["written"] > told["ledger"]["written"] + 2000
    )
    assert seen["state"] == "running" and not seen["message"] and len(seen["events"]) == 1
    daemon.kill()
    faults.write()
    daemon.start()
    capture, file = daemon.settled(id)
    assert (capture["state"], capture["reason"]) == ("failed", "recovered")
    assert len(file) >= seen["ledger"]["written"], "the kernel lives, and so do the files"
    ledger = capture["ledger"]
    assert (most := ledger["unknown_max"]) is not None
    assert seen["ledger"]["accepted"] <= ledger["accepted"] - ledger["unknown"] + most


def check_failed(capture):
    assert (capture["state"], capture["reason"]) == ("failed", "io_error")
    words = ("did not confirm what was written", "cannot be made durable")
    assert any(word in capture["message"] for word in words)
    assert "Input/output error" in capture["message"]


def test_a_failed_sync_is_not_believed_and_harms_nobody_else(faulty, faults, endless):
    daemon = faulty(endless, **OFTEN)
    daemon.allow("cannot be made durable: Input/output error")
    ids = [daemon.api.create(ports=["tap0"])["id"] for _ in range(2)]
    for id in ids:
        durable_above(daemon, id, 0)
    before = {id: marks(daemon, id)[0] for id in ids}
    faults.set("tend/fdatasync: once -> EIO")
    faults.wait_hit("fdatasync")
    harness.until(
        "one capture has ended", lambda: daemon.api.captures("?state=failed")["captures"]
    )
    failed = daemon.api.captures("?state=failed")["captures"][0]["id"]
    (other,) = set(ids) - {failed}
    capture, file = daemon.settled(failed)
    check_failed(capture)
    assert metric(daemon, "sluice_sync_failures_total") == 1
    assert before[failed] <= capture["ledger"]["durable"] < capture["ledger"]["written"] == len(file)
    durable_above(daemon, other, marks(daemon, other)[0])
    daemon.api.stop(other)
    capture, _ = daemon.settled(other)
    assert capture["state"] == "complete" and not capture.get("events")
    assert capture["ledger"]["durable"] == capture["ledger"]["written"]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_sync_that_fails_while_closing(faulty, faults, source, two_cpus, lanes):
    """The lanes' own, then that of each file that is cut to its length."""
    daemon = faulty(
        {"tap0": harness.replay(*[source] * lanes)},
        engine={"rx_cpus": ",".join(map(str, harness.CPUS[:lanes]))},
        **NEVER,
    )
    daemon.allow("cannot be made durable: Input/output error")
    failed = {}
    for nth in range(1, 2 * lanes + 1):
        id = daemon.api.create(ports=["tap0"])["id"]
        daemon.api.wait_offered(id, len(FRAMES) * lanes)
        rule = f"close/fdatasync: nth={nth} -> EIO"
        faults.set(rule)
        daemon.api.stop(id)
        failed[id], file = daemon.settled(id)
        assert len(file) == len(FRAMES) * lanes == failed[id]["ledger"]["written"]
        assert faults.rule(rule)[1] == 1
        check_failed(failed[id])
        assert failed[id]["ledger"]["durable"] == 0
        assert any("could not be closed at once" in e["text"] for e in failed[id]["events"])
        faults.clear()
    assert metric(daemon, "sluice_sync_failures_total") == 2 * lanes
    daemon.stop()
    daemon.start()
    for id, before in failed.items():
        again = daemon.api.capture(id)
        assert (again["state"], again["ledger"]) == (before["state"], before["ledger"])


def test_what_fails_once_costs_no_file(faulty, faults, source):
    """Closing is tried again once; what was not a failed sync leaves no doubt behind."""
    daemon = faulty({"tap0": harness.replay(source)}, **NEVER)
    for fault in (
        "close/open: once -> EMFILE",
        "close/pwrite: once -> EIO",
        "close/pwrite: once -> short=1",
        "close/ftruncate: once -> EIO",
        "close/fsync: once -> EIO",
        "close/rename: nth=1 -> EIO",
        "close/rename: nth=2 -> EIO",
        "close/rename: nth=3 -> EIO",
        "close/dir_fsync: nth=1 -> EIO",
        "close/dir_fsync: nth=2 -> EIO",
        "close/dir_fsync: nth=3 -> EIO",
        "close/dir_fsync: nth=4 -> EIO",
        "close/unlink: once -> EIO",
    ):
        id = daemon.api.create(ports=["tap0"])["id"]
        daemon.api.wait_offered(id, len(FRAMES))
        faults.set(fault)
        daemon.api.stop(id)
        capture, file = daemon.settled(id, readers=False)
        assert capture["state"] == "complete" and len(file) == len(FRAMES), fault
        assert capture["ledger"]["durable"] == len(FRAMES), fault
        harness.until("the fault has happened", lambda: faults.rule(fault)[1] == 1)
        if "short" not in fault:
            assert any("could not be closed at once" in e["text"] for e in capture["events"]), fault
        faults.clear()


def failed_merge(daemon, faults, **spec):
    """A capture of two lanes that cannot be read back."""
    daemon.allow("cannot be merged: Input/output error")
    id = daemon.api.create(ports=["tap0"], **spec)["id"]
    daemon.api.wait_offered(id, 2 * len(FRAMES))
    faults.set("merge/pread: always -> EIO")
    daemon.api.stop(id)
    capture = daemon.api.wait_closed(id)
    assert (capture["state"], capture["reason"]) == ("failed", "io_error")
    assert capture["size_bytes"] == 0 and "could not be merged" in capture["message"]
    return capture


def stall_merge(faults):
    rule = "merge/pread: always -> stall"
    faults.set(rule)
    harness.until("a merge stands still", lambda: faults.rule(rule)[1] > 0)


@pytest.fixture
def two_lanes(faulty, source, two_cpus):
    """two_lanes(**options): a daemon whose captures have two."""

    def start(**options):
        cpus = ",".join(map(str, harness.CPUS[:2]))
        return faulty({"tap0": harness.replay(source, source)}, engine={"rx_cpus": cpus}, **options)

    return start


def test_a_merge_that_fails_is_tried_again(two_lanes, faults):
    daemon = two_lanes()
    id = failed_merge(daemon, faults)["id"]
    faults.clear()
    daemon.api.wait(id, "the file is there", lambda c: c["size_bytes"] > 0)
    capture, file = daemon.settled(id)
    assert len(file) == 2 * len(FRAMES) and "could be merged now" in capture["events"][-1]["text"]
    daemon.stop()
    daemon.start()
    capture, _ = daemon.settled(id)
    assert (capture["state"], capture["reason"]) == ("failed", "io_error")


def test_what_changes_while_a_merge_is_tried_again_stays(two_lanes, faults):
    daemon = two_lanes()
    failed = failed_merge(daemon, faults)
    path = f"/api/v1/captures/{failed['id']}"
    stall_merge(faults)
    daemon.api.ask("PATCH", path, {"notes": "while it is tried"})
    faults.set("merge/pread: always -> EIO")
    daemon.api.ask("PATCH", path, {"name": "after it"})
    daemon.kill()
    faults.write()
    for _ in range(2):
        daemon.start()
        capture, file = daemon.settled(failed["id"])
        assert (capture["notes"], capture["name"]) == ("while it is tried", "after it")
        assert (capture["reason"], capture["ledger"]) == ("io_error", failed["ledger"])
        assert len(file) == 2 * len(FRAMES)
        daemon.stop()


def test_a_deletion_waits_for_a_merge_that_is_tried_again(two_lanes, faults):
    daemon = two_lanes()
    id = failed_merge(daemon, faults)["id"]
    stall_merge(faults)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        gone = pool.submit(daemon.api.delete, id)
        with pytest.raises(concurrent.futures.TimeoutError):
            gone.result(0.3)
        faults.clear()
        gone.result(20)
    assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404
    assert not list((daemon.root / "captures").iterdir())


def test_an_upload_begins_when_its_merge_works(two_lanes, faults, dir):
    with fake_s3.FakeS3() as fake:
        daemon = two_lanes(**uploads.bucket(fake, dir))
        id = failed_merge(daemon, faults, output={"type": "s3", "bucket": "caps"})["id"]
        assert not fake.objects
        faults.clear()
        uploads.verified(daemon, id)
        capture = daemon.api.wait_closed(id)
        local = (daemon.root / "captures" / id / "capture.pcapng").read_bytes()
        assert (capture["state"], capture["reason"]) == ("failed", "io_error")
        assert fake.objects[f"{id}.pcapng"].data == local and not fake.uploads
        daemon.settled(id)
