# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The published description of the native API, held against every answer that a test gets."""
import functools
import json
import pathlib
import re

import jsonschema

DOCUMENT = json.loads(
    (pathlib.Path(__file__).resolve().parents[2] / "api/openapi.json").read_text(encoding="utf-8")
)
seen = set()  # (method, template, status) that some answer had


class Undescribed(AssertionError):
    """The daemon answered what its description does not know."""


@functools.lru_cache(maxsize=None)
def _patterns():
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", template) + "$"), template)
        for template in DOCUMENT["paths"]
    ]


def _resolved(node):
    while "$ref" in node:
        at = DOCUMENT
        for word in node["$ref"].split("/")[1:]:
            at = at[word]
        node = at
    return node


@functools.lru_cache(maxsize=None)
def validator_of(template, method, status, kind):
    """None where there is nothing to check the body against."""
    responses = DOCUMENT["paths"][template][method]["responses"]
    response = _resolved(responses.get(str(status)) or responses["default"])
    content = response.get("content", {})
    if status == 204 or not content:
        return None
    if kind not in content:
        raise Undescribed(f"{method} {template}: {status} is {kind}, described: {list(content)}")
    schema = content[kind].get("schema")
    if schema is None or "json" not in kind:
        return None
    # The references in a schema are into the whole document.
    return jsonschema.Draft202012Validator({**DOCUMENT, **schema})


def check(method, path, answer):
    """Every answer of a described operation has one of its described forms."""
    path = path.partition("?")[0]
    for pattern, template in _patterns():
        if not pattern.match(path) or method.lower() not in DOCUMENT["paths"][template]:
            continue
        kind = (answer.headers.get("Content-Type") or "").partition(";")[0]
        seen.add((method.lower(), template, answer.status))
        validator = validator_of(template, method.lower(), answer.status, kind)
        if validator is None:
            return
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.json())]
        if errors:
            raise Undescribed(f"{method} {path} {answer.status}: " + "; ".join(errors[:5]))
        return
