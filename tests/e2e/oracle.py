# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Exchanges of request and answer, judged in the end by a vendor's published description with ajv
(oracle/judge.mjs). The descriptions, and patches with what they lack, are in tests/api/oracle."""
import atexit
import concurrent.futures
import functools
import json
import re
import shutil

import pytest

import harness

HERE = harness.SOURCE / "tests" / "e2e" / "oracle"
DESCRIPTIONS = harness.SOURCE / "tests" / "api" / "oracle"
_NETWORK = r"ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|ECONNRESET|ENETUNREACH"
_ahead = concurrent.futures.ThreadPoolExecutor(1)


def node_major():
    if not shutil.which("npm") or not shutil.which("node"):
        return 0
    return int(re.match(r"v(\d+)", harness.run("node", "--version").stdout)[1])


def npm_install(source, place):
    """A copy of source with its packages at place, or a skip that says why."""
    if node_major() < 20:
        pytest.skip(f"needs npm and node 20 or newer, there is {node_major() or 'none'}")
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("node_modules"))
    npm = ("nice", "-n", "19", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    done = harness.run(*npm, cwd=place, check=False, timeout=300)
    if done.returncode != 0:
        assert re.search(_NETWORK, done.stderr), done.stderr
        pytest.skip("npm registry not reachable")
    return place


@functools.lru_cache(maxsize=None)
def npm_ahead(source):
    """The same, begun once for all tests: what is left of the CPUs is enough for it."""
    place = harness.scratch("sluice-npm-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return _ahead.submit(npm_install, source, place / "packages")


def npm_packages(source):
    return npm_ahead(source).result()


class Exchanges:
    def __init__(self, description, patch):
        self.description, self.patch = DESCRIPTIONS / description, DESCRIPTIONS / patch
        self.said = []

    def add(self, method, path, request, answer, strip=""):
        self.said.append(
            {
                "method": method,
                "path": path.removeprefix(strip),
                "request": request if isinstance(request, dict) else None,
                "status": answer.status,
                "answer": answer.json() if answer.body else None,
            }
        )

    def judge(self, place=None):
        """All that was said fits the description; place is where the judge's packages go."""
        if not self.said:
            pytest.skip("nothing was asked: the tests before this one make the exchanges")
        place = npm_install(HERE, place) if place else npm_packages(HERE)
        (place / "said.json").write_text(json.dumps(self.said), encoding="utf-8")
        done = harness.run(
            "node", "judge.mjs", self.description, self.patch, "said.json", cwd=place, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
