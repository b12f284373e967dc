# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What the running daemon is to the rest of the machine: which rights it has left, which doors it
opens, what others can read of it."""
import os
import pathlib
import re
import resource
import signal
import stat
import subprocess

import pytest

import harness
from harness import replay, until

NULL = {"tap0": {"device": "net_null0,size=64", "rate": 1000}}
NET_RAW, IPC_LOCK, SYS_NICE = 13, 14, 23
LEAST = 1 << NET_RAW | 1 << IPC_LOCK | 1 << SYS_NICE


def status_of(path):
    text = (path / "status").read_text(encoding="ascii", errors="replace")
    return dict(re.findall(r"^(\w+):\t(.*)$", text, re.M))


def tasks(pid):
    return [status_of(path) for path in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def helpers(daemon):
    """The processes that compile filters: the daemon's children and theirs."""
    found, above = [], {daemon.pid}
    while above:
        below = set()
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                fields = (path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) in above:
                below.add(int(path.name))
                found.append(path)
        above = below
    return found


def sanitized():
    return b"__asan_init" in pathlib.Path(harness.SLUICED).read_bytes()


def test_little_is_left_to_do(sluiced):
    """Every thread has three capabilities, can gain none, and has a list of system calls."""
    daemon = sluiced(NULL, engine={"sandbox": "yes"})
    daemon.api.create(ports=["tap0"], output={"type": "none"}, filter="udp or ether[0] & 1 = 0")
    all_tasks = tasks(daemon.pid)
    assert len(all_tasks) >= 9
    for task in all_tasks:
        for kind in ("CapEff", "CapPrm", "CapBnd"):
            assert int(task[kind], 16) & ~LEAST == 0, (task["Name"], kind, task[kind])
        assert int(task["CapAmb"], 16) == 0
        assert task["NoNewPrivs"] == "1", task["Name"]
        assert sanitized() or task["Seccomp"] == "2", task["Name"]


def test_compilers_of_filters_have_nothing(sluiced):
    daemon = sluiced(NULL)
    # One that takes its time, so that its child can be looked at.
    slow = " or ".join(f"port {n}" for n in range(1, 200))
    client = subprocess.Popen(
        [harness.SLUICE, "start", "-i", "tap0", slow],
        env=daemon.client_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    found = until("a filter is compiled", lambda: (h := helpers(daemon)) and len(h) >= 3 and h, 10)
    for path in found:
        try:
            status = status_of(path)
            sockets = descriptors(path)
        except OSError:
            continue  # it is done
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert sanitized() or status["Seccomp"] == "2"
        if os.geteuid() == 0:
            assert set(status["Uid"].split()) == {"65534"}
        # the standard three; requests, an answer, and the helper's signals
        assert len(sockets) <= 6, sockets
    client.wait(30)


def test_a_configuration_may_go_without(sluiced):
    daemon = sluiced(NULL, engine={"sandbox": "no"})
    before = status_of(pathlib.Path("/proc/self"))
    now = status_of(pathlib.Path(f"/proc/{daemon.pid}"))
    assert now["CapEff"] == before["CapEff"] and now["Seccomp"] == before["Seccomp"]


def descriptors(path):
    """What they are; those that are closed meanwhile are nothing."""
    found = []
    for fd in (path / "fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except FileNotFoundError:
            pass
    return found


def sockets_of(pid):
    """(table, fields) of every socket of the process in the kernel's lists."""
    names = descriptors(pathlib.Path(f"/proc/{pid}"))
    own = {match[1] for name in names if (match := re.match(r"socket:\[(\d+)\]", name))}
    found = []
    for table, inode in (("tcp", 9), ("tcp6", 9), ("udp", 9), ("udp6", 9), ("raw", 9), ("unix", 6)):
        lines = pathlib.Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()
        found += [(table, f) for f in map(str.split, lines[1:]) if len(f) > inode and f[inode] in own]
    return found


def test_only_the_api_listens(sluiced, dir):
    """No telemetry, no multi-process, no file of DPDK's: nothing but the API's port."""
    daemon = sluiced({**NULL, "lo": {"interface": "lo"}})
    daemon.api.create(ports=["tap0", "lo"], output={"type": "none"})
    doors = []
    for table, fields in sockets_of(daemon.pid):
        if table == "unix":
            # an accepting one, or one that has a name
            if int(fields[3], 16) & 0x10000 or len(fields) > 7:
                doors.append((table, fields))
        elif fields[3] == "0A" or table.startswith(("udp", "raw")):
            doors.append((table, fields))
    expected = f"0100007F:{daemon.http:04X}"
    assert [(t, f[1]) for t, f in doors] == [("tcp", expected)], doors
    for place in ("/run/dpdk", "/tmp/dpdk"):
        assert not pathlib.Path(place, f"sluice-{daemon.pid}").exists()
    assert "EAL" not in daemon.log()
    names = descriptors(pathlib.Path(f"/proc/{daemon.pid}"))
    assert not [n for n in names if n.startswith(("/dev/hugepages", "/mnt/huge"))], names


def modes(root):
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode)
        for path in [root, *root.rglob("*")]
    }


def test_files_are_their_owners(sluiced, corpus):
    """Whatever the umask is."""
    daemon = sluiced(
        {"tap0": replay(corpus[0]), "tap1": NULL["tap0"]}, preexec=lambda: os.umask(0),
        mist={"enabled": "yes"},
    )
    daemon.root.chmod(0o755)  # made by the test, and not the daemon's
    done = daemon.api.create(ports=["tap0"], limits={"packets": 1000})["id"]
    daemon.api.wait_closed(done)
    running = daemon.api.create(ports=["tap1"])["id"]
    daemon.api.wait_offered(running, 100)
    found = modes(daemon.root)
    found.pop(".")
    assert len(found) > 10
    wrong = {name: oct(mode) for name, mode in found.items() if mode & 0o077}
    assert not wrong, wrong
    daemon.api.stop(running)
    daemon.settled(done)


def test_no_core_is_left(sluiced, dir):
    """A crash leaves nothing of what the memory held."""
    if sanitized():
        pytest.skip("a sanitizer build has no cell")
    daemon = sluiced(NULL, begin=False)
    daemon.start(
        lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    )
    os.kill(daemon.pid, signal.SIGQUIT)
    _, code = os.waitpid(daemon.pid, 0)
    assert os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGQUIT
    assert not os.WCOREDUMP(code), "a core was written"
    daemon.process.returncode = -signal.SIGKILL


def test_hugepages_that_may_not_be_used(sluiced, hugepages, belongings, dir):
    """A hugetlbfs that its user may not open is one more reason to do without, said by name."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    place = dir / "huge"
    place.mkdir()
    mounted = harness.run("mount", "-t", "hugetlbfs", "-o", "pagesize=2M,mode=0700", "none", place, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount hugetlbfs: {mounted.stderr.strip()}")
    belongings.callback(harness.run, "umount", place)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")
    daemon = sluiced(NULL, begin=False, engine={"hugepages": "auto"}, wrap=nobody)
    daemon.dir.chmod(0o755)
    daemon.root.mkdir()
    os.chown(daemon.root, 65534, 65534)
    daemon.start()
    assert f"{place} may not be opened" in daemon.log()
    id = daemon.api.create(ports=["tap0"], limits={"packets": 100})["id"]
    daemon.settled(id, readers=False)
    for task in tasks(daemon.pid):
        assert int(task["CapPrm"], 16) == 0 and set(task["Uid"].split()) == {"65534"}
        assert sanitized() or task["Seccomp"] == "2"
    daemon.stop()

    refused = sluiced(NULL, begin=False, root=daemon.root, engine={"hugepages": "yes"}, wrap=nobody)
    refused.dir.chmod(0o755)
    with pytest.raises(AssertionError, match="ended with 1"):
        refused.start()
    assert f"engine.hugepages: hugepages = yes, but {place}" in refused.log()
    refused.process = None


def test_what_others_planted_is_not_touched(sluiced, corpus, dir):
    """Links and pipes in the storage root, before a start and beneath a running daemon: nothing hangs,
    nothing outside is read, written or removed."""
    precious = dir / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (precious / "capture.pcapng").write_text("precious")
    daemon = sluiced({"tap0": replay(corpus[0])})
    daemon.allow("precious|planted|record|captures/|not readable|cannot be|left")
    id = daemon.api.create(ports=["tap0"], limits={"packets": 1000})["id"]
    daemon.api.wait_closed(id)
    daemon.stop()

    root, fifo = daemon.root, "00000000-0000-4000-8000-00000000000"
    (root / "captures" / f"{fifo}1").mkdir()
    os.mkfifo(root / "captures" / f"{fifo}1" / "record")
    (root / "captures" / f"{fifo}2").symlink_to(precious)
    (root / "captures" / f"{fifo}3.open").mkdir()
    os.mkfifo(root / "captures" / f"{fifo}3.open" / "state")
    (root / "captures" / f"{fifo}3.open" / "record").symlink_to(precious / "file")
    (root / "trash" / f"{fifo}4").symlink_to(precious)
    (root / "trash" / "5").mkdir()
    (root / "trash" / "5" / "file").symlink_to(precious / "file")
    (root / "spare" / "6").symlink_to(precious / "file")
    os.mkfifo(root / "spare" / "7")
    daemon.unfinished_allowed = True
    daemon.start()
    listed = {c["id"]: c["state"] for c in daemon.api.captures()["captures"]}
    assert listed.pop(id) == "complete"
    assert set(listed) <= {f"{fifo}{n}" for n in (1, 3)}
    assert set(listed.values()) <= {"failed", "deleted"}, "there is nothing in them"
    again = daemon.api.create(ports=["tap0"], limits={"packets": 10})["id"]
    daemon.api.wait_closed(again)

    # A link in the place of a file, then of a directory on the way to it.
    own = root / "captures" / id
    (own / "capture.pcapng").rename(own / "kept")
    (own / "capture.pcapng").symlink_to(precious / "file")
    for path in (f"/api/v1/captures/{id}/download", f"/api/v1/captures/{id}/packets"):
        answer = daemon.api.request("GET", path)
        assert answer.status >= 400 or b"precious" not in answer.body, path
        assert b"precious" not in answer.body
    own.rename(root / "captures" / "moved")
    own.symlink_to(precious)
    answer = daemon.api.request("GET", f"/api/v1/captures/{id}/download")
    assert answer.status >= 400 and b"precious" not in answer.body
    own.unlink()
    (root / "captures" / "moved").rename(own)
    (own / "capture.pcapng").unlink()
    (own / "kept").rename(own / "capture.pcapng")
    daemon.settled(id)
    daemon.api.delete(id)
    daemon.stop()
    assert sorted(p.name for p in precious.iterdir()) == ["capture.pcapng", "file"]
    assert all(p.read_text() == "precious" for p in precious.iterdir())
    for path in (root / "trash").iterdir():
        harness.run("rm", "-rf", path)


def test_root_may_use_what_is_another_users(sluiced, dir, corpus):
    """Started as root with a storage root of the service's user: rights over files stay, and no more."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    daemon = sluiced(NULL, begin=False)
    daemon.root.mkdir()
    os.chown(daemon.root, 65534, 65534)
    daemon.root.chmod(0o700)
    daemon.start()
    id = daemon.api.create(ports=["tap0"], limits={"packets": 100})["id"]
    daemon.settled(id, readers=False)
    override, owner = 1, 3
    allowed = LEAST | 1 << override | 1 << owner
    for task in tasks(daemon.pid):
        assert int(task["CapPrm"], 16) & ~allowed == 0
        assert int(task["CapPrm"], 16) & 1 << override
