# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The description of the API is served, and every operation answers as it says (described.py)."""
import pytest

import frames
import harness
import described
from harness import replay


def operations():
    for template, item in described.DOCUMENT["paths"].items():
        for method in item:
            if method != "parameters":
                yield method, template


def test_the_description_is_served(sluiced):
    daemon = sluiced({"tap0": {"device": "net_null0,size=64", "rate": 1000}})
    answer = harness.Api(daemon.http).request("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json() == described.DOCUMENT


def test_every_operation_answers_as_described(sluiced, tmp_path):
    path = tmp_path / "in.pcap"
    frames.write_pcap(path, [frames.numbered(1, n) for n in range(200)])
    daemon = sluiced({"tap0": replay(path)})
    api = daemon.api
    id = api.create(name="one", limits={"packets": 100})["id"]
    daemon.settled(id)
    known = {
        ("post", "/api/v1/captures/{id}/stop"): {},
        ("post", "/api/v1/session"): {"body": {"token": api.token}},
        ("post", "/api/v1/filters/check"): {"body": {"filter": "tcp prot 80"}},
        ("post", "/api/v1/packets/decode"): {"body": {"data": "AgAAAAABAgAAAAACCAY="}},
        ("patch", "/api/v1/captures/{id}"): {"body": {"notes": "n"}},
        ("post", "/api/v1/captures"): {"body": {"limits": {"packets": 1}, "name": "two"}},
        ("post", "/api/v1/tokens"): {"body": {"name": "t", "role": "viewer"}},
    }
    last = [("delete", "/api/v1/tokens/{name}"), ("delete", "/api/v1/captures/{id}")]
    rest = [o for o in operations() if o not in last and not o[1].endswith(("/live", "/stream"))]
    for method, template in [*rest, *last]:
        url = template.replace("{id}", id).replace("{name}", "t")
        url = url.replace("{number}", "7").replace("{file}", "app.js")
        answer = api.request(method.upper(), url, **known.get((method, template), {}))
        assert 200 <= answer.status < 300, (method, template, answer)
        assert (method, template, answer.status) in described.seen


@pytest.mark.parametrize("status,asked", [
    (400, ("GET", "/api/v1/captures?limit=0")),
    (400, ("GET", "/api/v1/status?x=1")),
    (404, ("GET", "/api/v1/captures/00000000-0000-4000-8000-000000000000")),
    (405, ("PUT", "/api/v1/status")),
    (415, ("POST", "/api/v1/captures")),
])
def test_refusals_are_as_described(sluiced, status, asked):
    daemon = sluiced({"tap0": {"device": "net_null0,size=64", "rate": 1000}})
    headers = {"Content-Type": "text/html"} if status == 415 else {}
    body = "x" if status == 415 else None
    answer = daemon.api.request(*asked, body=body, headers=headers)
    assert answer.status == status
    if status != 405:
        validator = described.validator_of("/api/v1/status", "get", 400, "application/problem+json")
        assert not list(validator.iter_errors(answer.json()))
