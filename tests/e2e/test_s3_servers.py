# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The servers that uploads are tested against, real and scripted, and what they are looked at with."""
import os
import re
import socket

import pytest

import fake_s3
import s3

PIECES = [os.urandom(fake_s3.PART_MIN), b"and a short one"]


@pytest.fixture
def fake():
    with fake_s3.FakeS3() as server:
        yield server


@pytest.fixture(params=["gateway", "fake"])
def client(request):
    """The same client of either."""
    if request.param == "gateway":
        return request.getfixturevalue("bucket")
    return request.getfixturevalue("fake").client()


def begin(client, key):
    found = re.search(rb"<UploadId>(.*)</UploadId>", client.ask("POST", key, "uploads=").data)
    return s3.quote(found[1].decode())


def send(client, key, upload, pieces=PIECES):
    return [
        client.ask("PUT", key, f"partNumber={n}&uploadId={upload}", piece).headers["ETag"]
        for n, piece in enumerate(pieces, 1)
    ]


def complete(client, key, upload, etags, want=(200,)):
    rows = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>"
        for n, etag in enumerate(etags, 1)
    )
    body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    return client.ask("POST", key, f"uploadId={upload}", body, want)


def test_real_and_scripted_agree(client):
    key = "a/b=c +ü/~x.pcapng"
    client.put(key, b"small")
    assert client.get(key) == b"small" and client.list() == {key: 5}
    assert client.list("a/b=") == {key: 5} and client.list("b") == {}
    assert client.head(key).headers["Content-Length"] == "5" and client.head("other") is None
    client.delete(key)
    upload = begin(client, key)
    assert [k for k, _ in client.uploads()] == [key]
    etags = send(client, key, upload)
    listed = client.ask("GET", key, f"uploadId={upload}").data
    assert re.findall(rb"<PartNumber>(\d+)", listed) == [b"1", b"2"]
    complete(client, key, upload, etags)
    assert client.uploads() == [] and client.get(key) == b"".join(PIECES)
    assert client.list() == {key: sum(map(len, PIECES))}
    complete(client, key, upload, etags, want=(404, 200))
    aborted = begin(client, key)
    client.ask("DELETE", key, f"uploadId={aborted}")
    assert client.uploads() == []
    assert client.ask("GET", key, f"uploadId={aborted}", want=None).status == 404


def test_real_and_scripted_refuse_alike(client):
    key = "k"
    upload = begin(client, key)
    etags = send(client, key, upload)
    wrong = '"' + "0" * 32 + '"'
    for list in ([wrong, etags[1]], []):
        assert 400 <= complete(client, key, upload, list, want=None).status < 500
    short = begin(client, key)
    small = send(client, key, short, [b"too", b"short"])
    assert b"EntityTooSmall" in complete(client, key, short, small, want=(400,)).data
    stranger = s3.Client(client.host, client.port, client.bucket, client.key, "wrong")
    answer = stranger.ask("GET", want=None)
    assert answer.status == 403 and b"SignatureDoesNotMatch" in answer.data
    assert client.head(key) is None


def test_script(fake):
    client = fake.client()
    fake.rule("put", status=503, code="SlowDown", nth=2)
    assert [client.ask("PUT", "k", want=None).status for _ in range(3)] == [200, 503, 200]
    for rule, there in (
        ({"lose": True}, True),
        ({"cut_answer": 20}, True),
        ({"cut_request": 2}, False),
    ):
        fake.rule("put", key="x", **rule)
        with pytest.raises(OSError):
            client.put("x", b"12345")
        assert (fake.objects.pop("x", None) is not None) is there
    fake.rule("put", corrupt=True)
    assert b"ContentSHA256Mismatch" in client.ask("PUT", "k", body=b"abc", want=(400,)).data
    fake.rule("head", size=77)
    assert client.head("k").headers["Content-Length"] == "77"
    fake.rule("put", etag="missing")
    assert client.ask("PUT", "k").headers["ETag"] is None
    fake.rule("get", redirect="http://127.0.0.1:1/")
    assert client.ask("GET", "k", want=None).status == 307
    fake.rule("complete", error200="InternalError")
    upload = begin(client, "m")
    etags = send(client, "m", upload)
    assert b"<Error>" in complete(client, "m", upload, etags).data and "m" not in fake.objects
    assert not fake.bad_signatures
    fake.rule("get", endless=b"a")
    with socket.create_connection(("127.0.0.1", fake.port)) as s:
        s.sendall(b"GET /caps/k HTTP/1.1\r\n\r\n")
        got = 0
        while got < 8 << 20:
            got += len(s.recv(1 << 20))
