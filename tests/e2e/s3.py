# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""S3 from the outside, without any of the program's own code: signatures (SigV4) and a small client
that looks at what a bucket holds. The scripted server (fake_s3.py) judges signatures by the same
functions."""
import datetime
import hashlib
import hmac
import http.client
import os
import re
import urllib.parse
import xml.etree.ElementTree

UNSIGNED = "UNSIGNED-PAYLOAD"
SAFE = "-._~"


def quote(text, safe=SAFE):
    return urllib.parse.quote(text, safe=safe)


def canonical_query(query):
    """Sorted, encoded once more: what both sides sign, whatever way it was written."""
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    return "&".join(sorted(f"{quote(k)}={quote(v)}" for k, v in pairs))


def signature(secret, region, method, path, query, headers, signed, stamp, digest):
    """headers: lower-case names. path as it stands in the request, encoded."""
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed)
    request = "\n".join((method, path, canonical_query(query), lines, ";".join(signed), digest))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join(
        ("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest())
    )
    key = b"AWS4" + secret.encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def write_keys(path, key, secret, token=None):
    """A credentials file as [bucket] wants it, put in its place at once."""
    lines = {"access_key": key, "secret_key": secret, "session_token": token}
    text = "".join(f"{name} = {value}\n" for name, value in lines.items() if value)
    with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(text)
    os.rename(f"{path}.new", path)


class Failed(AssertionError):
    def __init__(self, what, status, body):
        super().__init__(f"{what}: {status} {body[:500]!r}")
        self.status, self.body = status, body


class Client:
    """One bucket of one endpoint, path style."""

    def __init__(self, host, port, bucket, key, secret, region="us-east-1"):
        self.host, self.port, self.bucket = host, port, bucket
        self.key, self.secret, self.region = key, secret, region

    def section(self, place, **options):
        """Options of a [bucket] that is this one; the file with its keys goes to place."""
        path = os.path.join(place, f"keys-{self.bucket}-{self.port}")
        write_keys(path, self.key, self.secret)
        return {
            "endpoint": f"http://{self.host}:{self.port}",
            "insecure": "yes",
            "allow": f"{self.host}/32",
            "bucket": self.bucket,
            "region": self.region,
            "credentials": path,
            **options,
        }

    def ask(self, method, key="", query="", body=b"", want=(200, 204)):
        path = "/" + quote(f"{self.bucket}/{key}" if key else self.bucket, safe=SAFE + "/")
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "host": f"{self.host}:{self.port}",
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": stamp,
        }
        signed = sorted(headers)
        made = signature(
            self.secret,
            self.region,
            method,
            path,
            query,
            headers,
            signed,
            stamp,
            headers["x-amz-content-sha256"],
        )
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{stamp[:8]}/{self.region}/s3/aws4_request,"
            f"SignedHeaders={';'.join(signed)},Signature={made}"
        )
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path + ("?" + query if query else ""), body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if want is not None and answer.status not in want:
            raise Failed(f"{method} {path}?{query}", answer.status, data)
        answer.data = data
        return answer

    def make(self):
        self.ask("PUT")

    def put(self, key, body):
        self.ask("PUT", key, body=body)

    def get(self, key):
        return self.ask("GET", key).data

    def head(self, key):
        answer = self.ask("HEAD", key, want=(200, 404))
        return answer if answer.status == 200 else None

    def delete(self, key):
        self.ask("DELETE", key)

    def list(self, prefix=""):
        """{key: size} of all objects."""
        found, more = {}, ""
        while True:
            query = f"list-type=2&prefix={quote(prefix)}" + more
            tree = _tree(self.ask("GET", query=query).data)
            for entry in tree.iter("Contents"):
                found[entry.findtext("Key")] = int(entry.findtext("Size"))
            token = tree.findtext("NextContinuationToken")
            if tree.findtext("IsTruncated") != "true" or not token:
                return found
            more = f"&continuation-token={quote(token)}"

    def uploads(self):
        """[(key, upload id)] of multipart uploads that nobody completed or aborted."""
        tree = _tree(self.ask("GET", query="uploads=").data)
        return [(e.findtext("Key"), e.findtext("UploadId")) for e in tree.iter("Upload")]

    def empty(self):
        for key, upload in self.uploads():
            self.ask("DELETE", key, f"uploadId={quote(upload)}")
        for key in self.list():
            self.delete(key)


def _tree(data):
    text = re.sub(rb'\sxmlns="[^"]*"', b"", data)
    return xml.etree.ElementTree.fromstring(text)
