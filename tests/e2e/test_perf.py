# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""perf/ itself: its frames through a real daemon, and whether it notices what is wrong."""
import pathlib

import pytest

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
