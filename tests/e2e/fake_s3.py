# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""An S3 server that misbehaves on command. It keeps objects and multipart uploads for inspection and
judges every signature itself (s3.py), so what passes here was signed right.

    server = FakeS3()
    server.rule("part", part=2, status=503)              the next call that fits, once
    server.rule("complete", times=3, lose=True)          three times; times=None: always
    server.rule("head", nth=2, delay=1.0)                the second such call from now on

Calls: make_bucket, list, uploads, create, part, complete, abort, list_parts, put, get, head, delete.
A rule's actions, done in this order:

    delay=SECONDS        before anything
    cut_request=N        reset the connection after N bytes of the body
    corrupt=True         one bit of the body flips on its way here, before anybody checks a sum
    status=N, code=TEXT, headers={}     answer that and do nothing
    redirect=URL         307 to there
    error200=TEXT        200 with an <Error> of that code in the body, and nothing done
    lose=True            do it, then reset the connection instead of an answer
    etag="wrong" | "missing" | "other"  (the ETag of another part) in the answer
    size=N               HEAD says that
    body=BYTES           of the answer instead of ours
    endless=BYTES        200 and that over and over, without end
    header=BYTES         so many bytes of one header line in the answer
    cut_answer=N         reset after N bytes of the answer
"""
import collections
import contextlib
import hashlib
import itertools
import re
import select
import socket
import socketserver
import struct
import threading
import time
import urllib.parse
import xml.etree.ElementTree
from xml.sax.saxutils import escape

import s3

PART_MIN = 5 << 20
HEAD_MAX = 64 << 10

Call = collections.namedtuple("Call", "op key part status at")


class Object:
    def __init__(self, data, etag, meta):
        self.data, self.etag, self.meta = data, etag, meta
        self.sha256 = hashlib.sha256(data).hexdigest()


class Upload:
    def __init__(self, key, meta):
        self.key, self.meta, self.parts = key, meta, {}


class Rule:
    def __init__(self, op, part=None, nth=1, times=1, key=None, **actions):
        self.op, self.part, self.nth, self.times, self.key = op, part, nth, times, key
        self.actions, self.done = actions, 0

    def takes(self, op, key, part):
        """Whether this call is one of its; counts."""
        if self.op not in (op, "*") or self.part not in (None, part):
            return False
        if self.key is not None and self.key not in key:
            return False
        if self.nth > 1:
            self.nth -= 1
            return False
        if self.times is not None and self.done >= self.times:
            return False
        self.done += 1
        return True


class Refusal(Exception):
    def __init__(self, status, code, message=""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Cut(Exception):
    """Reset the connection now."""


class FakeS3:
    def __init__(self, bucket="caps", key="AKFAKE", secret="SKFAKESECRET", port=0):
        self.bucket, self.key, self.secret, self.region = bucket, key, secret, "us-east-1"
        self.keys = {key: secret}
        self.tokens = {}  # key: the session token that must come with it
        self.objects, self.uploads = {}, {}
        self.made = []  # (key, SHA-256) of each object that came to be, for ever
        self.calls, self.rules, self.bad_signatures = [], [], []
        self.sent_bytes = 0  # in endless bodies
        self.conditional = True  # knows If-None-Match, as AWS does and older gateways do not
        self.lock = threading.RLock()
        self.serial = itertools.count(1)
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.fake = self
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.server.over:
            return
        self.server.over = True
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def rule(self, op, **what):
        with self.lock:
            self.rules.append(Rule(op, **what))
            return self.rules[-1]

    def heal(self):
        with self.lock:
            self.rules.clear()

    def count(self, op, ok=None):
        with self.lock:
            calls = [c for c in self.calls if c.op == op]
        return len([c for c in calls if ok is None or (c.status in range(200, 300)) is ok])

    def client(self):
        return s3.Client("127.0.0.1", self.port, self.bucket, *self._good_key(), self.region)

    def _good_key(self):
        return next(iter(self.keys.items()))

    # What each call does. All under self.lock; body is bytes.

    def do_make_bucket(self, key, query, headers, body):
        return 200, {}, b""

    def do_list(self, key, query, headers, body):
        prefix = query.get("prefix", "")
        rows = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(o.data)}</Size><ETag>{o.etag}</ETag></Contents>"
            for k, o in sorted(self.objects.items())
            if k.startswith(prefix)
        )
        return 200, {}, _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{rows}")

    def do_uploads(self, key, query, headers, body):
        prefix = query.get("prefix", "")
        rows = "".join(
            f"<Upload><Key>{escape(u.key)}</Key><UploadId>{id}</UploadId>"
            "<Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>"
            for id, u in self.uploads.items()
            if u.key.startswith(prefix)
        )
        return (
            200,
            {},
            _xml("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{rows}"),
        )

    def do_create(self, key, query, headers, body):
        id = f"up~{next(self.serial):04d}/+x"  # must be encoded by who uses it
        self.uploads[id] = Upload(key, _meta(headers))
        inner = f"<Bucket>{self.bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{id}</UploadId>"
        return 200, {}, _xml("InitiateMultipartUploadResult", inner)

    def _upload(self, key, query):
        upload = self.uploads.get(query["uploadId"])
        if upload is None or upload.key != key:
            raise Refusal(404, "NoSuchUpload")
        return upload

    def do_part(self, key, query, headers, body):
        upload = self._upload(key, query)
        number = int(query["partNumber"])
        if not 1 <= number <= 10000:
            raise Refusal(400, "InvalidArgument", "part number")
        upload.parts[number] = (_etag(body), body)
        return 200, {"ETag": _etag(body)}, b""

    def do_list_parts(self, key, query, headers, body):
        upload = self._upload(key, query)
        after = int(query.get("part-number-marker", 0))
        rows = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{escape(etag)}</ETag>"
            f"<Size>{len(data)}</Size></Part>"
            for n, (etag, data) in sorted(upload.parts.items())
            if n > after
        )
        return 200, {}, _xml("ListPartsResult", f"<IsTruncated>false</IsTruncated>{rows}")

    def do_complete(self, key, query, headers, body):
        upload = self._upload(key, query)
        try:
            tree = xml.etree.ElementTree.fromstring(re.sub(rb'\sxmlns="[^"]*"', b"", body))
        except xml.etree.ElementTree.ParseError:
            raise Refusal(400, "MalformedXML") from None
        listed = [(int(p.findtext("PartNumber")), p.findtext("ETag")) for p in tree.iter("Part")]
        if not listed or [n for n, _ in listed] != sorted({n for n, _ in listed}):
            raise Refusal(400, "InvalidPartOrder" if listed else "MalformedXML")
        pieces = []
        for number, etag in listed:
            have, data = upload.parts.get(number, (None, b""))
            if have is None or have.strip('"') != etag.strip('"'):
                raise Refusal(400, "InvalidPart", f"part {number}")
            pieces.append(data)
        if any(len(piece) < PART_MIN for piece in pieces[:-1]):
            raise Refusal(400, "EntityTooSmall")
        self._only_new(key, headers)
        sums = b"".join(hashlib.md5(piece).digest() for piece in pieces)
        etag = f'"{hashlib.md5(sums).hexdigest()}-{len(pieces)}"'
        self._keep(key, Object(b"".join(pieces), etag, upload.meta))
        del self.uploads[query["uploadId"]]
        inner = f"<Bucket>{self.bucket}</Bucket><Key>{escape(key)}</Key><ETag>{escape(etag)}</ETag>"
        return 200, {}, _xml("CompleteMultipartUploadResult", inner)

    def do_abort(self, key, query, headers, body):
        self._upload(key, query)
        del self.uploads[query["uploadId"]]
        return 204, {}, b""

    def do_put(self, key, query, headers, body):
        self._only_new(key, headers)
        self._keep(key, Object(body, _etag(body), _meta(headers)))
        return 200, {"ETag": _etag(body)}, b""

    def _only_new(self, key, headers):
        if self.conditional and headers.get("if-none-match") == "*" and key in self.objects:
            raise Refusal(412, "PreconditionFailed")

    def _keep(self, key, object):
        self.objects[key] = object
        self.made.append((key, object.sha256))

    def do_get(self, key, query, headers, body):
        object = self.objects.get(key)
        if object is None:
            raise Refusal(404, "NoSuchKey")
        data, status, more = object.data, 200, {"ETag": object.etag, **object.meta}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if span:
            first = int(span[1])
            last = min(int(span[2] or len(data) - 1), len(data) - 1)
            more["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        return status, more, data

    do_head = do_get

    def do_delete(self, key, query, headers, body):
        self.objects.pop(key, None)
        return 204, {}, b""


def _meta(headers):
    return {n: v for n, v in headers.items() if n.startswith("x-amz-meta-")}


def _etag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


def _xml(root, inner):
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{space}">{inner}</{root}>'.encode()
    )


def _error(code, message=""):
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


_OPS = {  # (method, has a key, the telling query parameter)
    ("PUT", False, None): "make_bucket",
    ("GET", False, None): "list",
    ("GET", False, "list-type"): "list",
    ("GET", False, "uploads"): "uploads",
    ("POST", True, "uploads"): "create",
    ("PUT", True, "uploadId"): "part",
    ("POST", True, "uploadId"): "complete",
    ("DELETE", True, "uploadId"): "abort",
    ("GET", True, "uploadId"): "list_parts",
    ("PUT", True, None): "put",
    ("GET", True, None): "get",
    ("HEAD", True, None): "head",
    ("DELETE", True, None): "delete",
}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    over = False

    def handle_error(self, request, client_address):
        """A client that goes away is what many tests want; it is no news."""


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        with contextlib.suppress(OSError, ValueError):
            try:
                while not self.server.over and self._one():
                    pass
            except Cut:
                self._reset()

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _one(self):
        """Read and answer one request; False at the end of the connection."""
        head = self._head()
        if head is None:
            return False
        method, target, headers = head
        path, _, query_text = target.partition("?")
        query = dict(urllib.parse.parse_qsl(query_text, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(path[1:]).partition("/")
        word = next((w for w in ("uploadId", "uploads", "list-type") if w in query), None)
        op = _OPS.get((method, bool(key), word), "unknown")
        part = int(query.get("partNumber", 0)) or None
        fake = self.server.fake
        with fake.lock:
            rule = next((r for r in fake.rules if r.takes(op, key, part)), None)
        do = rule.actions if rule else {}
        body, cut = b"", False
        status = 0
        try:
            self._wait(do.get("delay", 0))
            # An upload that is made when nobody waits for it any more, after the object was verified,
            # is the bucket's own rule to end.
            if op == "create" and "delay" in do and self._left():
                raise Cut
            body = self._body(headers, do.get("cut_request"))
            status, more, data = self._answer(
                op, bucket, key, query, headers, body, do, (method, path, query_text)
            )
            if do.get("lose"):
                raise Cut
            if "endless" in do:
                self._pour(do["endless"])
            self._send(method, status, more, data, do.get("cut_answer"))
        except Cut:
            cut = True
        finally:
            with fake.lock:
                fake.calls.append(Call(op, key, part, status, time.monotonic()))
        if cut:
            raise Cut
        return headers.get("connection", "").lower() != "close"

    def _wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server.over:
            time.sleep(min(0.05, max(0, end - time.monotonic())))

    def _left(self):
        """The client has hung up."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _head(self):
        line = self.rfile.readline(HEAD_MAX)
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while (line := self.rfile.readline(HEAD_MAX).strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return method, target, headers

    def _body(self, headers, cut):
        length = int(headers.get("content-length", 0))
        if headers.get("expect", "").lower() == "100-continue" and cut != 0:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if cut is not None:
            self.rfile.read(min(cut, length))
            raise Cut
        body = self.rfile.read(length)
        if len(body) < length:
            raise Cut
        return body

    def _answer(self, op, bucket, key, query, headers, body, do, line):
        fake = self.server.fake
        if do.get("corrupt") and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if "redirect" in do:
            return 307, {"Location": do["redirect"]}, _error("TemporaryRedirect")
        if "status" in do:
            code = do.get("code", "InternalError")
            return do["status"], do.get("headers", {}), do.get("body", _error(code))
        try:
            with fake.lock:
                self._authorize(line, headers, body)
                if bucket != fake.bucket:
                    raise Refusal(404, "NoSuchBucket")
                if "error200" in do:
                    return 200, {}, _error(do["error200"])
                act = getattr(fake, "do_" + op, None)
                if act is None:
                    raise Refusal(405, "MethodNotAllowed")
                status, more, data = act(key, query, headers, body)
                self._lie(do, more, query)
        except Refusal as refusal:
            return refusal.status, {}, _error(refusal.code, refusal.message)
        return status, more, do.get("body", data)

    def _lie(self, do, more, query):
        if do.get("etag") == "missing":
            more.pop("ETag", None)
        elif do.get("etag") == "wrong":
            more["ETag"] = '"' + "0" * 32 + '"'
        elif do.get("etag") == "other":
            parts = self.server.fake.uploads[query["uploadId"]].parts
            more["ETag"] = parts[min(parts)][0]
        if "size" in do:
            more["Content-Length"] = str(do["size"])
        if "header" in do:
            more["x-amz-meta-long"] = "a" * do["header"]

    def _authorize(self, line, headers, body):
        try:
            self._judge(line, headers, body)
        except Refusal as refusal:
            if refusal.code not in ("ExpiredToken", "XAmzContentSHA256Mismatch"):
                self.server.fake.bad_signatures.append((*line, refusal.code))
            raise

    def _judge(self, line, headers, body):
        fake, (method, path, query) = self.server.fake, line
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
            r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})",
            headers.get("authorization", ""),
        )
        if not found:
            raise Refusal(403, "AccessDenied", "no signature")
        key, day, region, signed, claimed = found.groups()
        digest, stamp = headers.get("x-amz-content-sha256"), headers.get("x-amz-date", "")
        if key not in fake.keys:
            raise Refusal(403, "InvalidAccessKeyId")
        token = fake.tokens.get(key)
        if token is not None and headers.get("x-amz-security-token") != token:
            raise Refusal(400, "ExpiredToken")
        if region != fake.region or not stamp.startswith(day) or not digest:
            raise Refusal(400, "AuthorizationHeaderMalformed")
        names = signed.split(";")
        if not {"host", "x-amz-date"} <= set(names) or any(n not in headers for n in names):
            raise Refusal(403, "AccessDenied", "signed headers")
        made = s3.signature(
            fake.keys[key], region, method, path, query, headers, names, stamp, digest
        )
        if made != claimed:
            raise Refusal(403, "SignatureDoesNotMatch")
        if digest != s3.UNSIGNED and digest != hashlib.sha256(body).hexdigest():
            raise Refusal(400, "XAmzContentSHA256Mismatch")

    def _send(self, method, status, more, data, cut):
        lines = {"Content-Length": str(len(data)), "Content-Type": "application/xml", **more}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        answer = f"HTTP/1.1 {status} Scripted\r\n{text}\r\n".encode("latin-1")
        if method != "HEAD" and status != 204:
            answer += data
        if cut is not None:
            self.wfile.write(answer[:cut])
            raise Cut
        self.wfile.write(answer)

    def _pour(self, piece):
        """Until the other side has had enough, or 4 GiB."""
        piece = piece * max(1, (1 << 20) // len(piece))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n")
        with contextlib.suppress(OSError):
            while self.server.fake.sent_bytes < 4 << 30 and not self.server.over:
                self.wfile.write(piece)
                self.server.fake.sent_bytes += len(piece)
        raise Cut
