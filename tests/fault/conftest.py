# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The fixtures of the end-to-end tests, and faults that a test switches on and off in a running daemon.

These tests need a build with -Dfault_points=true."""
import importlib.util
import pathlib
import sys

import pytest

E2E = pathlib.Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(E2E))

_spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
_e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_e2e)
globals().update({k: v for k, v in vars(_e2e).items() if not k.startswith("__")})

import faults as _faults  # noqa: E402
import harness  # noqa: E402


def pytest_sessionstart(session):
    version = harness.run(harness.SLUICED, "--version").stdout
    if "fault points" not in version:
        raise pytest.UsageError(
            f"{harness.SLUICED} has no fault points: build it with -Dfault_points=true"
        )


@pytest.fixture
def faults(dir):
    """Rules for the daemons of faulty()."""
    return _faults.Faults(dir / "faults")


@pytest.fixture
def faulty(sluiced, faults):
    """sluiced(), but the daemon obeys faults from its start."""

    def start(ports, *rules, preexec=None, **options):
        daemon = sluiced(ports, begin=False, **options)
        daemon.env["SLUICE_FAULTS"] = str(faults.path)
        faults.write(*rules)
        return daemon.start(preexec)

    return start
