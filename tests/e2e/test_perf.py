# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""perf/ itself: its frames through a real daemon, and whether it notices what is wrong."""
import pathlib
import signal
import time

import pytest

import frames
import harness

BUILD = pathlib.Path(harness.SLUICED).resolve().parent


@pytest.fixture(scope="module")
def build():
    """The tools stand where the daemon under test is."""
    if (BUILD / "perf" / "perf-check").exists():
        return BUILD
    harness.run("meson", "configure", BUILD, "-Dperf=true", timeout=60)
    tools = ("perf-frames", "perf-check", "perf-write")
    harness.run("ninja", "-C", BUILD, *(f"perf/{tool}" for tool in tools), timeout=120)
    return BUILD


def test_the_benchmark_notices(build):
    command = harness.SOURCE / "perf" / "run"
    done = harness.run(command, "--build", build, "--self-test", timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and all(line.startswith("ok - ") for line in lines), done.stdout


def test_gaps_between_polls_are_listed(tmp_path):
    """A process that is stopped polls nothing meanwhile: the status says when, and for how long."""
    path = frames.write_pcap(tmp_path / "f.pcap", [frames.numbered(0, n) for n in range(64)])
    with harness.Daemon({"tap0": harness.replay(path, infinite=True)}) as daemon:
        capture = daemon.api.create(output={"type": "none"})
        daemon.api.wait_offered(capture["id"], 1000)
        # One may fall between two rounds, where nothing is timed.
        for _ in range(5):
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(0.05)
            daemon.process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        gaps = next(c for c in daemon.api.status()["lcores"] if c["role"] == "rx")["gaps"]
        assert gaps["count"] >= len(gaps["last"]) >= 1
        assert gaps["longest_ns"] >= 40_000_000
        assert gaps["longest_ns"] >= max(gap["ns"] for gap in gaps["last"])
        daemon.api.stop(capture["id"])
