# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The web console in Debian's Chromium, with the real daemon behind it."""
import filecmp
import itertools
import re
import subprocess
import time
from urllib.parse import urlsplit

import pytest

import fake_s3
import frames
import harness
import scrolling
import uploads
from harness import replay
from websocket import Socket

NASTY = '<img src=x onerror="document.title=\'owned\'"><script>alert(1)</script>\'"&lt;'
FIRST_VIEW_MAX = 100_000
PLAIN_MAX = 200_000
MILLIONS = 2_000_000


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

    view.fill("#packet-words", "no-such-word")
    view.seen(".nothing >> text=No packet is like that")

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


def test_what_the_form_can_ask_for(sluiced, page, dir):
    """Each output and limit: wrong ones are caught at their field, before or by the daemon; right ones get there."""
    path = frames.write_pcap(dir / "in.pcap", [frames.numbered(1, n) for n in range(2000)])
    with fake_s3.FakeS3() as fake:
        daemon = sluiced(
            {"tap0": replay(path, infinite=True, rate=2000)},
            stream={"allow": "127.0.0.1/32"},
            **{"bucket caps": fake.client().section(dir, prefix="host7")},
        )
        view = page()
        view.sign_in(daemon.api.url + "/", daemon.api.token)
        view.click("text=Start a capture")

        def refused(field, value, words):
            view.fill(f"#start-{field}", value)
            view.click("dialog >> button >> text=Start")
            view.seen(f"#start-{field}-error >> text={words}")
            assert view.js("document.activeElement.id") == f"start-{field}"
            assert view.do(f"#start-{field}", "getAttribute", "aria-invalid") == "true"
            view.fill(f"#start-{field}", "")

        for field, value, words in (
            ("name", "n" * 256, "256 bytes are too long"),
            ("limits-seconds", "soon", '"soon" is no number'),
            ("limits-seconds", "11000 d", "too much: at most 315,360,000"),
            ("limits-packets", "0.5", '"0.5" is no number'),
            ("limits-bytes", "1e9", '"1e9" is no number'),
            ("limits-file_bytes", "9e", '"9e" is no number'),
            ("snaplen", "300000", "out of range: 1 to 262144"),
            ("sampling-rate_pps", "9999T", "too much"),
            ("notes", "n" * 4096, "4096 bytes are too long"),
        ):
            refused(field, value, words)
        view.do("#start-sampling-mode", "selectOption", "every")
        refused("sampling-n", "0", "1 to 4294967295")
        view.do("#start-sampling-mode", "selectOption", "none")
        view.click("summary >> text=How much is expected")
        refused("expected-bytes_per_second", "lots", '"lots" is no number')
        view.do("#start-direction", "selectOption", "in")
        view.click("dialog >> button >> text=Start")
        view.seen("#start-direction-error >> text=does not tell which way packets go")
        view.do("#start-direction", "selectOption", "both")
        view.do("#start-port-tap0", "uncheck")
        view.seen("#start-ports-error >> text=At least one port")
        view.do("#start-port-tap0", "check")
        view.do("#start-output-type", "selectOption", "stream")
        refused("output-address", "nowhere", '"nowhere" is no address')
        refused("output-address", "10.9.8.7", "stream")
        view.fill("#start-output-address", "127.0.0.1")
        refused("output-port", "70000", "at most 65,535")
        view.do("#start-output-type", "selectOption", "s3")
        assert view.texts("#start-output-bucket option") == ["caps (caps/host7)"]
        refused("output-prefix", "a//b", '"a//b" is no prefix')
        assert daemon.api.captures()["captures"] == []

        daemon.allow("is not uploaded yet")
        fake.rule("put", times=None, status=503)
        view.fill("#start-output-prefix", "evidence/case 17")
        view.fill("#start-limits-packets", "300")
        view.fill("#start-sampling-rate_pps", "1k")
        view.click("dialog >> button >> text=Start")
        view.seen(".pill.uploading")
        id = view.js("location.hash").split("/")[-1]
        key = f"host7/evidence/case 17/{id}.pcapng"
        view.seen(f".facts >> text=s3://caps/{key}")
        view.seen(".facts >> text=/tried \\d+ times, again at/")
        view.seen(".facts >> text=at most 1,000 a second")
        view.seen(".viewport .prow")  # the file is here meanwhile
        view.seen("button >> text=/^Download$/")
        fake.heal()
        view.seen(".facts >> text=verified there", timeout=20)
        assert fake.objects[key].data == uploads.capture_path(daemon, id).read_bytes()


def test_losses_are_seen_by_reason_and_over_time(sluiced, page, dir):
    path = frames.write_pcap(dir / "in.pcap", [frames.numbered(1, n) for n in range(2000)])
    daemon = sluiced({"tap0": replay(path, infinite=True, rate=2000)}, stream={"allow": "127.0.0.1/32", "rate": 500})
    output = {"type": "stream", "address": "127.0.0.1"}
    id = daemon.api.create(name="too much for it", output=output, limits={"seconds": 600})["id"]
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.seen(".verdict.bad >> text=Packets are being lost")
    assert re.search(r"receiver too slow \([\d.]+ k?pps\)", view.text(".verdict p"))
    view.seen(".chart:has-text('Lost') .key:has-text('receiver too slow') >> text=/[1-9].* k?pps/")
    row = ".panel:has-text('Drops by reason') tbody tr:has-text('receiver too slow')"
    view.seen(f"{row} >> text=/[1-9][\\d.]* k?pps/")
    # What is drawn stays while one looks at something else.
    length = "import('./console/store.js').then(({{ store }}) => store.{}.time.length)"
    view.until("some seconds are known", f"{length.format('history')}.then((n) => n >= 3)")
    view.goto(f"{daemon.api.url}/#/captures/{id}")
    view.seen(".chart:has-text('Dropped') .key:has-text('receiver too slow')")
    known = view.js(length.format(f"histories.get('{id}')"))
    assert known >= 3
    view.click("nav >> text=Overview")
    view.seen(".chart:has-text('Lost') .key:has-text('receiver too slow') >> text=/[1-9].* k?pps/")
    assert view.js(length.format("history")) >= known
    daemon.api.stop(id)
    capture = daemon.api.wait_closed(id)
    view.seen(".verdict.good", timeout=20)
    lost = capture["ledger"]["dropped"]["stream_backpressure"]
    assert number(view.text(f"{row} td.bad")) == lost == daemon.api.status()["dropped"]["stream_backpressure"] > 0


def test_the_same_numbers_everywhere(sluiced, page, dir):
    """At rest: console, API, metrics and file."""
    path = frames.write_pcap(dir / "in.pcap", frames.mixed(3000, longest=1514))
    daemon = sluiced({"tap0": replay(path)})
    id = daemon.api.create(filter="udp", sampling={"mode": "every", "n": 2}, snaplen=200)["id"]
    daemon.api.wait_offered(id, 3000)
    daemon.api.stop(id)
    capture, file = daemon.settled(id)
    daemon.settle_ports()
    ledger, counters = capture["ledger"], daemon.api.counters()
    metrics = daemon.api.request("GET", "/metrics").body.decode()
    stored = uploads.capture_path(daemon, id)

    def metric(name):
        return int(re.search(rf"^{re.escape(name)} (\d+)$", metrics, re.M)[1])

    for name in ("offered", "filtered", "sampled_out", "over_limit", "accepted", "written"):
        assert metric(f"sluice_capture_{name}_packets_total") == ledger[name], name
    dropped = {reason: metric(f'sluice_capture_dropped_packets_total{{reason="{reason}"}}') for reason in ledger["dropped"]}
    assert dropped == ledger["dropped"] == daemon.api.status()["dropped"]
    assert harness.capinfos_count(stored) == len(file) == ledger["written"] == ledger["durable"] > 0
    assert stored.stat().st_size == capture["size_bytes"]
    assert metric("sluice_capture_written_bytes_total") == sum(map(len, file.frames()))
    assert metric('sluice_port_offered_packets_total{port="tap0"}') == counters["offered"]

    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.seen("tbody >> text=tap0")
    cells = view.texts(".panel:has-text('Ports') tbody td.n")
    assert number(cells[2]) == counters["offered"]
    assert number(cells[3]) == sum(counters[name] for name in ("nic_missed", "nic_errors", "nic_nombuf"))
    view.seen("text=No packet was lost since the daemon was started")
    view.click("nav >> text=Captures")
    view.seen("tbody tr")
    assert number(view.text("td[data-label=Packets]")) == ledger["written"]
    assert number(view.text("td[data-label=Drops]")) == sum(dropped.values())
    view.click("tbody a")
    view.seen(".laws .holds")
    assert view.count(".laws .holds") == 2
    stages = dict(zip(view.contents(".ledger .stage"), map(number, view.contents(".ledger .stage + .number"))))
    assert stages == {"Offered": ledger["offered"], "Accepted": ledger["accepted"], "Written": ledger["written"], "Durable": ledger["durable"]}
    left = {text.split(" ", 1)[1]: number(text.split(" ", 1)[0]) for text in view.contents(".ledger .out")}
    assert left == {name.replace("_", " "): ledger[name] for name in ("filtered", "sampled_out", "over_limit") if ledger[name]}
    view.seen(f".facts >> text=({capture['size_bytes']:,} bytes)")
    view.seen(f".packet-panel .note >> text={ledger['written']:,} packets")


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
        # Every packet in the list at most once, and the break where it was.
        view.click("button >> text=Follow")
        rows = "[...document.querySelectorAll('.viewport .prow:not([hidden])')].map((row) => [Number(row.getAttribute('aria-rowindex')), row.classList.contains('gap'), ...[...row.children].map((cell) => cell.textContent)])"
        view.do(".viewport", "focus")
        view.press("Home")
        seen = {}
        for _ in range(200):
            seen.update({row[0]: row[1:] for row in view.js(rows)})
            if len(seen) > count + 100:
                break
            view.press("PageDown")
        listed = [seen[index] for index in sorted(seen)]
        assert sorted(seen) == list(range(1, len(seen) + 1)) and len(seen) > count + 100
        packets = [(number(row[1]), row[2]) for row in listed if not row[0]]
        assert [n for n, _ in packets] == sorted({n for n, _ in packets})
        assert [stamp for _, stamp in packets] == sorted({stamp for _, stamp in packets})
        breaks = [i for i, row in enumerate(listed) if "connection lost" in row[-1]]
        assert len(breaks) == 1 and 10 < breaks[0] < len(listed) - 10
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
    view.until("charts are drawn", "document.querySelectorAll('.uplot canvas').length === 4")
    traffic = view.traffic()
    assert all(entry["url"].startswith((daemon.api.url, "data:")) for entry in traffic), traffic
    assert 30_000 < sum(entry["bytes"] for entry in traffic) < FIRST_VIEW_MAX
    # So it is for a browser that cannot unpack.
    plain = [daemon.api.request("GET", urlsplit(entry["url"]).path) for entry in traffic if "data:" not in entry["url"]]
    assert all("Content-Encoding" not in answer.headers for answer in plain)
    assert 100_000 < sum(len(answer.body) for answer in plain) < PLAIN_MAX
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


def test_a_list_of_two_million_packets(sluiced, page, dir):
    path = frames.write_pcap(dir / "in.pcap", frames.mixed(2000, longest=120))
    daemon = sluiced({"tap0": replay(path, infinite=True)})
    id = daemon.api.create(limits={"packets": MILLIONS})["id"]
    daemon.api.wait_closed(id)
    stored = uploads.capture_path(daemon, id)
    view = page(timezoneId="UTC")
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    view.goto(f"{daemon.api.url}/#/captures/{id}")
    view.seen(f".packet-panel .note >> text={MILLIONS:,} packets")
    before = view.heap()
    assert scrolling.look_everywhere(view, stored, MILLIONS, dir, count=6) > 200
    assert view.count(".viewport .prow") < 60
    assert view.heap() - before < 20 << 20


LISTS = """import('./console/packets.js').then(async ({ PacketTable }) => {
  const table = new PacketTable(() => {}, () => {});
  document.body.append(table.element);
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const said = {};
  for (const total of [10, 363636, 363637, 10_000_000, 1_000_000_000]) {
    const row = (index) => ({ number: index + 1, time: '2026-01-01T00:00:00.000000000Z', protocol: 'X', length: 60, info: '', src_port: null, dst_port: null });
    table.show({ total, row, need() {}, close() {} }, false);
    const seen = () => {
      const box = table.viewport.getBoundingClientRect();
      const rows = [...table.viewport.querySelectorAll('.prow:not([hidden])')].filter((row) => {
        const own = row.getBoundingClientRect();
        return own.top >= box.top - 0.5 && own.bottom <= box.bottom + 0.5;
      }).map((row) => Number(row.dataset.index));
      return [rows[0], rows.at(-1)];
    };
    const room = table.viewport.scrollHeight - table.viewport.clientHeight;
    const at = [];
    for (const share of [0, 0.25, 0.5, 1]) {
      table.viewport.scrollTop = share * room;
      await frame();
      at.push(seen());
    }
    table.moveTo(total / 3);
    await frame();
    const [here] = seen();
    table.viewport.dispatchEvent(new WheelEvent('wheel', { deltaY: 220, cancelable: true }));
    if (total * 22 <= 8e6) table.viewport.scrollTop += 220;
    await frame();
    said[total] = { at, wheel: seen()[0] - here, height: table.viewport.scrollHeight };
  }
  table.close();
  table.element.remove();
  return said;
})"""


def test_lists_taller_than_a_browser_allows(daemon, page):
    """Each row of a list can be reached, whatever its length: by the bar in proportion, by the wheel in rows."""
    view = page()
    view.sign_in(daemon.api.url + "/", daemon.api.token)
    for total, said in view.js(LISTS).items():
        total = int(total)
        shown = said["at"][0][1] + 1
        assert said["at"][0][0] == 0 and said["at"][3][1] == total - 1, (total, said)
        assert said["height"] < 10_000_000
        if total > shown:
            for share, (first, last) in zip((0.25, 0.5), said["at"][1:3]):
                assert abs(first - share * (total - shown)) <= max(2, total / 4_000_000), (total, said)
                assert last - first in (shown - 2, shown - 1)
            assert said["wheel"] == 10, (total, said)


UNNAMED = re.compile(r"- (button|link|textbox|searchbox|combobox|checkbox|spinbutton|dialog|grid|table|img)\b(?! \")")


def named(view, selector="body"):
    """What a screen reader is told; every control there has a name."""
    tree = view.do(selector, "ariaSnapshot")
    assert not UNNAMED.search(tree), tree
    return tree


def focused(view):
    return view.js("(({ id, textContent, ariaLabel }) => id || ariaLabel || textContent)(document.activeElement)")


def tab_to(view, name, key="Tab"):
    for _ in range(60):
        if focused(view) == name:
            return
        view.press(key)
    raise AssertionError(f"{key} never comes to {name!r}")


def test_by_keyboard_and_screen_reader_alone(daemon, page):
    view = page(reducedMotion="reduce")
    view.goto(daemon.api.url + "/")
    view.until("the field has the focus", "document.activeElement?.id === 'token'")
    named(view)
    view.type(daemon.api.token)
    view.press("Enter")
    view.seen(".verdict h2")
    view.press("Tab")
    assert focused(view) == "To the content"
    tree = named(view)
    assert 'navigation "Pages"' in tree and 'heading "Ports"' in tree and "- status: live" in tree, tree
    tab_to(view, "Captures")
    view.press("Enter")
    view.seen("h1 >> text=Captures")
    assert view.js("document.activeElement.id") == "main"
    tab_to(view, "Start a capture")
    view.press("Enter")
    view.seen("dialog.start")
    assert focused(view) == "start-filter"
    tree = named(view, "dialog.start")
    assert 'group "Until"' in tree and 'textbox "Filter"' in tree
    # A dialog that is left gives the focus back.
    view.press("Escape")
    view.gone("dialog")
    assert focused(view) == "Start a capture"
    view.press("Enter")
    view.type("udp")
    tab_to(view, "start-name")
    view.type("by hand")
    view.press("Enter")
    view.seen("h1 >> text=by hand")
    id = view.js("location.hash").split("/")[-1]
    tree = named(view)
    assert re.search(r'grid "Packets: No\., Time, From', tree) and 'img "Ledger: offered' in tree, tree
    view.seen(".viewport .prow:not([hidden]) >> nth=5")
    tab_to(view, view.js("document.querySelector('.viewport').ariaLabel"))
    view.press("Home")
    view.press("ArrowDown")
    assert view.js("document.getElementById(document.querySelector('.viewport').getAttribute('aria-activedescendant')).ariaRowIndex") == "2"
    view.press("Enter")
    view.seen(".detail >> text=Ethernet")
    tab_to(view, "Close packet")
    named(view, ".detail")
    view.press("Enter")
    view.gone(".detail")
    assert view.js("document.activeElement.className") == "viewport"
    tab_to(view, "Stop", "Shift+Tab")
    view.press("Enter")
    view.seen(".pill.complete")
    assert view.js("document.getElementById('said').textContent") == "by hand is stopped"
    tab_to(view, "Delete")
    view.press("Enter")
    view.seen("dialog.ask")
    assert focused(view) == "Cancel" and 'dialog "Delete this capture?"' in named(view, "dialog.ask")
    tab_to(view, "Delete")
    view.press("Enter")
    view.seen("h1 >> text=Captures")
    assert daemon.api.request("GET", f"/api/v1/captures/{id}").status == 404
    assert view.js("getComputedStyle(document.querySelector('.meter i') ?? document.body).transitionDuration") == "0s"


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


def test_looks(daemon, page, shots):
    """Pictures for people; what can be judged by a program: nothing is wider than the window."""
    live = daemon.api.create(name="web and names", filter="tcp or udp port 53", sampling={"mode": "flow", "n": 4},
                             limits={"seconds": 600, "bytes": 10**9}, notes="after the change at switch 7")
    views = {look: page(viewport=size, colorScheme="dark" if look == "dark" else "light") for look, size in LOOKS}

    def shot(name):
        for look, view in views.items():
            assert view.js("document.documentElement.scrollWidth - innerWidth") <= 0, (look, name)
            view.screenshot(shots / f"{look}-{name}.png", fullPage=True)

    for view in views.values():
        view.goto(daemon.api.url + "/")
        view.fill("#token", "f" * 64)
        view.press("Enter")
        view.seen("#token-error >> text=not the secret")
    shot("signin")
    for view in views.values():
        view.sign_in(daemon.api.url + "/", daemon.api.token)
        view.click("nav >> text=Captures")
        view.click("text=Start a capture")
        view.fill("#start-filter", "tcp and prot 443 or udp")
        view.fill("#start-limits-seconds", "soon")
        view.seen(".expression mark >> text=prot")
    shot("start")
    for view in views.values():
        view.press("Escape")
        view.until("rates are known", "/pps/.test(document.querySelector('tbody')?.textContent)")
    shot("captures")
    for view in views.values():
        view.click("tbody a >> text=web and names")
        view.seen(".viewport .prow:not([hidden]) >> nth=10")
        view.click(".viewport .prow:not(.gap):not([hidden]) >> nth=4")
        view.seen(".detail .hex")
    shot("capture")
    for view in views.values():
        view.click("nav >> text=Overview")
        view.until("there is some history", "import('./console/store.js').then(({ store }) => store.history.time.length >= 3)")
    shot("overview")
    daemon.api.delete(live["id"])
