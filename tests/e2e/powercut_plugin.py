# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""nbdkit plugin: a disk in memory whose power can be cut. Started by powercut.py.

What was written and not flushed is kept in a list; at a cut each of its 512-byte sectors is kept or lost
by the toss of a seeded coin, so that writes are lost, torn and reordered as a drive with a volatile cache
may do it. Then every request fails until the power is back.

Commands stand in the file control/command, the answer in control/answer; they are looked at with every
request:  cut SEED [AFTER]   now, or with the write or flush that is AFTER further on
          power              on again, with what the cut left
"""
import mmap
import os
import random

import nbdkit

API_VERSION = 2
SECTOR = 512

size = 0
control = ""
now = None  # what a reader sees
stable = None  # what a cut cannot take
pending = []  # (offset, bytes), in order
off = False
countdown = None
seed = 0
stats = {"kept": 0, "lost": 0}


def config(key, value):
    global size, control
    if key == "size":
        size = nbdkit.parse_size(value)
    elif key == "control":
        control = value
    else:
        raise RuntimeError(f"unknown parameter {key}")


def config_complete():
    global now, stable
    now, stable = mmap.mmap(-1, size), mmap.mmap(-1, size)


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def open(readonly):
    return 1


def get_size(h):
    return size


def can_fua(h):
    return nbdkit.FUA_NATIVE


def can_multi_conn(h):
    return True


def block_size(h):
    return (SECTOR, 4096, 32 << 20)


def _answer(text):
    with os.fdopen(
        os.open(f"{control}/answer.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
    ) as f:
        f.write(text)
    os.rename(f"{control}/answer.new", f"{control}/answer")


def _cut():
    global off, pending, countdown
    dice = random.Random(seed)
    kept = lost = 0
    for offset, data in pending:
        for at in range(0, len(data), SECTOR):
            if dice.getrandbits(1):
                stable[offset + at : offset + at + SECTOR] = data[at : at + SECTOR]
                kept += 1
            else:
                lost += 1
    for offset, data in pending:
        now[offset : offset + len(data)] = stable[offset : offset + len(data)]
    pending = []
    off, countdown = True, None
    _answer(f"cut {kept} {lost}")


def _obey():
    global off, seed, countdown
    path = f"{control}/command"
    if not os.path.exists(path):
        return
    with os.fdopen(os.open(path, os.O_RDONLY), "r") as f:
        words = f.read().split()
    os.unlink(path)
    if words[0] == "cut":
        seed = int(words[1])
        if len(words) > 2:
            countdown = int(words[2])
            _answer("armed")
        else:
            _cut()
    elif words[0] == "power":
        off = False
        _answer("on")


def _live(changes=False):
    global countdown
    _obey()
    if changes and countdown is not None and not off:
        countdown -= 1
        if countdown < 0:
            _cut()
    if off:
        nbdkit.set_error(5)  # EIO
        raise RuntimeError("the power is off")


def pread(h, buf, offset, flags):
    _live()
    buf[:] = memoryview(now)[offset : offset + len(buf)]


def _put(offset, data, flags):
    now[offset : offset + len(data)] = data
    if flags & nbdkit.FLAG_FUA:
        stable[offset : offset + len(data)] = data
    pending.append((offset, data))


def pwrite(h, buf, offset, flags):
    _live(True)
    _put(offset, bytes(buf), flags)


def flush(h, flags):
    _live(True)
    for offset, data in pending:
        stable[offset : offset + len(data)] = data
    pending.clear()
