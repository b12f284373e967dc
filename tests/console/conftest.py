# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The fixtures of the end-to-end tests, and a browser."""
import importlib.util
import os
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE)]
_spec = importlib.util.spec_from_file_location("e2e_conftest", HERE.parent / "e2e" / "conftest.py")
_e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_e2e)

pytest_configure = _e2e.pytest_configure
pytest_runtest_makereport = _e2e.pytest_runtest_makereport
time_limit, belongings, sluiced, dir = _e2e.time_limit, _e2e.belongings, _e2e.sluiced, _e2e.dir

import browser as browsers  # noqa: E402 (needs the path)
import harness  # noqa: E402


@pytest.fixture(scope="session")
def programs():
    """browser.mjs and proxy.mjs beside their npm packages."""
    place = harness.scratch("sluice-console-")
    yield browsers.npm_packages(place / "programs")
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def browser(programs):
    browser = browsers.Browser(programs)
    yield browser
    browser.close()


@pytest.fixture
def page(browser, belongings):
    """page(**context options) opens one; nothing may go wrong on it that the test did not ask about."""
    pages = []

    def make(**options):
        made = browser.page(**options)
        pages.append(made)
        belongings.callback(made.close)
        return made

    yield make
    trouble = [line for made in pages for line in made.trouble() if not browsers.expected(line)]
    assert not trouble, "\n".join(trouble)


@pytest.fixture(scope="session")
def shots():
    """Where screenshots go: the results of scripts/test, or a directory of their own."""
    path = pathlib.Path(os.environ.get("SLUICE_TEST_RESULTS", "build-test/results")).resolve() / "console"
    path.mkdir(parents=True, exist_ok=True)
    return path
