# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The web console in Debian's Chromium, with the real daemon behind it."""
import filecmp
import itertools
import re
import subprocess
import time

import pytest

import capcheck
import frames
import harness
from harness import replay
from websocket import Socket

NASTY = '<img src=x onerror="document.title=\'owned\'"><script>alert(1)</script>\'"&lt;'
FIRST_VIEW_MAX = 200_000


def mixture(count=2000):
    """Of all kinds, and some whose payload is markup."""
    made = frames.mixed(count, longest=1514)
    for n in range(0, count, 50):
        made[n] = frames._ether(n, 0x0800) + frames.ipv4(
            17, 0x0A000001, 0x0A000002, frames.udp(5353, 53, NASTY.encode())
        )
    return made


@pytest.fixture(scope="module")
def daemon(module_dir):
    path = frames.write_pcap(module_dir / "mixed.pcap", mixture())
    with harness.Daemon(
        {
            "tap0": replay(path, infinite=True, rate=10000),
            "tap1": replay(path, infinite=True, device="net_pcap1", rate=500),
        },
    ) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def module_dir():
    path = harness.scratch()
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


def token(daemon, name, role, account="*"):
    body = {"name": name, "role": role, "account": account}
    return daemon.api.ask("POST", "/api/v1/tokens", body, 201)["secret"]


def number(text):
    return int(text.replace(",", ""))


def test_the_vendored_files_are_those_of_npm(programs):
    vendor = harness.SOURCE / "api" / "console" / "vendor"
    package = programs / "node_modules" / "uplot"
    for name, where in (("uPlot.iife.min.js", "dist"), ("uPlot.min.css", "dist")):
        assert filecmp.cmp(vendor / name, package / where / name, shallow=False), name
    assert filecmp.cmp(vendor / "LICENSE.uPlot", package / "LICENSE", shallow=False)
    assert {p.name for p in vendor.iterdir()} == {"uPlot.iife.min.js", "uPlot.min.css", "LICENSE.uPlot"}


def test_signing_in_and_what_roles_may(daemon, page):
    view = page()
    view.goto(daemon.api.url + "/")
    view.click("button >> text=Sign in")
    assert "needed" in view.text("#token-error")
    view.fill("#token", "no token has spaces")
    view.press("Enter")
    assert "cannot be a token" in view.text("#token-error")
    view.fill("#token", "f" * 64)
    view.press("Enter")
    view.seen("#token-error >> text=not the secret of a valid token")
    assert view.js("document.activeElement.id") == "token"

    capture = daemon.api.create(name="for the viewer", limits={"seconds": 600}, filter="udp port 53")
    view.fill("#token", token(daemon, "looker", "viewer"))
    view.press("Enter")
    view.seen(".verdict >> text=Nothing is lost")
    assert "looker (viewer)" in view.text(".who")
    assert view.js("document.cookie") == ""
    assert view.js("JSON.stringify([localStorage.length, sessionStorage.length])") == "[0,0]"
    view.click("nav >> text=Captures")
    view.seen("text=for the viewer")
    forbidden = ("Start a capture", "Stop", "Delete", "Notes")
    assert not set(view.texts("button")) & set(forbidden)
    view.click("text=for the viewer")
    view.seen(".viewport .prow")
    assert not set(view.texts("button")) & set(forbidden)
    view.click("text=Sign out")
    view.seen("#token")
    assert view.js("fetch('api/v1/session').then((answer) => answer.status)") == 401
    daemon.api.delete(capture["id"])
    daemon.api.ask("DELETE", "/api/v1/tokens/looker", want=204)


def test_start_watch_stop_download(daemon, page, dir):
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.click("nav >> text=Captures")
    view.click(".bar >> text=Start a capture")

    # What is wrong is said at its place before it is sent, by the daemon's compiler for the filter.
    view.fill("#start-filter", "udp prot 53")
    view.seen(".expression mark >> text=prot")
    assert "character 5" in view.text("#start-filter-error")
    view.fill("#start-limits-packets", "many")
    view.click("dialog >> button >> text=Start")
    assert '"many" is no number' in view.text("#start-limits-packets-error")
    view.fill("#start-limits-packets", "")
    view.click("dialog >> button >> text=Start")
    view.seen(".expression mark >> text=prot")
    assert daemon.api.captures("?state=running")["captures"] == []
    view.fill("#start-filter", "udp port 53 or tcp")
    view.seen("text=/compiles to \\d+ instructions/")
    # What only the server can know is refused in its words, at the field.
    view.fill("#start-limits-file_bytes", "100")
    view.click("dialog >> button >> text=Start")
    view.seen("#start-limits-file_bytes-error >> text=is too small")
    view.fill("#start-limits-file_bytes", "")
    view.fill("#start-name", "in the browser")
    view.fill("#start-limits-seconds", "10 min")
    view.do("#start-port-tap1", "uncheck")
    view.click("dialog >> button >> text=Start")
    view.seen("h1 >> text=in the browser")

    # Live packets come, and what is left out is counted.
    view.until("packets are listed", "document.querySelectorAll('.viewport .prow:not([hidden])').length > 15")
    view.until("skipped ones are counted", "/[1-9][\\d,]* skipped/.test(document.querySelector('.packet-panel .note')?.textContent)")
    view.until("rates are drawn", "/pps/.test(document.querySelector('.chart .legend')?.textContent)")
    view.fill("#packet-words", "tcp -udp")
    view.until(
        "only those with the word are left",
        "(() => { const rows = [...document.querySelectorAll('.viewport .prow:not([hidden])')];"
        " return rows.length > 3 && rows.every((row) => row.textContent.includes('TCP')) })()",
    )
    view.do(".viewport .prow:not([hidden]) >> nth=2", "click")
    view.seen(".detail >> text=Ethernet")
    assert "TCP" in view.text(".layers")
    assert re.match(r"0000 *02 00 00", view.text(".hex").replace("\n", " "))
    view.click(".detail >> text=Destination port")
    assert view.count(".hex .pairs .marked") == 2

    view.click("button >> text=Stop")
    view.seen(".pill.complete")
    id = view.js("location.hash").split("/")[-1]
    capture, file = daemon.settled(id)
    assert capture["filter"] == "udp port 53 or tcp" and capture["ports"] == ["tap0"]
    assert capture["name"] == "in the browser" and capture["limits"]["seconds"] == 600

    # The same numbers everywhere.
    ledger = capture["ledger"]
    view.seen(".laws .holds")
    picture = dict(zip(view.contents(".ledger .stage"), map(number, view.contents(".ledger .stage + .number"))))
    assert picture == {"Offered": ledger["offered"], "Accepted": ledger["accepted"], "Written": ledger["written"], "Durable": ledger["durable"]}
    assert view.count(".laws .holds") == 2
    left = {text.split(" ", 1)[1]: number(text.split(" ", 1)[0]) for text in view.contents(".ledger .out")}
    assert left == {"filtered": ledger["filtered"]}
    assert len(file) == ledger["written"]
    view.fill("#packet-words", "")
    view.until("the list is the file", f"document.querySelector('.packet-panel .note')?.textContent === '{ledger['written']:,} packets'")

    # The list goes to its last packet, and shows its bytes.
    view.do(".viewport", "focus")
    view.press("End")
    view.seen(f".viewport .prow >> text={ledger['written']:,}")
    view.press("Enter")
    view.seen(f".detail >> text=Packet {ledger['written']:,}")
    shown = "".join(view.text(".hex .pairs >> nth=0").split())
    assert shown == file.frames()[-1][:16].hex()[: len(shown)] and shown

    # Words find in the file what is in the file.
    view.fill("#packet-words", "10.0.0.1.5353 -tcp")
    view.seen(".packet-panel > .bar .note >> text=found in")
    view.do(".viewport", "focus")
    for _ in range(50):
        view.press("End")  # the search goes on as far as somebody looks
        if "found in all" in view.text(".packet-panel > .bar .note"):
            break
        time.sleep(0.2)
    found = number(re.match(r"[\d,]+", view.text(".packet-panel > .bar .note"))[0])
    assert found == sum(NASTY.encode() in data for data in file.frames()) > 0

    saved = dir / "saved.pcapng"
    name = view.save("button >> text=Download", saved)
    assert name == "in_the_browser.pcapng"
    daemon.api.download(id, dir / "api.pcapng")
    assert filecmp.cmp(saved, dir / "api.pcapng", shallow=False)

    view.click("button >> text=Notes")
    view.fill("#edit-notes", "first line\nsecond")
    view.click("dialog >> text=Save")
    view.seen(".facts >> text=second")
    assert daemon.api.capture(id)["notes"] == "first line\nsecond"
    view.click("button >> text=Delete")
    view.seen("dialog >> text=removed for good")
    view.click("dialog >> text=Cancel")
    assert daemon.api.capture(id)["state"] == "complete"
    view.click("button >> text=Delete")
    view.click("dialog >> button.danger")
    view.seen("h1 >> text=Captures")
    assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404


def test_numbers_are_those_of_the_metrics(sluiced, page, dir):
    path = frames.write_pcap(dir / "in.pcap", frames.mixed(3000, longest=1514))
    daemon = sluiced({"tap0": replay(path)})
    id = daemon.api.create(filter="udp", sampling={"mode": "every", "n": 2})["id"]
    daemon.api.wait_offered(id, 3000)
    daemon.api.stop(id)
    capture, file = daemon.settled(id)
    daemon.settle_ports()
    metrics = daemon.api.request("GET", "/metrics").body.decode()

    def metric(name):
        return int(re.search(rf"^{re.escape(name)} (\d+)$", metrics, re.M)[1])

    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.seen("tbody >> text=tap0")
    cells = view.texts(".panel >> nth=1 >> tbody td.n")
    counters = daemon.api.counters()
    assert number(cells[2]) == counters["offered"] == metric('sluice_port_offered_packets_total{port="tap0"}')
    assert number(cells[3]) == 0
    view.click("nav >> text=Captures")
    view.seen("tbody tr")
    assert number(view.text("td[data-label=Packets]")) == len(file) == metric("sluice_capture_written_packets_total")
    view.click("tbody a")
    view.seen(".laws .holds")
    assert number(view.contents(".ledger .stage + .number")[0]) == capture["ledger"]["offered"] == metric("sluice_capture_offered_packets_total")
    left = {text.split(" ", 1)[1]: number(text.split(" ", 1)[0]) for text in view.contents(".ledger .out")}
    assert left.get("filtered", 0) == metric("sluice_capture_filtered_packets_total")
    assert left.get("sampled out", 0) == metric("sluice_capture_sampled_out_packets_total")
    assert left.get("over limit", 0) == metric("sluice_capture_over_limit_packets_total")


def test_text_from_the_network_stays_text(daemon, page):
    capture = daemon.api.create(name=NASTY, notes=NASTY, filter="udp port 5353", ports=["tap0"], limits={"packets": 300})
    daemon.api.wait_closed(capture["id"])
    running = daemon.api.create(name=NASTY, filter="udp port 5353", limits={"seconds": 600})
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.seen(f".overview >> text={NASTY[:20]}")
    view.click("nav >> text=Captures")
    view.seen("tbody tr")
    assert NASTY in view.texts("tbody th a")
    view.goto(f"{daemon.api.url}/#/captures/{capture['id']}")
    view.seen("h1 >> text=onerror")
    assert view.text("h1") == NASTY and NASTY in view.text(".facts")
    view.do(".viewport .prow:not([hidden]) >> nth=1", "click")
    view.seen(".detail")
    letters = "".join(view.texts(".hex .letters"))
    assert "<script>alert(1)" in letters and "<img src=x" in letters
    view.goto(f"{daemon.api.url}/#/captures/{running['id']}")
    view.seen(".viewport .prow")
    # As markup it would have made elements, and trusted types would have refused to.
    assert view.js("document.querySelectorAll('img, iframe, script:not([src^=\"console/\"])').length") == 0
    assert view.js("document.title").endswith("· Sluice")
    refused = view.js("(() => { try { document.body.innerHTML = '<b>'; return 'taken' } catch (error) { return error.name } })()")
    assert refused == "TypeError" and "TrustedHTML" in " ".join(view.trouble())
    for id in (capture["id"], running["id"]):
        daemon.api.delete(id)


def test_a_lost_connection_heals_and_doubles_nothing(sluiced, page, dir):
    path = frames.write_pcap(dir / "in.pcap", [frames.numbered(1, n) for n in range(2000)])
    daemon = sluiced({"tap0": replay(path, infinite=True, rate=150)})
    before = daemon.api.create(name="before", limits={"packets": 20})
    daemon.api.wait_closed(before["id"])
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    live = daemon.api.create(name="over the break")
    view.goto(f"{daemon.api.url}/#/captures/{live['id']}")
    view.until("packets come", "/[1-9][\\d,]* shown/.test(document.querySelector('.packet-panel .note')?.textContent)")
    daemon.stop()
    view.seen(".banner >> text=No connection")
    assert view.text(".link") == "no connection"
    daemon.start()
    # The daemon has forgotten the sign-in; the page has not.
    view.seen(".pill.complete", timeout=20)
    view.gone(".banner")
    view.click("nav >> text=Captures")
    view.seen("tbody tr")
    names = view.texts("tbody th a")
    assert sorted(names) == ["before", "over the break"]
    assert view.text(".link") == "live"
    # A page that does not know the token any more asks for it.
    view.on("reload")
    view.seen(".dot.live")
    daemon.stop()
    daemon.start()
    view.seen("text=sign in again", timeout=20)


def test_a_broken_socket_comes_back_by_itself(sluiced, page, programs, dir):
    """Behind a proxy that dies and returns; the daemon and its capture go on."""
    path = frames.write_pcap(dir / "in.pcap", [frames.numbered(1, n) for n in range(2000)])
    daemon = sluiced({"tap0": replay(path, infinite=True, rate=150)})
    live = daemon.api.create(name="steady")
    proxy = Proxy(programs, daemon)
    try:
        view = page()
        view.sign_in(proxy.url, daemon.api.token)
        view.goto(f"{proxy.url}#/captures/{live['id']}")
        view.until("packets come", "/[1-9][\\d,]* shown/.test(document.querySelector('.packet-panel .note')?.textContent)")
        proxy.stop()
        view.seen(".banner >> text=No connection")
        proxy.start()
        view.gone(".banner")
        shown = "Number(document.querySelector('.packet-panel .note')?.textContent?.replace(/,/g, '').match(/\\d+/)?.[0])"
        count = view.js(shown)
        view.until("packets come again", f"{shown} > {count} + 100")
        view.js("document.querySelector('.viewport').scrollTop = 0")
        times = []
        for _ in range(40):
            times += [t for t in view.texts(".viewport .prow:not([hidden]):not(.gap) > :nth-child(2)") if t not in times[-60:]]
            view.press("PageDown") if times else view.do(".viewport", "focus")
            view.do(".viewport", "focus")
        assert len(times) > 100 and times == sorted(set(times))
        assert "connection lost" in " ".join(view.texts(".viewport .gap")) or len(times) > 0
        assert view.count("tbody") == 0
    finally:
        proxy.stop()
    daemon.api.stop(live["id"])


class Proxy:
    """proxy.mjs, at the same port each time."""

    def __init__(self, programs, daemon, prefix="/tools/sluice"):
        self.command = ["node", programs / "proxy.mjs", prefix, str(daemon.http)]
        self.port, self.process, self.prefix = 0, None, prefix
        self.start()
        self.url = f"http://127.0.0.1:{self.port}{prefix}/"

    def start(self):
        self.process = subprocess.Popen([*self.command, str(self.port)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
        self.process = None


def test_behind_a_prefix(daemon, page, programs):
    capture = daemon.api.create(name="far away", limits={"packets": 50}, ports=["tap0"])
    proxy = Proxy(programs, daemon)
    try:
        view = page()
        view.sign_in(proxy.url, daemon.api.token)
        view.seen(".dot.live")
        view.click("nav >> text=Captures")
        view.click("text=far away")
        view.seen(".viewport .prow")
        view.click("button >> text=Notes")
        view.fill("#edit-notes", "written from afar")
        view.click("dialog >> text=Save")
        view.seen(".facts >> text=written from afar")
        assert all(entry["url"].startswith(proxy.url) or entry["url"].startswith("data:") for entry in view.traffic())
    finally:
        proxy.stop()
    daemon.api.delete(capture["id"])


def test_the_first_view_is_small_and_asks_nobody_else(daemon, page):
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.seen(".verdict h2")
    view.until("charts are drawn", "document.querySelectorAll('.uplot canvas').length === 3")
    traffic = view.traffic()
    assert all(entry["url"].startswith((daemon.api.url, "data:")) for entry in traffic), traffic
    assert 60_000 < sum(entry["bytes"] for entry in traffic) < FIRST_VIEW_MAX
    # Loaded again it is not sent again.
    view.on("reload")
    view.seen(".verdict h2")
    assert sum(entry["bytes"] for entry in view.traffic()) < 30_000


def test_smooth_with_ten_captures_and_ten_thousand_packets_a_second(daemon, page):
    ids = [daemon.api.create(name=f"c{n}", ports=["tap0"], limits={"seconds": 600})["id"] for n in range(10)]
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.seen(".verdict h2")
    view.goto(f"{daemon.api.url}/#/captures/{ids[0]}")
    view.until("packets are left out", "/[1-9][\\d,]{4,} skipped/.test(document.querySelector('.packet-panel .note')?.textContent)")
    tasks = view.ask(trace=4000)
    assert len(tasks) > 100 and max(tasks) < 100 * harness.SLOW, sorted(tasks)[-10:]
    view.click("nav >> text=Captures")
    view.until("all are listed", "document.querySelectorAll('.captures tbody tr').length === 10")
    for id in ids:
        daemon.api.delete(id)


def test_twenty_consoles_cost_no_packet(daemon, page):
    live = daemon.api.create(name="watched", ports=["tap0"])
    headers = (f"Authorization: Bearer {daemon.api.token}",)
    sockets = []
    views = [page() for _ in range(2)]
    try:
        for view in views:
            view.sign_in(daemon.api.url + "/", daemon.api.token)
            view.goto(f"{daemon.api.url}/#/captures/{live['id']}")
        for _ in range(18):
            socket = Socket(daemon.http, "/api/v1/stream", headers)
            socket.ask(subscribe="status")
            socket.ask(subscribe="capture", id=live["id"], format="raw", rate=200, bytes=1024)
            sockets.append(socket)
        end = time.monotonic() + 3
        for socket in itertools.cycle(sockets):
            socket.read()
            if time.monotonic() > end:
                break
    finally:
        for socket in sockets:
            socket.__exit__()
    daemon.api.stop(live["id"])
    capture, _ = daemon.settled(live["id"], readers=False)
    assert sum(capture["ledger"]["dropped"].values()) == 0
    assert capture["ledger"]["accepted"] > 20000
    counters = daemon.api.counters("tap0")
    assert counters["nic_missed"] == counters["nic_nombuf"] == 0
    daemon.api.delete(live["id"])


LOOKS = [
    ("light", {"width": 1440, "height": 900}),
    ("dark", {"width": 1440, "height": 900}),
    ("phone", {"width": 390, "height": 844}),
    ("wide", {"width": 2200, "height": 1200}),
]


@pytest.mark.parametrize("look,size", LOOKS)
def test_looks(daemon, page, shots, look, size):
    """Pictures for people; what can be judged by a program: nothing is wider than the window."""
    live = daemon.api.create(name="web and names", filter="tcp or udp port 53", sampling={"mode": "flow", "n": 4},
                             limits={"seconds": 600, "bytes": 10**9}, notes="after the change at switch 7")
    view = page(viewport=size, colorScheme="dark" if look == "dark" else "light")
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    for name, hash, ready in (
        ("overview", "#/", "document.querySelector('.chart b')?.textContent.includes('pps')"),
        ("captures", "#/captures", "/pps/.test(document.querySelector('tbody')?.textContent)"),
        ("capture", f"#/captures/{live['id']}", "document.querySelectorAll('.viewport .prow:not([hidden])').length > 10"),
    ):
        view.goto(f"{daemon.api.url}/{hash}")
        view.until(f"{name} is filled", ready)
        assert view.js("document.documentElement.scrollWidth - innerWidth") <= 0, name
        view.screenshot(shots / f"{look}-{name}.png", fullPage=True)
    daemon.api.delete(live["id"])
