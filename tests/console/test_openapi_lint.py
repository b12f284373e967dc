# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The description of the API, read by Redocly's linter, which comes from npm like the browser's driver."""
import json
import os
import re

import pytest

import harness

RULES = {"extends": ["recommended"]}


def lint(programs, path, tmp_path):
    """The linter's problems with the description at path."""
    config = tmp_path / "redocly.yaml"  # JSON is YAML
    config.write_text(json.dumps(RULES), encoding="utf-8")
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    done = harness.run(
        "node", programs / "node_modules/@redocly/cli/bin/cli.js", "lint", path,
        "--config", config, "--format", "json",
        cwd=tmp_path, env={**os.environ, **quiet}, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["totals"]["errors"] + found["totals"]["warnings"] == len(found["problems"])
    return [f"{problem['ruleId']}: {problem['message']}" for problem in found["problems"]]


@pytest.fixture(autouse=True, scope="module")
def node_is_new_enough(programs):
    version = harness.run("node", "--version").stdout
    major, minor = map(int, re.match(r"v(\d+)\.(\d+)", version).groups())
    if not ((major == 20 and minor >= 19) or (major, minor) >= (22, 12)):
        pytest.skip(f"the linter needs node 20.19, or 22.12 and newer; there is {version.strip()}")


def test_the_description_is_as_it_should_be(programs, tmp_path):
    assert lint(programs, harness.SOURCE / "api/openapi.json", tmp_path) == []


def test_the_linter_sees_what_is_wrong(programs, tmp_path):
    document = json.loads((harness.SOURCE / "api/openapi.json").read_text(encoding="utf-8"))
    item = document["paths"]["/api/v1/captures"]
    item["get"]["operationId"] = item["post"]["operationId"]
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert any("operation" in problem for problem in lint(programs, path, tmp_path))
