# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Several queues and ports in one file, and what can be downloaded when."""
import time

import pytest

import capcheck
import frames
import harness
import net
from harness import replay, until, watch

COUNT = 2000


def streams(dir, *numbers, size=200):
    return [
        frames.write_pcap(dir / f"s{s}.pcap", [frames.numbered(s, n, size) for n in range(COUNT)])
        for s in numbers
    ]


def two_cpu_engine():
    return {"rx_cpus": f"{harness.CPUS[0]},{harness.CPUS[1]}"}


@pytest.mark.sanitize
def test_two_queues_two_ports(sluiced, dir, two_cpus):
    paths = streams(dir, 1, 2, 3)
    daemon = sluiced(
        {
            "east": replay(paths[0], paths[1], rate=50_000),
            "west": replay(paths[2], rate=25_000, device="net_pcap1"),
        },
        engine=two_cpu_engine(),
    )
    capture = daemon.api.create(ports=["west", "east"], filter="udp")
    daemon.api.wait_offered(capture["id"], 3 * COUNT)
    stopped = daemon.api.stop(capture["id"])
    assert stopped["state"] in ("converting", "complete")
    capture, file = daemon.settled(capture["id"])
    assert capture["ports"] == ["west", "east"]
    assert [i.name for i in file.interfaces] == ["west", "east"]
    assert [i.filter for i in file.interfaces] == ["udp", "udp"]
    by_stream = {1: [], 2: [], 3: []}
    for i in range(len(file)):
        stream, seq = capcheck.number(file[i])
        by_stream[stream].append(seq)
        assert file.interfaces[file.interface[i]].name == ("west" if stream == 3 else "east")
    for numbers in by_stream.values():
        assert numbers == list(range(COUNT)), "time-ordered, each queue in its order, all there"
    turns = sum(1 for a, b in zip(file.frames(), file.frames()[1:]) if a[30:34] != b[30:34])
    print(f"{turns} changes of stream in {len(file)} packets")
    daemon.settle_ports()


def test_converting(sluiced, dir, two_cpus):
    """A merge long enough to be seen: 409 meanwhile, then whole."""
    paths = streams(dir, 1, 2, size=1514)
    daemon = sluiced({"tap0": replay(*paths, infinite=True)}, engine=two_cpu_engine())
    capture = daemon.api.create(limits={"file_bytes": 300_000_000})
    id = capture["id"]
    states, refused = [], None
    while True:
        state = daemon.api.capture(id)["state"]
        if not states or states[-1] != state:
            states.append(state)
        if state in ("complete", "failed"):
            break
        answer = daemon.api.request(
            "GET", f"/api/v1/captures/{id}/download", headers={"Range": "bytes=0-99"}
        )
        if answer.status == 409:
            refused = answer
        if state == "converting":
            answer = daemon.api.request("GET", f"/api/v1/captures/{id}/download?partial=1")
            assert answer.status == 409 or daemon.api.capture(id)["state"] == "complete"
        time.sleep(0.01)
    order = ["running", "stopping", "converting", "complete"]
    assert [s for s in order if s in states] == states, f"states went {states}"
    assert refused is not None and int(refused.headers["Retry-After"]) >= 0
    capture, file = daemon.settled(id, readers=False)
    complaints, last = capcheck.claims(file, COUNT)
    assert not complaints and set(last) == {1, 2}
    assert file.size <= 300_000_000
    print(f"states seen: {states}")


def test_partial_on_a_quiet_wire(sluiced, veth, dir):
    """A few packets and then silence: they are in the file within a second, and tshark reads it."""
    wire = veth()
    daemon = sluiced({"tap0": watch(wire.tap)})
    id = daemon.api.create()["id"]
    out = dir / "partial.pcapng"
    sent, waited = [], []
    answer = daemon.api.request("GET", f"/api/v1/captures/{id}/download")
    assert answer.status == 409 and "Retry-After" in answer.headers
    with net.Sender(wire.far) as sender:
        for turn in range(5):
            more = [frames.numbered(1, len(sent) + n, 62 + 97 * turn) for n in range(turn * 11 + 1)]
            sender.send(more)
            sent += more
            begin = time.monotonic()

            def all_there():
                daemon.api.download(id, out, "?partial=1")
                return len(capcheck.read(out, closed=False)) == len(sent)

            until("the file has the packets", all_there, 2)
            waited.append(time.monotonic() - begin)
            assert capcheck.read(out, closed=False).frames() == sent
            assert harness.tshark_lengths(out) == [len(frame) for frame in sent]
    print("seconds until a packet was in the file:", *(f"{w:.2f}" for w in waited))
    if harness.SLOW == 1:
        assert sorted(waited)[2] < 1.0
    assert daemon.api.capture(id)["state"] == "running"
    daemon.api.stop(id)
    _, file = daemon.settled(id)
    assert file.frames() == sent


def test_partial_of_several_lanes(sluiced, dir, two_cpus):
    """Lane after lane, each a section of whole packets, while both are being written."""
    paths = streams(dir, 1, 2)
    daemon = sluiced({"tap0": replay(*paths, infinite=True, rate=5000)}, engine=two_cpu_engine())
    id = daemon.api.create()["id"]
    out, sizes = dir / "partial.pcapng", []
    daemon.api.wait_offered(id, 4000)
    for _ in range(5):
        daemon.api.download(id, out, "?partial=1")
        file = capcheck.read(out, closed=False)
        assert len(file.sections) == 2
        complaints, last = capcheck.claims(file, COUNT, first=0)
        assert not complaints, complaints[:3]
        assert harness.capinfos_count(out) == len(file)
        sizes.append(len(file))
        time.sleep(0.6)
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0]
    daemon.api.stop(id)
    daemon.settled(id)


@pytest.fixture
def finished(sluiced, dir):
    path = streams(dir, 1)[0]
    daemon = sluiced({"tap0": replay(path, rate=100_000)})
    id = daemon.api.create(name="finished")["id"]
    daemon.api.wait_offered(id, COUNT)
    daemon.api.stop(id)
    daemon.settled(id)
    whole = daemon.api.request("GET", f"/api/v1/captures/{id}/download")
    return daemon, id, whole


@pytest.mark.sanitize
def test_ranges(finished):
    daemon, id, whole = finished
    path, body = f"/api/v1/captures/{id}/download", whole.body
    size = len(body)
    assert whole.status == 200 and int(whole.headers["Content-Length"]) == size
    assert whole.headers["Accept-Ranges"] == "bytes" and whole.headers["ETag"]
    for given, first, last in (
        ("0-99", 0, 99),
        ("0-0", 0, 0),
        (f"{size - 1}-", size - 1, size - 1),
        ("-100", size - 100, size - 1),
        ("1000-5000", 1000, 5000),
        (f"5-{size * 2}", 5, size - 1),
        (f"-{size * 2}", 0, size - 1),
    ):
        answer = daemon.api.request("GET", path, headers={"Range": f"bytes={given}"})
        assert answer.status == 206, given
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}", given
        assert answer.body == body[first : last + 1], given
        assert answer.headers["ETag"] == whole.headers["ETag"]
    for given in (f"{size}-", f"{size + 7}-{size + 9}"):
        answer = daemon.api.request("GET", path, headers={"Range": f"bytes={given}"})
        assert answer.status == 416 and answer.headers["Content-Range"] == f"bytes */{size}"
    pieces = b"".join(
        daemon.api.request("GET", path, headers={"Range": f"bytes={at}-{at + 65535}"}).body
        for at in range(0, size, 65536)
    )
    assert pieces == body
    for ignored in ("bytes=9-1", "bytes=x-", "lines=1-2"):
        assert daemon.api.request("GET", path, headers={"Range": ignored}).body == body


def test_as_classic_pcap(finished, dir):
    daemon, id, whole = finished
    out = dir / "c.pcap"
    daemon.api.download(id, out, "?format=pcap")
    packets = frames.read_pcap(out)
    (dir / "c.pcapng").write_bytes(whole.body)
    file = capcheck.read(dir / "c.pcapng")
    assert [data for _, _, data in packets] == file.frames()
    assert [length for _, length, _ in packets] == list(file.origlen)
    assert all(abs(stamp - want) < 1000 for (stamp, _, _), want in zip(packets, file.stamp))
    assert harness.capinfos_count(out) == len(file)


def test_other_readers(finished, dir):
    """tcpdump, editcap and mergecap read it too; the claims of loss survive them."""
    _, _, whole = finished
    out = dir / "c.pcapng"
    out.write_bytes(whole.body)
    listing = harness.run("tcpdump", "-n", "-r", out).stdout
    assert len(listing.splitlines()) == COUNT
    harness.quiet("editcap", out, dir / "e.pcapng")
    harness.quiet("mergecap", "-w", dir / "m.pcapng", out, dir / "e.pcapng")
    assert harness.capinfos_count(dir / "m.pcapng") == 2 * COUNT
