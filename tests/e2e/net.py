# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Wires: veth pairs and network namespaces with names of their own, and programs that send on
them."""
import itertools
import os
import re
import socket
import time

from harness import SLOW, run

_serial = itertools.count()
ETH_P_ALL = 3
SO_BUSY = 0.0005


def able():
    """None, or why this machine lets us make no wires."""
    if os.geteuid() != 0:
        return "needs root for network interfaces"
    name = f"sl{os.getpid() % 46656:x}p"
    done = run("ip", "link", "add", name, "type", "veth", "peer", "name", name + "q", check=False)
    if done.returncode != 0:
        return f"no veth here: {done.stderr.strip()}"
    run("ip", "link", "del", name)
    return None


class Veth:
    """A pair: frames sent on .far arrive on .tap. Nothing else is on the wire: no addresses, no
    IPv6."""

    def __init__(self, mtu=1500, offloads=True):
        stem = f"sl{os.getpid() % 46656:x}n{next(_serial)}"
        self.tap, self.far = stem + "t", stem + "f"
        self.namespace = None
        run("ip", "link", "add", self.tap, "type", "veth", "peer", "name", self.far)
        try:
            for end in (self.tap, self.far):
                self._silence(end)
                run("ip", "link", "set", end, "mtu", mtu, "arp", "off", "up")
                if not offloads:
                    run("ethtool", "-K", end, "gso", "off", "gro", "off", "tso", "off", "tx", "off")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _silence(end):
        path = f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6"
        if os.path.exists(path):
            with open(path, "w", encoding="ascii") as f:
                f.write("1")

    def close(self):
        run("ip", "link", "del", self.tap, check=False)
        if self.namespace:
            run("ip", "netns", "del", self.namespace, check=False)

    def into_namespace(self, tap_address, far_address):
        """Move the far end into a namespace and give both ends addresses, for real programs to
        talk."""
        self.namespace = self.far + "ns"
        inside = ("ip", "netns", "exec", self.namespace)
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "set", self.far, "netns", self.namespace)
        run(*inside, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{self.far}/disable_ipv6")
        run(*inside, "ip", "link", "set", "lo", "up")
        run(*inside, "ip", "link", "set", self.far, "arp", "on", "up")
        run(*inside, "ip", "addr", "add", far_address, "dev", self.far)
        run("ip", "link", "set", self.tap, "arp", "on")
        run("ip", "addr", "add", tap_address, "dev", self.tap)
        return inside

    def arrived(self):
        """The kernel's own count of frames that reached the tap end."""
        with open(f"/sys/class/net/{self.tap}/statistics/rx_packets", encoding="ascii") as f:
            return int(f.read())


class Sender:
    """Frames from memory through a packet socket. send() returns how many the kernel took."""

    def __init__(self, interface):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.bind((interface, 0))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def send(self, frames, pps=None):
        send, begin = self.socket.send, time.monotonic()
        count = 0
        for frame in frames:
            if pps and count % 32 == 0:
                ahead = begin + count / pps - time.monotonic()
                if ahead > 0.001:
                    time.sleep(ahead)
            while True:
                try:
                    send(frame)
                    break
                except OSError as error:
                    if error.errno != 105:  # ENOBUFS: the queue is full for a moment
                        raise
                    time.sleep(SO_BUSY)
            count += 1
        return count


def tcpreplay(interface, path, pps=None):
    """Send a pcap file; the number of frames that tcpreplay says it sent."""
    speed = ["--topspeed"] if pps is None else [f"--pps={pps}"]
    done = run("tcpreplay", "--preload-pcap", *speed, "-i", interface, path, timeout=120)
    assert re.search(r"Failed packets:\s+0\b", done.stdout), done.stdout
    return int(re.search(r"Successful packets:\s+(\d+)", done.stdout)[1])


def trafgen(interface, count, size=64):
    """count frames as fast as the kernel takes them."""
    body = f"{{ fill(0x02, 12), 0x88, 0xb5, fill(0x5a, {size - 14}) }}"
    run(
        "trafgen",
        "--dev",
        interface,
        "--conf",
        "-",
        "--num",
        count,
        "--cpus",
        1,
        "--no-sock-mem",
        input=body,
        timeout=60 * SLOW,
    )
    return count
