# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Quota and full disks, on small file systems of their own; ways of writing other than io_uring."""
import concurrent.futures
import ctypes
import errno
import os
import platform
import struct

import pytest

import capcheck
import frames
from harness import replay, run, until

COUNT = 1000
MB = 1_000_000


def source(dir, size=1500):
    return frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, size) for n in range(COUNT)])


def fill(place, leave):
    """A file that takes all but leave bytes of the file system, whoever else is taking some."""
    path, size = place / "ballast", 0
    with open(path, "wb") as f:
        while True:
            space = os.statvfs(place)
            more = space.f_bavail * space.f_frsize - leave
            while more >= 65536:
                try:
                    os.posix_fallocate(f.fileno(), size, more)
                    break
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    more //= 2
            if more < 65536:
                return path
            size += more


@pytest.mark.parametrize("kind", ["ext4", pytest.param("tmpfs", marks=pytest.mark.sanitize)])
def test_oldest_goes_first(sluiced, dir, small_disk, kind):
    place = small_disk(kind, 300 * MB)
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000)},
        root=place / "root",
        storage={"quota": "50M"},
    )
    ids = []
    for _ in range(6):
        ids.append(daemon.api.create(limits={"file_bytes": 15 * MB})["id"])
        daemon.settled(ids[-1], readers=False)

    def states():
        return [daemon.api.capture(id)["state"] for id in ids]

    until("the quota is kept", lambda: daemon.api.status()["storage"]["used_bytes"] <= 50 << 20)
    now = states()
    gone = now.count("deleted")
    assert 0 < gone < 6 and now == ["deleted"] * gone + ["complete"] * (6 - gone), now
    for id, state in zip(ids, now):
        answer = daemon.api.request("GET", f"/api/v1/captures/{id}/download")
        assert answer.status == (410 if state == "deleted" else 200)
        if state == "deleted":
            assert not (daemon.root / "captures" / id / "capture.pcapng").exists()
            assert daemon.api.capture(id)["ledger"]["written"] > 0, "the record stays"
    assert set(ids) == {c["id"] for c in daemon.api.captures()["captures"]}
    daemon.stop()
    daemon.start()
    assert states() == now
    daemon.settled(ids[-1], readers=False)


def test_refuse_when_full(sluiced, dir, small_disk):
    place = small_disk("ext4", 300 * MB)
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000)},
        root=place / "root",
        storage={"quota": "30M", "when_full": "refuse"},
    )
    ids, answer = [], None
    for _ in range(8):
        answer = daemon.api.request("POST", "/api/v1/captures", {"limits": {"file_bytes": 10 * MB}})
        if answer.status != 201:
            break
        ids.append(answer.json()["id"])
        daemon.api.wait_closed(ids[-1])
    assert answer.status == 507 and len(ids) in (2, 3, 4), f"{len(ids)}, {answer}"
    assert "quota" in answer.body.decode()
    for id in ids:
        daemon.settled(id, readers=False)
    daemon.api.delete(ids[0])

    def fits():
        return (
            daemon.api.request("POST", "/api/v1/captures", {"limits": {"packets": 10}}).status
            == 201
        )

    until("deleting makes room", fits)


@pytest.mark.parametrize("kind", ["ext4", pytest.param("tmpfs", marks=pytest.mark.sanitize)])
def test_disk_full_is_said_and_counted(sluiced, dir, small_disk, kind):
    """The disk fills under a running capture: it ends, says so, and what is in the file is
    readable."""
    place = small_disk(kind, 200 * MB)
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000)},
        root=place / "root",
        storage={"quota": "95%"},
    )
    daemon.allow("space|disk|quota")
    id = daemon.api.create()["id"]
    daemon.api.wait_offered(id, 5000)
    ballast = fill(place, 8 * MB)
    capture = daemon.api.wait_closed(id)
    assert capture["reason"] == "disk_full"
    ballast.unlink()
    capture, file = daemon.settled(id)
    complaints, _ = capcheck.claims(file, COUNT, first=0)
    assert not complaints and len(file) >= 5000
    lost = {k for k, v in capture["ledger"]["dropped"].items() if v}
    assert lost <= {"no_space", "quota", "no_block"}
    print(f"{kind}: {len(file)} packets, dropped {capture['ledger']['dropped']}")
    again = daemon.api.create_with_room(limits={"packets": 100})["id"]
    daemon.settled(again)


def test_full_disk_at_the_start(sluiced, dir, small_disk):
    place = small_disk("ext4", 100 * MB)
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000)},
        root=place / "root",
        storage={"quota": "95%"},
    )
    daemon.allow("space|disk|quota")
    fill(place, 0)
    answer = daemon.api.request("POST", "/api/v1/captures", {})
    assert answer.status == 507, answer
    (place / "ballast").unlink()
    assert not list((daemon.root / "captures").iterdir()), "a refused capture leaves nothing"
    id = daemon.api.create_with_room(limits={"packets": 100})["id"]
    daemon.settled(id)


@pytest.mark.sanitize
def test_changes_beside_deletion(sluiced, dir):
    """A record that is written while its capture is deleted leaves nothing behind, nor an error."""
    daemon = sluiced({"tap0": replay(source(dir), infinite=True, rate=20_000)})
    for _ in range(20):
        id = daemon.api.create(limits={"packets": 10})["id"]
        path = f"/api/v1/captures/{id}"
        daemon.api.wait_closed(id)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            changes = [
                pool.submit(daemon.api.request, "PATCH", path, {"name": f"n{n}"}) for n in range(6)
            ]
            gone = pool.submit(daemon.api.request, "DELETE", path)
            changes += [
                pool.submit(daemon.api.request, "PATCH", path, {"notes": f"n{n}"}) for n in range(6)
            ]
            assert gone.result().status == 204
            assert {change.result().status for change in changes} <= {200, 404}
        assert daemon.api.request("GET", path).status == 404
    assert not list((daemon.root / "captures").iterdir())


# io_uring


def deny_io_uring():
    """In the child, before exec: the io_uring system calls (425 to 427) fail with EPERM."""
    audit = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
    code = (
        (0x20, 0, 0, 4),
        (0x15, 0, 3, audit),  # another architecture: allow
        (0x20, 0, 0, 0),
        (0x35, 0, 1, 425),
        (0x25, 0, 1, 427),
        (0x06, 0, 0, 0x7FFF0000),
        (0x06, 0, 0, 0x00050000 | errno.EPERM),
    )
    program = b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(head), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def whole_capture(daemon, packets=20_000):
    id = daemon.api.create(limits={"packets": packets})["id"]
    daemon.api.wait_offered(id, 1000)
    uring = daemon.has_uring()
    capture, file = daemon.settled(id)
    complaints, _ = capcheck.claims(file, COUNT, first=0)
    assert not complaints and len(file) == packets
    assert sum(capture["ledger"]["dropped"].values()) == 0
    return uring


@pytest.mark.sanitize
def test_io_uring_denied(sluiced, dir):
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000)}, preexec=deny_io_uring
    )
    daemon.allow("io_uring")
    assert not whole_capture(daemon), "an io_uring in spite of the ban"


def test_io_uring_used_where_allowed(sluiced, dir):
    done = run(
        "/usr/bin/python3",
        "-c",
        "import ctypes,sys; b=ctypes.create_string_buffer(256);"
        "sys.exit(ctypes.CDLL(None).syscall(425, 8, b) < 0)",
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("this machine allows no io_uring")
    daemon = sluiced({"tap0": replay(source(dir), infinite=True, rate=20_000)})
    assert whole_capture(daemon)


def test_root_in_memory(sluiced, dir, small_disk):
    """tmpfs knows no O_DIRECT."""
    place = small_disk("tmpfs", 200 * MB)
    daemon = sluiced(
        {"tap0": replay(source(dir), infinite=True, rate=20_000)},
        root=place / "root",
    )
    whole_capture(daemon)


def test_ceiling_is_measured_once(sluiced, dir):
    """What the storage takes is measured when nothing runs, said, kept, and not measured again."""
    daemon = sluiced({"tap0": replay(source(dir))}, storage={"measure": "auto"})
    system = run("stat", "-f", "-c", "%T", daemon.root).stdout.strip()
    space = os.statvfs(daemon.root)
    if system not in ("ext2/ext3", "xfs") or space.f_bavail * space.f_frsize < 9 << 30:
        pytest.skip(f"{system} here, or not 9 GiB free")

    def ceiling():
        return daemon.api.status()["storage"]["ceiling"]

    first = until("the ceiling is known", ceiling)
    assert first["touched_bytes_per_second"] > 0 and first["fresh_bytes_per_second"] > 0
    assert first["write_bytes"] % 65536 == 0 and 2 <= first["depth"] <= 32
    assert "in flight" in daemon.sluice("status").stdout
    assert {p.name for p in daemon.root.iterdir()} >= {"ceiling", "captures"}
    daemon.stop()
    daemon.start()
    assert ceiling() == first
    daemon.settled(daemon.api.create(limits={"packets": COUNT})["id"])
