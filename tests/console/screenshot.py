# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""screenshot.py FILE: a capture with live packets, as the README shows it (scripts/screenshot)."""
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE)]

import browser as browsers  # noqa: E402
import frames  # noqa: E402
import harness  # noqa: E402


def conversation(count, seed=7):
    """What a small office looks like: web, names, a ping now and then."""
    dice = random.Random(seed)
    for n in range(count):
        host, far = 0x0A000000 | dice.choice((0x0114, 0x0117, 0x0120, 0x0233)), 0xC6336400 | dice.randrange(20)
        kind = dice.random()
        if kind < 0.7:
            data = b"\x17\x03\x03" + dice.randbytes(dice.choice((61, 300, 1200, 1440)))
            yield frames._ether(n, 0x0800) + frames.ipv4(6, far, host, frames.tcp(443, 50000 + host % 97, n * 1448, 24, data))
        elif kind < 0.9:
            yield frames._ether(n, 0x0800) + frames.ipv4(6, host, far, frames.tcp(50000 + host % 97, 443, n, 16, b"")) + bytes(6)
        elif kind < 0.97:
            yield frames._ether(n, 0x0800) + frames.ipv4(17, host, 0x0A000001, frames.udp(40000 + n % 999, 53, dice.randbytes(30)))
        else:
            yield frames._ether(n, 0x0800) + frames.ipv4(1, host, far, frames.icmp(8, dice.randbytes(56)))


def main():
    place = harness.scratch("sluice-screenshot-")
    source = frames.write_pcap(place / "in.pcap", list(conversation(4000)))
    browser = browsers.Browser(browsers.npm_packages(place / "programs"))
    port = harness.replay(source, infinite=True, rate=12000)
    try:
        with harness.Daemon({"tap0": port}) as daemon:
            live = daemon.api.create(name="TLS to the new gateway", filter="tcp port 443", limits={"seconds": 300})
            view = browser.page(viewport={"width": 1280, "height": 880})
            view.sign_in(daemon.api.url + "/", daemon.api.token)
            view.goto(f"{daemon.api.url}/#/captures/{live['id']}")
            time.sleep(30)
            view.screenshot(pathlib.Path(sys.argv[1]).resolve())
            daemon.api.stop(live["id"])
    finally:
        browser.close()
        harness.run("rm", "-rf", place)


main()
