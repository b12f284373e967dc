# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""More is asked of the disk than it takes: told, refused, or degraded, and visibly so in the books and in
the file."""
import re

import frames
from harness import replay, until

FRAME = 1514
PPS = 20_000  # 31 MB/s in the file
COUNT = 256


def source(dir, **options):
    sent = [frames.numbered(1, n, FRAME) for n in range(COUNT)]
    return replay(frames.write_pcap(dir / "s.pcap", sent), infinite=True, rate=PPS, **options)


def events(capture):
    return "\n".join(event["text"] for event in capture["events"])


def test_refuse(sluiced, dir):
    """A capture that expects too much does not begin; one that brings too much lets in no other."""
    daemon = sluiced(
        {"tap0": source(dir)}, capture={"overload": "refuse", "ceiling": "16M"}
    )
    asked = {"bytes_per_second": 100_000_000, "packets_per_second": 100_000}
    answer = daemon.api.request("POST", "/api/v1/captures", {"expected": asked})
    assert answer.status == 503 and "Retry-After" in answer.headers, answer
    detail = answer.json()["detail"]
    assert detail.startswith("expected.bytes_per_second: 100000000 would write 103.2 MB/s"), detail
    assert "the disk takes 16.8 MB/s" in detail and "16.8 are left" in detail, detail
    refused = daemon.sluice("start", "--expect", "60M", check=False)
    assert refused.returncode == 1 and "62914560 would write" in refused.stderr, refused

    id = daemon.sluice("start", "--expect", "10M").stdout.strip()
    capture = daemon.api.capture(id)
    assert capture["expected"] == {"bytes_per_second": 10 << 20, "packets_per_second": 0}
    assert capture["degraded"] is None
    status = until(
        "the overload is told",
        lambda: (lambda s: s["admission"]["overloaded_since"] and s)(daemon.api.status()),
    )
    assert status["admission"]["left_bytes_per_second"] == 0
    assert status["admission"]["load_bytes_per_second"] > 16 << 20
    assert "overload since" in daemon.sluice("status").stdout
    assert "overload: it brings" in events(daemon.api.capture(id))
    answer = daemon.api.request("POST", "/api/v1/captures", {})
    assert answer.status == 503 and "nothing is left for another" in answer.json()["detail"]
    assert daemon.api.create(output={"type": "none"}, limits={"packets": 1})["id"]
    daemon.api.stop(id)
    daemon.settled(id, readers=False)
    until(
        "there is room again",
        lambda: daemon.api.status()["admission"]["left_bytes_per_second"] == 16 << 20,
    )


def test_degraded_from_its_start(sluiced, dir):
    """What was expected decides, and the file's header says what is kept."""
    daemon = sluiced({"tap0": source(dir)}, capture={"overload": "degrade", "ceiling": "7M"})
    id = daemon.api.create(
        expected={"bytes_per_second": PPS * FRAME, "packets_per_second": PPS},
        limits={"packets": 5000},
    )["id"]
    capture, file = daemon.settled(id)
    degraded = capture["degraded"]
    assert degraded["reason"] == "disk" and degraded["since"], capture
    assert degraded["from"] == {"snaplen": 262144, "sampling": {"mode": "none", "n": 1}}
    assert degraded["to"] == {"snaplen": 256, "sampling": {"mode": "none", "n": 1}}
    assert capture["snaplen"] == 262144
    assert file.interfaces[0].snaplen == 256
    assert {len(frame) for frame in file.frames()} == {256} and set(file.origlen) == {FRAME}
    assert "degraded from its start: snaplen 256" in events(capture)
    shown = daemon.sluice("show", id).stdout
    assert re.search(r"\ndegraded +since 2.*: snaplen 256, 1 packet in 1\n", shown), shown
    fits = daemon.api.create(expected={"bytes_per_second": 1000}, limits={"packets": 10})["id"]
    capture, _ = daemon.settled(fits)
    assert capture["degraded"] is None and capture["events"] == []


def test_degraded_live_by_snaplen(sluiced, dir):
    """Nobody said what to expect: what it brings decides."""
    daemon = sluiced({"tap0": source(dir)}, capture={"overload": "degrade", "ceiling": "16M"})
    id = daemon.api.create()["id"]
    capture = daemon.api.wait(id, "it is degraded", lambda c: c["degraded"])
    assert capture["degraded"]["to"]["snaplen"] < FRAME
    assert "1 degraded (on overload: degrade)" in daemon.sluice("status").stdout
    until(
        "the overload is over",
        lambda: daemon.api.status()["admission"]["overloaded_since"] is None,
    )
    daemon.api.stop(id)
    capture, file = daemon.settled(id, readers=False)
    lengths = [len(frame) for frame in file.frames()]
    assert lengths[0] == FRAME and lengths[-1] == capture["degraded"]["to"]["snaplen"]
    assert set(file.origlen) == {FRAME}
    assert capture["ledger"]["offered"] == len(file)
    assert re.search(r"^degraded: snaplen \d+, every packet$", events(capture), re.M), events(capture)
    assert "the overload is over" in events(capture)


def test_degraded_live_by_sampling(sluiced, dir, slow_disk):
    """A disk that nobody measured is too slow: packets are lost until fewer are kept, then no more."""
    daemon = sluiced(
        {"tap0": source(dir)},
        engine={"block_memory": "8M"},
        capture={"overload": "degrade", "degrade": "sampling"},
        preexec=slow_disk(20_000_000),
    )
    id = daemon.api.create()["id"]
    capture = daemon.api.wait(id, "it is degraded", lambda c: c["degraded"])
    assert capture["degraded"]["to"]["sampling"]["mode"] == "random"
    assert sum(capture["ledger"]["dropped"].values()) > 0
    until(
        "the overload is over",
        lambda: daemon.api.status()["admission"]["overloaded_since"] is None,
    )
    daemon.api.stop(id)
    capture, _ = daemon.settled(id, readers=False)
    assert capture["ledger"]["sampled_out"] > 0
    assert capture["sampling"]["mode"] == "none"
    assert re.search(r"^degraded: snaplen 262144, 1 packet in \d+$", events(capture), re.M)
