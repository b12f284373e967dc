# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A disk in a sparse file that fails as it is told: a plugin for nbdkit's python, started by disks.py.

Parameters: file=PATH size=BYTES rules_file=PATH. The rules are a JSON object that is read again whenever it
was replaced:

  read, write, flush   {"error": "EIO", "rate": 0.01, "ranges": [[from, to], ...]}: which of them fail,
                       all without a rate, anywhere without ranges
  delay                seconds that each write and flush takes longer
  pause                true: nothing is answered until it is gone
  pool                 bytes: ENOSPC for writes where nothing was written yet, once so much was
  seed                 of the dice for rates

When the first request since then failed stands in rules_file.failed, as time.monotonic().
"""
import builtins
import errno
import json
import os
import random
import time

import nbdkit

API_VERSION = 2
CHUNK = 65536
_disk = {"rules": {}, "stamp": None, "dice": random.Random(1), "touched": set()}


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def config(key, value):
    _disk[key] = value


def config_complete():
    _disk["fd"] = os.open(_disk["file"], os.O_RDWR)
    _disk["size"] = int(_disk["size"])


def open(readonly):  # pylint: disable=redefined-builtin
    return 1


def get_size(_):
    return _disk["size"]


def can_fua(_):
    return nbdkit.FUA_EMULATE


def _rules():
    try:
        stat = os.stat(_disk["rules_file"])
    except OSError:
        return {}
    stamp = (stat.st_ino, stat.st_mtime_ns)
    if stamp != _disk["stamp"]:
        with builtins.open(_disk["rules_file"], encoding="ascii") as f:
            _disk["rules"] = json.load(f)
        if _disk["rules"].get("seed"):
            _disk["dice"] = random.Random(_disk["rules"]["seed"])
        _disk["stamp"] = stamp
    return _disk["rules"]


def _fail(code, why):
    failed = _disk["rules_file"] + ".failed"
    if not os.path.exists(failed):
        with builtins.open(failed, "w", encoding="ascii") as f:
            f.write(str(time.monotonic()))
    nbdkit.set_error(code)
    raise OSError(code, why)


def _judge(kind, offset, count):
    """Wait as long as the rules want it, then fail if they do."""
    while _rules().get("pause"):
        time.sleep(0.01)
    rules = _rules()
    if kind != "read" and rules.get("delay"):
        time.sleep(rules["delay"])
    rule = rules.get(kind)
    if rule is None:
        return
    ranges = rule.get("ranges")
    if ranges is not None and not any(offset < end and begin < offset + count for begin, end in ranges):
        return
    if _disk["dice"].random() < rule.get("rate", 1):
        _fail(getattr(errno, rule.get("error", "EIO")), "as the rules want it")


def pread(_, buffer, offset, flags):
    _judge("read", offset, len(buffer))
    got = os.preadv(_disk["fd"], [buffer], offset)
    if got < len(buffer):
        buffer[got:] = bytes(len(buffer) - got)


def _take(offset, count):
    """A thin disk's pool: chunks that are written for the first time come from it."""
    chunks = set(range(offset // CHUNK, (offset + count - 1) // CHUNK + 1)) - _disk["touched"]
    pool = _rules().get("pool")
    if chunks and pool is not None and (len(_disk["touched"]) + len(chunks)) * CHUNK > pool:
        _fail(errno.ENOSPC, "the pool is used up")
    _disk["touched"] |= chunks


def pwrite(_, buffer, offset, flags):
    _judge("write", offset, len(buffer))
    _take(offset, len(buffer))
    os.pwrite(_disk["fd"], buffer, offset)


def flush(_, flags):
    _judge("flush", 0, 0)
