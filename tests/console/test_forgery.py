# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A page of another port of our own host, in the browser of somebody who has signed in: SameSite=Strict gives
it the cookie, so what it asks for must be refused for where it comes from."""
import http.server
import json
import threading

import pytest

import harness

# Requests that a page may send anywhere without being asked about it first.
PAGE = b"""<!doctype html><meta charset="utf-8"><title>evil</title><link rel="icon" href="data:,">
<form id="form" method="post" enctype="text/plain"><input name='{"name":"forged","a":"' value='"}'></form>
<script>
const types = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
const forge = (url, method, type, body) =>
  fetch(url, {method, mode: "no-cors", credentials: "include", headers: {"Content-Type": type}, body})
    .then((answer) => answer.type, () => "failed");
const all = (base, id) => Promise.all(types.flatMap((type) => [
  forge(base + "/api/v1/captures", "POST", type, '{"name":"forged"}'),
  forge(base + `/api/v1/captures/${id}/stop`, "POST", type, "{}"),
  forge(base + "/api/v1/tokens", "POST", type, '{"name":"forged","role":"admin"}'),
])).then((answers) => answers.join(" "));
const socket = (base) => new Promise((done) => {
  const made = new WebSocket(base.replace("http", "ws") + "/api/v1/stream", ["sluice.v1"]);
  made.onopen = () => done("open");
  made.onerror = () => done("refused");
});
</script>"""


class Evil(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


@pytest.fixture
def evil():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_page_of_another_port_forges_nothing(sluiced, page, evil):
    daemon = sluiced({"tap0": {"device": "net_null0,size=64", "rate": 1000}})
    view = page()
    view.sign_in(daemon.api.url, daemon.api.token)
    running = daemon.api.create(name="mine", output={"type": "none"})["id"]
    before = len(daemon.api.captures()["captures"])

    view.goto(evil)
    base = json.dumps(daemon.api.url)
    assert set(view.js(f"all({base}, '{running}')").split()) == {"opaque"}
    assert view.js(f"socket({base})") == "refused"
    view.js(f"form.action = {base} + '/api/v1/captures', form.submit()")
    view.seen("text=a page of another site may not use this sign-in")

    captures = daemon.api.captures()["captures"]
    assert len(captures) == before and not [c for c in captures if c["name"] == "forged"]
    assert daemon.api.capture(running)["state"] == "running"
    names = [token["name"] for token in daemon.api.ask("GET", "/api/v1/tokens")["tokens"]]
    assert "forged" not in names
    # They came with the cookie: it was where they came from that they were refused for.
    refused = lambda: [
        line
        for line in (daemon.root / "audit.log").read_text(encoding="ascii").splitlines()
        if json.loads(line)["event"] == "refused" and json.loads(line)["status"] == 403
    ]
    harness.until("the refusals are in the audit log", lambda: len(refused()) >= 5)
    view.goto(daemon.api.url + "/")
    assert view.js("fetch('api/v1/session').then((answer) => answer.status)") == 200
    daemon.api.delete(running)
