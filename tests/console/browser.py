# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A browser for tests: browser.mjs, which drives Debian's Chromium by playwright-core, as an object."""
import json
import os
import re
import shutil
import subprocess

import pytest

import harness

HERE = harness.SOURCE / "tests" / "console"
NODE_LEAST = 18
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_NETWORK = r"ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|ECONNRESET|ENETUNREACH"


def expected(line):
    """What a browser says of refusals and of a daemon that is away: the page says it, too."""
    return re.search(r"the server responded with a status of 4\d\d|ERR_CONNECTION_(REFUSED|RESET)|WebSocket connection to", line)


def npm_packages(place):
    """A copy of this folder's programs with their npm packages, or a skip that says why."""
    node = shutil.which("node") and shutil.which("npm")
    major = int(re.match(r"v(\d+)", harness.run("node", "--version").stdout)[1]) if node else 0
    if major < NODE_LEAST:
        pytest.skip(f"needs npm and node {NODE_LEAST} or newer, there is {major or 'none'}")
    place.mkdir()
    for name in ("browser.mjs", "proxy.mjs", "package.json", "package-lock.json"):
        shutil.copy(HERE / name, place / name)
    done = harness.run(
        "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=place, check=False, timeout=120
    )
    if done.returncode != 0:
        assert re.search(_NETWORK, done.stderr), done.stderr
        pytest.skip("npm registry not reachable")
    return place


class Failed(AssertionError):
    """The browser could not do what it was asked."""


class Browser:
    def __init__(self, place):
        if not os.access(CHROMIUM, os.X_OK):
            pytest.skip(f"needs {CHROMIUM} (Debian's package chromium)")
        self.serial = 0
        environment = {**os.environ, "BROWSER_TIMEOUT_MS": str(int(10000 * harness.SLOW))}
        self.process = subprocess.Popen(
            ["node", "browser.mjs"],
            cwd=place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **asked):
        self.serial += 1
        self.process.stdin.write(json.dumps({"id": self.serial, **asked}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the browser ended with {self.process.wait()}")
        said = json.loads(line)
        if "error" in said:
            raise Failed(f"{asked}: {said['error']}")
        return said["result"]

    def page(self, **options):
        """A page of its own, with cookies of its own."""
        return Page(self, f"page{self.serial}", options)

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Page:
    def __init__(self, browser, name, options):
        self.browser, self.name = browser, name
        browser.ask(page=name, make={"locale": "en-US", "viewport": {"width": 1440, "height": 900}, **options})

    def ask(self, **asked):
        return self.browser.ask(page=self.name, **asked)

    def do(self, selector, method, *args):
        """A locator's method; selectors are playwright's: CSS, text=..."""
        return self.ask(selector=selector, method=method, args=list(args))

    def on(self, method, *args):
        return self.ask(method=method, args=list(args))

    def goto(self, url):
        return self.on("goto", url)

    def js(self, expression):
        return self.on("evaluate", expression)

    def click(self, selector):
        return self.do(selector, "click")

    def fill(self, selector, text):
        return self.do(selector, "fill", text)

    def contents(self, selector):
        return self.do(selector, "allTextContents")

    def text(self, selector):
        return self.do(selector, "innerText")

    def texts(self, selector):
        return self.do(selector, "allInnerTexts")

    def count(self, selector):
        return self.do(selector, "count")

    def seen(self, selector, state="visible", timeout=None):
        options = {"state": state, **({"timeout": timeout * 1000 * harness.SLOW} if timeout else {})}
        return self.do(f"{selector} >> nth=0", "waitFor", options)

    def gone(self, selector):
        return self.seen(selector, "hidden")

    def until(self, what, expression, seconds=10):
        return harness.until(what, lambda: self.js(expression), seconds, every=0.1)

    def press(self, key):
        return self.ask(keyboard=True, method="press", args=[key])

    def type(self, text):
        return self.ask(keyboard=True, method="type", args=[text])

    def screenshot(self, path, **options):
        return self.on("screenshot", {"path": str(path), **options})

    def save(self, selector, path):
        """Click, and keep what is downloaded; its suggested name."""
        return self.ask(click=selector, save=str(path))

    def heap(self):
        """Bytes that the page's scripts hold, garbage swept."""
        return self.ask(heap=True)

    def trouble(self):
        return self.ask(trouble=True)

    def traffic(self):
        return self.ask(traffic=True)

    def close(self):
        return self.ask(close=True)

    def sign_in(self, url, token):
        self.goto(url)
        self.fill("#token", token)
        self.click("button >> text=Sign in")
        self.seen(".top")
