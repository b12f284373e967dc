# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Captures into buckets, for tests: a daemon with a bucket, captures of a known size, and the judgement
of what is in the bucket and on disk afterwards (capcheck.bucket_books)."""
import hashlib
import random
import socket
import threading
import time

import capcheck
import frames
import harness
from harness import replay, until

FRAME = 1400
PART = 5 << 20
TWO_PARTS = 4200  # packets of FRAME bytes: 6 MB
THREE_PARTS = 8000  # 11.5 MB


def source(place, count=THREE_PARTS):
    """A port that replays numbered frames, each capture from the first one on."""
    path = frames.write_pcap(place / "u.pcap", [frames.numbered(1, n, FRAME) for n in range(count)])
    return {"tap0": replay(path)}


def bucket(server, place, **options):
    """[bucket caps] of a server (s3.Client, or who has one), for impatient tests."""
    client = server.client() if hasattr(server, "client") else server
    defaults = {"part_size": PART, "timeout": "1s"}
    return {"bucket caps": client.section(place, **{**defaults, **options})}


def begin(daemon, prefix, count=TWO_PARTS):
    """A capture of so many packets that goes to the bucket; its id once it has all of them."""
    output = {"type": "s3", "bucket": "caps", "prefix": prefix}
    made = daemon.api.create(name=prefix, limits={"packets": count}, output=output)
    daemon.api.wait(made["id"], "has ended", lambda c: c["state"] in ENDED)
    return made["id"]


ENDED = ("uploading", "complete", "failed")


def verified(daemon, id, seconds=60):
    """The capture once its object is proved."""
    return daemon.api.wait(
        id, "its object is verified", lambda c: c["upload"]["state"] == "verified", seconds
    )


def capture_path(daemon, id):
    return daemon.root / "captures" / id / "capture.pcapng"


def local(daemon, id):
    """(size, SHA-256) of the local file, or None."""
    try:
        data = capture_path(daemon, id).read_bytes()
    except FileNotFoundError:
        return None
    return len(data), hashlib.sha256(data).hexdigest()


def held(server):
    """What a bucket holds, as bucket_books wants it: (objects, unfinished uploads)."""
    if hasattr(server, "objects"):
        with server.lock:
            objects = {k: (len(o.data), o.sha256) for k, o in server.objects.items()}
            return objects, [(u.key, id) for id, u in server.uploads.items()]
    objects = {
        key: (size, hashlib.sha256(server.get(key)).hexdigest())
        for key, size in server.list().items()
    }
    return objects, server.uploads()


def balance(daemon, server, ids, seen=None):
    """U1 and U2 over these captures. seen: what local() said of those whose file is gone by now."""
    captures = [daemon.api.capture(id) for id in ids]
    files = {id: found for id in ids if (found := local(daemon, id))}
    objects, uploads = held(server)
    harness.check_residuals(capcheck.bucket_books(captures, objects, uploads, files), captures)
    proved = [c for c in captures if c["upload"]["state"] == "verified"]
    known = {id: found for id, found in (seen or {}).items() if found and id not in files}
    harness.check_residuals(capcheck.bucket_books(proved, objects, uploads, known), captures)
    if hasattr(server, "made"):
        with server.lock:
            keys = [key for key, _ in server.made]
        assert len(keys) == len(set(keys)), f"an object came to be twice: {keys}"
        assert not server.bad_signatures, server.bad_signatures
    return captures


def packets(daemon, server, capture):
    """Take the object apart: it is the capture, by its own books."""
    key = (
        capture["upload"]["url"].partition("://caps/")[2]
        or capture["upload"]["url"].split("/", 3)[3]
    )
    data = server.objects[key].data if hasattr(server, "objects") else server.get(key)
    path = daemon.dir / "object.pcapng"
    path.write_bytes(data)
    file = capcheck.read(path)
    harness.check_residuals(capcheck.books(capture, file), capture)
    assert harness.capinfos_count(path) == len(file)
    complaints, _ = capcheck.claims(file, first=0)
    assert not complaints, complaints[:5]
    path.unlink()
    return len(file)


class Listener:
    """Somewhere that nobody may connect to."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.count = self.socket.getsockname()[1], 0
        self.thread = threading.Thread(target=self._count, daemon=True)
        self.thread.start()

    def _count(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]><z><UploadId>&j;</UploadId><ETag>&j;</ETag></z>"
)

CALLS = {
    "create": {},
    "part": {"part": 1},
    "last part": {"part": 2},
    "complete": {},
    "head": {"nth": 2},
}
STATUSES = {500: "InternalError", 503: "SlowDown", 429: "TooManyRequests", 408: "RequestTimeout"}


def _op(call):
    return "part" if "part" in call else call


def all_faults():
    """{name: (call, rule)}: every misbehaviour that is healed by trying again."""
    faults = {}
    for call, where in CALLS.items():
        for status, code in STATUSES.items():
            faults[f"{status} to {call}"] = call, {**where, "status": status, "code": code}
        for n in (0, 9, 40):
            faults[f"{call} cut at {n} of the answer"] = call, {**where, "cut_answer": n}
        faults[f"{call} too slow"] = call, {**where, "delay": 2.5}
        faults[f"{call} answers without end"] = call, {**where, "endless": b"<a>"}
        faults[f"{call} has a huge header"] = call, {**where, "header": 1 << 20}
    for call in ("create", "part", "last part", "complete"):
        faults[f"answer to {call} lost"] = call, {**CALLS[call], "lose": True}
    for call in ("part", "last part", "complete"):
        for n in (0, 1, 100):
            faults[f"{call} cut at {n} of the request"] = call, {**CALLS[call], "cut_request": n}
        faults[f"{call} damaged on its way"] = call, {**CALLS[call], "corrupt": True}
    faults["part cut at 4 MB of the request"] = "part", {"part": 1, "cut_request": 4 << 20}
    for etag in ("wrong", "missing", "other"):
        faults[f"part 2 with {etag} ETag"] = "last part", {"part": 2, "etag": etag}
    for call in ("create", "complete"):
        faults[f"{call} answers a bomb"] = call, {"body": BOMB}
        faults[f"{call} answers nothing"] = call, {"body": b""}
        faults[f"{call} answers HTML"] = call, {"body": b"<html><body>busy</body></html>"}
        faults[f"200 and an error to {call}"] = call, {"error200": "InternalError"}
    faults["403 to part"] = "part", {"part": 1, "status": 403, "code": "AccessDenied"}
    faults["upload gone before part 2"] = "last part", {
        "part": 2,
        "status": 404,
        "code": "NoSuchUpload",
    }
    faults["complete does not like a part"] = "complete", {"status": 400, "code": "InvalidPart"}
    faults["object seen late"] = "head", {"nth": 2, "status": 404, "code": "NoSuchKey"}
    return faults


def kinds(dice):
    """One fault of each kind, at a call that dice chooses."""
    groups = {}
    for name, (call, rule) in all_faults().items():
        what = tuple(k for k in rule if k not in ("part", "nth"))
        word = rule.get("etag") or rule.get("body", b"")[:9] or (rule.get("status") == 404 and call)
        groups.setdefault((what, word), []).append(name)
    return {name: all_faults()[name] for name in map(dice.choice, groups.values())}


# These wait until a person could have done something: too slow for each run of the tests.
SLOW = ("huge header", "without end", "bomb", "redirect")


def place_fault(server, prefix, call, rule):
    return server.rule(_op(call), key=f"{prefix}/", **rule)


def until_finished(server, names=None, seconds=30):
    """No multipart upload is left behind; names: what was done to the captures below each prefix."""
    try:
        until("nothing is left unfinished", lambda: not held(server)[1], seconds)
    except AssertionError as error:
        left = [(key, (names or {}).get(key.partition("/")[0])) for key, _ in held(server)[1]]
        raise AssertionError(f"{error}: {left}") from None


def run_faults(daemon, server, faults, seconds=120):
    """A capture for each, all at once; every one must end as if there had been no fault."""
    rules, ids = {}, {}
    for n, (name, (call, rule)) in enumerate(faults.items()):
        prefix = f"f{n}"
        rules[name] = place_fault(server, prefix, call, rule)
        ids[name] = begin(daemon, prefix)
    for name, id in ids.items():
        try:
            verified(daemon, id, seconds)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error} {daemon.api.capture(id)['upload']}") from None
    unused = [name for name, rule in rules.items() if not rule.done]
    assert not unused, f"never came to pass: {unused}"
    until_finished(server, dict(zip((f"f{n}" for n in range(len(ids))), ids)))
    captures = balance(daemon, server, ids.values())
    for capture in captures:
        daemon.api.delete(capture["id"])
    until("deleted objects are gone", lambda: not held(server)[0], 30)
    return len(captures)


def run_random(daemon, server, dice, count, kills=0):
    """Captures with several faults each, drawn with dice, while the daemon is killed so many times;
    returns how many faults came to pass."""
    faults = [f for name, f in all_faults().items() if not any(word in name for word in SLOW)]
    seen, rules = {}, []
    for _ in range(count):
        prefix = f"r{dice.getrandbits(48):x}"
        for call, rule in dice.sample(faults, dice.randint(1, 5)):
            again = {"nth": dice.randint(1, 3)} if rule.get("nth", 1) == 1 else {}
            rules.append(place_fault(server, prefix, call, {**rule, **again}))
        id = begin(daemon, prefix, dice.choice((TWO_PARTS, THREE_PARTS, 10)))
        seen[id] = local(daemon, id)
    for _ in range(kills):
        time.sleep(dice.random() * 1.5)
        daemon.kill()
        daemon.start()
    for id in seen:
        verified(daemon, id, 240)
    until_finished(server, seconds=60)
    balance(daemon, server, seen, seen)
    for id in seen:
        daemon.api.delete(id)
    until("deleted objects are gone", lambda: not held(server)[0], 60)
    return sum(rule.done for rule in rules)


def soak(daemon, server, dice, count, say):
    """Every fault there is once, then so many captures with faults at random and kills between."""
    faults = done = run_faults(daemon, server, all_faults(), 600)
    say(f"upload: {done} captures, each fault once")
    kills = 0
    while done < count:
        n, k = min(20, count - done), dice.randint(0, 3)
        faults += run_random(daemon, server, dice, n, k)
        done, kills = done + n, kills + k
        say(
            f"upload: {done} uploads, {faults} faults, {kills} kills; objects that are not the file 0,"
            f" duplicates 0, orphans 0, files gone before verified 0; {daemon.rss() >> 20} MiB resident"
        )


def dice(seed):
    print(f"seed {seed}")
    return random.Random(seed)


# What the daemon says about uploads that fail on purpose.
NEWS = (
    r"is not uploaded yet",
    r"uploads in bucket caps cannot be listed",
    r"begins anew",
    r"the challenge cannot be",
    r"is still in bucket caps",
)
