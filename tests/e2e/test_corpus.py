# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Bad input in every dialect (tests/api/DIALECT.jsonl): its own error shape, 4xx, the field named."""
import json

import pytest

import frames
import harness
from harness import Api, replay

CORPUS = harness.SOURCE / "tests" / "api"
SITE = "67970e46-4e12-11e6-9188-0242ac110007"
ORG = "a9346fba-f920-e99a-cc51-2e8dcc57fa3c"


def citrix_login(api):
    """What a client sends from its login on."""
    answer = api.request(
        "POST",
        "/sdwan/nitro/v2/config/login",
        {"login": {"username": "admin", "password": api.token}},
        headers={"Authorization": ""},
    )
    assert answer.status == 200, answer
    return {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}


def citrix_error(body):
    assert set(body) == {"errorcode", "errormessage"}, body
    assert isinstance(body["errorcode"], int), body
    return body["errorcode"], body["errormessage"]


def mist_token(api):
    return {"Authorization": f"Token {api.token}"}


def mist_error(body):
    assert set(body) in ({"detail"}, {"detail", "id"}), body
    return None, body["detail"]


def cloudflare_token(api):
    return {"Authorization": f"Bearer {api.token}"}


def cloudflare_error(body):
    assert set(body) == {"success", "errors", "messages", "result"}, body
    assert body["success"] is False and body["messages"] == [] and body["result"] is None
    (error,) = body["errors"]
    return error["code"], error["message"]


# Per dialect: what its client always sends, and (code, message) of its error body.
DIALECTS = {
    "cloudflare": (cloudflare_token, cloudflare_error),
    "citrix": (citrix_login, citrix_error),
    "mist": (mist_token, mist_error),
}


@pytest.fixture(scope="module")
def daemon(module_dir):
    path = frames.write_pcap(module_dir / "s.pcap", [frames.numbered(1, n, 100) for n in range(10)])
    source = replay(path, infinite=True, rate=1000)
    with harness.Daemon(
        {"tap0": source, "tap1": {**source, "device": source["device"].replace("pcap0", "pcap1")}},
        **{
            "account default": {
                "id": "023e105f4ecef8ad9ca31a8372d0c353",
                "site_id": SITE,
                "org_id": ORG,
                "ports": "*",
                "colo": "ord02",
            },
            "cloudflare": {"enabled": "yes", "deliver": "bucket"},
            # Nobody is there: what is refused is refused before anybody is asked.
            "bucket pcaps-bucket": {
                "endpoint": "http://127.0.0.1:1",
                "insecure": "yes",
                "credentials": module_dir / "none",
            },
            "citrix": {"enabled": "yes", "interfaces": "MGMT=tap0, 1/2=tap1"},
            "mist": {"enabled": "yes", "devices": "5c5b35000010=tap0, 5c5b35000011=tap1"},
        },
    ) as daemon:
        daemon.allow("uploads in bucket pcaps-bucket cannot be listed")
        yield daemon


def cases(dialect):
    lines = (CORPUS / f"{dialect}.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        (number, json.loads(line))
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]


def headers_of(case, always, token):
    """None takes a header away, TOKEN stands for the daemon's secret."""
    headers = {"Authorization": "", **always, **case.get("headers", {})}
    return {k: v.replace("TOKEN", token) for k, v in headers.items() if v is not None}


def complaint(daemon, dialect, case, always):
    """What is wrong with the answer to one case, or None."""
    _, parse = DIALECTS[dialect]
    method, _, path = case["request"].partition(" ")
    body = case.get("body")
    if isinstance(body, str):
        body = body.encode()
    headers = headers_of(case, always, daemon.api.token)
    answer = Api(daemon.http).request(method, path, body, headers, timeout=10)
    if answer.status != case["status"]:
        return f"answered {answer!r}"
    if not answer.headers["Content-Type"].startswith("application/json"):
        return f"answered as {answer.headers['Content-Type']}"
    code, message = parse(answer.json())
    if code is not None and code != case.get("code", code):
        return f"code {code} in {answer!r}"
    if case.get("word", "") not in message:
        return f"does not name {case['word']}: {answer!r}"
    return None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.sanitize
def test_bad_input(daemon, dialect):
    login, _ = DIALECTS[dialect]
    always = login(daemon.api)
    asked = cases(dialect)
    assert asked and all(400 <= case["status"] < 500 for _, case in asked)
    wrong = [
        f"{dialect}.jsonl:{number}: {case['request']} {json.dumps(case.get('body'))[:80]} {found}"
        for number, case in asked
        for found in [complaint(daemon, dialect, case, always)]
        if found
    ]
    assert not wrong, "\n".join(wrong)
    assert daemon.api.captures()["captures"] == [], "a refused request started a capture"
