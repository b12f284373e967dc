# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A Debian package of this tree, and a throw-away copy of this machine to install it on."""
import contextlib
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE)]

import harness  # noqa: E402 (needs the path)
from machine import Machine  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitize: known to the end-to-end tests")


def sources():
    """What is tracked, and what is new: the tree as it would be committed."""
    listed = harness.run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=harness.SOURCE
    )
    return [name for name in listed.stdout.split("\0") if name and (harness.SOURCE / name).is_file()]


@pytest.fixture(scope="session")
def packages():
    """The directory in which dpkg-buildpackage has left what it made."""
    place = harness.scratch("sluice-package-")
    tree = place / "sluice"
    for name in sources():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(harness.SOURCE / name, tree / name)
    done = subprocess.run(
        ["dpkg-buildpackage", "-us", "-uc"],
        cwd=tree, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def deb(packages):
    found = [path for path in packages.glob("sluice_*.deb")]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="session")
def newer(deb):
    """The same with a later version."""
    tree = deb.parent / "newer"
    harness.run("dpkg-deb", "-R", deb, tree)
    control = tree / "DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    version = harness.run("dpkg-deb", "-f", deb, "Version").stdout.strip()
    control.write_text(
        text.replace(f"Version: {version}\n", f"Version: {version}+later\n"), encoding="utf-8"
    )
    path = deb.parent / f"sluice_{version}+later.deb"
    harness.run("dpkg-deb", "--root-owner-group", "-b", tree, path)
    return path


@pytest.fixture
def machine():
    with contextlib.closing(Machine()) as machine:
        yield machine
