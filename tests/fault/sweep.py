# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""One capture from its creation to its deletion, while the Nth call of a group of fault points fails:
whatever fails, the daemon lives, the books balance and nothing is left behind."""
import concurrent.futures
import http.client
import itertools
import time

import capcheck
import harness

ERRORS = {"alloc": "ENOMEM", "fd": "EMFILE", "io": "EIO"}
LOG = r"^(warning|error): "


def _tried(what, *words, **members):
    """The answer, or None where it is a refusal or no answer at all."""
    try:
        return what(*words, **members)
    except (harness.Refused, OSError, http.client.HTTPException):
        return None


def cycle(daemon, packets):
    """Create, capture, stop, download, delete; returns the books' residuals of what was closed."""
    api, residuals = daemon.api, {}
    made = _tried(api.create, ports=["tap0"], limits={"packets": packets})
    if made is None:
        return residuals
    id = made["id"]

    def state():
        capture = _tried(api.capture, id)
        return capture if capture and capture["state"] in ("complete", "failed") else None

    capture = harness.until("the capture is closed", state)
    path = daemon.dir / "sweep.pcapng"
    file = None
    answer = _tried(api.download, id, path)
    if answer is not None and path.stat().st_size == int(answer.headers["Content-Length"]):
        try:
            file = capcheck.read(path)
        except capcheck.Bad as bad:
            # /proc could not be read: the header says less.
            if "hardware" not in str(bad):
                raise
        path.unlink()
    if file is not None or capture["state"] == "complete":
        residuals = capcheck.books(capture, file)
    _tried(api.delete, id)
    return residuals


def tidy(daemon):
    """With nothing failing any more: remove what is left."""
    for capture in daemon.api.captures("?limit=1000")["captures"]:
        daemon.api.wait_closed(capture["id"])
        daemon.api.delete(capture["id"])


def state(daemon):
    """What must be as it was before."""
    left = sum(len(list((daemon.root / name).glob("*"))) for name in ("captures", "trash"))
    return {"fds": daemon.fds(), "left": left, "free": daemon.api.status()["blocks"]["free"]}


def is_as_before(now, before):
    return now["fds"] <= before["fds"] and all(now[k] == before[k] for k in ("left", "free"))


def begin(daemon, packets):
    """What must be there again after each step."""
    cycle(daemon, packets)
    tidy(daemon)
    harness.until("nothing is under way", lambda: state(daemon)["left"] == 0)
    return state(daemon)


def count(daemon, faults, group, packets):
    """How many calls of the group one operation makes, more or less: the last one that can fail."""
    rule = f"{group}: nth=1000000000 -> {ERRORS[group]}"
    faults.set(rule)
    cycle(daemon, packets)
    calls = faults.settled(rule)[0]
    faults.clear()
    tidy(daemon)
    return calls


def step(daemon, faults, group, n, packets, before):
    """One operation while call n fails, and all that must hold afterwards. Whether it came so far."""
    rule = f"{group}: nth={n} -> {ERRORS[group]}"
    faults.set(rule)
    residuals = cycle(daemon, packets)
    hits = faults.settled(rule)[1]
    faults.clear()
    assert daemon.process.poll() is None, f"{rule}: the daemon died\n{daemon.log()}"
    wrong = {name: value for name, value in residuals.items() if value}
    assert not wrong, f"{rule}: {wrong}"
    tidy(daemon)
    try:
        harness.until("all is as before", lambda: is_as_before(state(daemon), before), 10)
    except AssertionError:
        raise AssertionError(f"{rule}: {state(daemon)} instead of {before}") from None
    return hits > 0


def sweep(daemon, faults, group, calls, packets):
    """For each N of calls, until an operation passes untouched. Returns how far it came."""
    before = begin(daemon, packets)
    for n in calls:
        if not step(daemon, faults, group, n, packets, before):
            return n
    return None


def sweep_all(places, group, packets, say):
    """Every N from 1 on, each with one of several (daemon, faults), until an operation passes untouched."""
    befores = [begin(daemon, packets) for daemon, _ in places]
    numbers, over, started = itertools.count(1), [], time.monotonic()

    def work(place, before):
        for n in numbers:
            if over:
                return
            try:
                if not step(*place, group, n, packets, before):
                    over.append(n)
            except BaseException:
                over.append(0)
                raise
            if n % 100 == 0:
                say(f"sweep: {group} {n}, {time.monotonic() - started:.0f} s")

    with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
        for done in [pool.submit(work, p, b) for p, b in zip(places, befores)]:
            done.result()
    return min(over)
