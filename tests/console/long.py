# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The console for longer than tests have time for (scripts/soak console); prints figures, and fails where
rows are wrong, packets are lost or memory is not given back."""
import time

import browser as browsers
import frames
import harness
import scrolling

WATCH = (
    "window.longTasks = [];"
    "new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => Math.round(entry.duration))))"
    ".observe({ type: 'longtask' })"
)
PAGES, LIVE = 20, 3  # that many on the live list, which costs a browser a sixth of a CPU
CAPTURES = 300
SECONDS = 20


def long_tasks(view, what, say):
    """Tasks of 50 ms and more by the clock since WATCH, in words."""
    tasks = sorted(view.js("longTasks.splice(0)"), reverse=True)
    say(f"console: {what}: {len(tasks)} tasks of 50 ms or more, the longest {tasks[:5]} ms")
    return tasks


def the_list(daemon, browser, place, packets, say):
    """A capture of very many packets, everywhere in it."""
    id = daemon.api.create(ports=["fast"], limits={"packets": packets})["id"]
    daemon.api.wait_closed(id, 300)
    stored = daemon.root / "captures" / id / "capture.pcapng"
    view = browser.page(timezoneId="UTC")
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.goto(f"{daemon.api.url}/#/captures/{id}")
    view.seen(f".packet-panel .note >> text={packets:,} packets")
    view.js(WATCH)
    begin, before = time.monotonic(), view.heap()
    view.do(".viewport", "focus")
    view.press("End")
    scrolling.rows_there(view, lambda rows: rows[-1] == packets)
    say(f"console: the last of {packets} packets is there after {time.monotonic() - begin:.2f} s")
    rows = scrolling.look_everywhere(view, stored, packets, place, count=40)
    grown = view.heap() - before
    say(f"console: {rows} rows at 84 places are as tshark says; the page holds {grown >> 10} KiB more")
    long_tasks(view, "scrolling", say)
    assert grown < 20 << 20 and view.count(".viewport .prow") < 60
    view.close()
    daemon.api.delete(id)


def smooth(daemon, browser, say):
    """Ten captures, ten thousand packets a second on the live list."""
    ids = [daemon.api.create(name=f"c{n}", ports=["tap0"])["id"] for n in range(10)]
    view = browser.page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    for name, path in (("live list", f"captures/{ids[0]}"), ("table", "captures"), ("overview", "")):
        view.goto(f"{daemon.api.url}/#/{path}")
        time.sleep(3)
        view.js(WATCH)
        busy = sorted(view.ask(trace=SECONDS * 500))
        say(f"console: {name}: {len(busy)} tasks took {sum(busy) / SECONDS / 5:.1f} % of a CPU, the longest {busy[-1]:.0f} ms of it")
        long_tasks(view, name, say)
    view.close()
    for id in ids:
        daemon.api.delete(id)


def many_rows(daemon, browser, say):
    """Very many captures in the table."""
    names = ("Übertragung nach Köln", "מעקב אחר תקלה", "📡 uplink 🔥", "n" * 255, "<b>bold</b>", "")
    ids = [
        daemon.api.create(name=names[n % len(names)], ports=["tap0"], limits={"packets": 1})["id"]
        for n in range(CAPTURES)
    ]
    for id in ids:
        daemon.api.wait_closed(id)
    running = [daemon.api.create(name=f"running {n}", ports=["tap0"])["id"] for n in range(10)]
    view = browser.page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.js(WATCH)
    view.click("nav >> text=Captures")
    view.click("text=Show older captures")
    view.until("all are listed", f"document.querySelectorAll('.captures tbody tr').length === {CAPTURES + 10}")
    long_tasks(view, f"{CAPTURES} rows made", say)
    time.sleep(SECONDS / 2)
    long_tasks(view, f"{CAPTURES} rows kept up to date", say)
    view.fill("#of-words", "köln")
    view.until("some are found", f"document.querySelectorAll('.captures tbody tr').length === {CAPTURES // len(names)}")
    view.close()
    for id in [*running, *ids]:
        daemon.api.delete(id)


def watchers(daemon, browser, say):
    """Twenty consoles cost no packet."""
    id = daemon.api.create(name="watched", ports=["tap0"])["id"]
    views = [browser.page() for _ in range(PAGES)]
    for n, view in enumerate(views):
        view.sign_in(daemon.api.url + "/", daemon.api.token)
        if n < LIVE:
            view.goto(f"{daemon.api.url}/#/captures/{id}")
            view.seen(".viewport .prow:not([hidden])", timeout=60)
    before = daemon.api.counters("tap0")
    time.sleep(SECONDS)
    for view in views:
        view.close()
    daemon.api.stop(id)
    ledger = daemon.api.wait_closed(id)["ledger"]
    now = daemon.api.counters("tap0")
    lost = sum(now[name] for name in ("nic_missed", "nic_errors", "nic_nombuf")) + sum(ledger["dropped"].values())
    say(f"console: {PAGES} consoles, {(now['offered'] - before['offered']) / SECONDS:.0f} packets/s: {lost} of {ledger['accepted']} lost")
    assert lost == 0
    daemon.api.delete(id)


def main(place, packets, say):
    """place: a soak.Place."""
    path = frames.write_pcap(place.dir / "mixed.pcap", frames.mixed(2000, longest=1514))
    short = frames.write_pcap(place.dir / "short.pcap", frames.mixed(2000, longest=120))
    browser = browsers.Browser(browsers.npm_packages(place.dir / "programs"))
    try:
        daemon = place.daemon(
            {
                "tap0": harness.replay(path, infinite=True, rate=10000),
                "fast": harness.replay(short, infinite=True, device="net_pcap1"),
            }
        )
        smooth(daemon, browser, say)
        watchers(daemon, browser, say)
        many_rows(daemon, browser, say)
        the_list(daemon, browser, place.dir, packets, say)
    finally:
        browser.close()
