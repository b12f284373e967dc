# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What an RX loop on device ports does not do while it captures: ask the kernel, or allocate."""
import pathlib
import re
import signal
import struct
import subprocess

import harness

HERE = pathlib.Path(__file__).parent
RATE = 3_000_000
PACKETS = 1_000_000


def worker(pid):
    """The thread of the only RX lcore."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    found = [t.name for t in tasks if (t / "comm").read_text().startswith("rte-worker")]
    assert len(found) == 1
    return found[0]


def allocations(path):
    """Calls by RX loops, calls by anybody else."""
    return struct.unpack("QQ", path.read_bytes())


def traced(tid, path, action):
    """The system calls of a thread while action() runs."""
    strace = subprocess.Popen(
        ["strace", "-o", path, "-p", tid], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert b"attached" in strace.stderr.readline()
        action()
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=20)
    return [line for line in path.read_text().splitlines() if re.match(r"\w+\(", line)]


def test_no_system_call_and_no_allocation_per_packet(sluiced, tmp_path):
    shim, counts = tmp_path / "count.so", tmp_path / "counts"
    harness.run("cc", "-O2", "-shared", "-fPIC", HERE / "count_allocations.c", "-o", shim, "-ldl")
    counts.write_bytes(bytes(16))
    daemon = sluiced(
        {"tap0": {"device": "net_null0,size=64", "poll": "wanted", "rate": RATE}},
        wrap=("env", f"LD_PRELOAD={shim}", f"ALLOCATIONS={counts}"),
    )
    api, tid = daemon.api, worker(daemon.pid)
    ids = [
        api.create(output={"type": "none"}, **spec)["id"]
        for spec in (
            {},
            {"filter": "ether[12:2] = 0"},
            {"filter": "udp port 53"},
            {"sampling": {"mode": "every", "n": 10}},
            {"limits": {"packets": 10**12}, "snaplen": 40},
        )
    ]

    def capture():
        begin = api.capture(ids[-1])["ledger"]["offered"]
        api.wait_offered(ids[-1], begin + PACKETS)

    capture()
    before = allocations(counts)
    calls = traced(tid, tmp_path / "calls", capture)
    after = allocations(counts)
    assert calls == []
    assert after[0] == before[0]
    # The counter counts: the control thread has answered questions meanwhile.
    assert after[1] > before[1]
    # And so does the trace: what a session's end asks of the kernel is in it.
    assert traced(tid, tmp_path / "ends", lambda: [api.stop(id) for id in ids]) != []
    for id in ids:
        ledger = api.wait_closed(id)["ledger"]
        assert ledger["accepted"] == ledger["written"] + sum(ledger["dropped"].values())
        daemon.sluice("balance", id)
