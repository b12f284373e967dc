# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A WebSocket client, RFC 6455, with nothing hidden: it answers pings when it is asked to read, and
reads only when it is asked to."""
import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(AssertionError):
    def __init__(self, status, head):
        super().__init__(head)
        self.status, self.head = status, head


class Closed(AssertionError):
    def __init__(self, code, reason=""):
        super().__init__(f"closed {code} {reason}")
        self.code, self.reason = code, reason


class Socket:
    def __init__(self, port, path, headers=(), timeout=30, receive_buffer=None,
                 tls=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.buffer = bytearray()
        self.timeout = timeout
        key = base64.b64encode(os.urandom(16))
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 f"Sec-WebSocket-Key: {key.decode()}", *headers]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        while b"\r\n\r\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise Closed(None, "in the handshake")
            self.buffer += data
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.head, self.buffer = head.decode(), bytearray(rest)
        status = int(self.head.split()[1])
        if status != 101:
            raise Refused(status, self.head)
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        assert f"Sec-WebSocket-Accept: {accept}" in self.head

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def send(self, data, opcode=TEXT):
        data = data.encode() if isinstance(data, str) else data
        mask = os.urandom(4)
        head = bytes([0x80 | opcode])
        if len(data) < 126:
            head += bytes([0x80 | len(data)])
        else:
            head += bytes([0x80 | 126]) + struct.pack("!H", len(data))
        body = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        self.socket.sendall(head + mask + body)

    def _ready(self, seconds):
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        return select.select([self.socket], [], [], seconds)[0]

    def _take(self, n, deadline):
        while len(self.buffer) < n:
            left = deadline - time.monotonic()
            if left <= 0 or not self._ready(left):
                raise TimeoutError
            data = self.socket.recv(1 << 16)
            if not data:
                raise Closed(None, "without a word")
            self.buffer += data

    def frame(self, seconds=None):
        deadline = time.monotonic() + (seconds if seconds is not None else self.timeout)
        self._take(2, deadline)
        first, length = self.buffer[0], self.buffer[1]
        assert first & 0x70 == 0 and length & 0x80 == 0, "reserved bits, or a masked server"
        at = 2
        if length == 126:
            self._take(4, deadline)
            length, at = struct.unpack("!H", self.buffer[2:4])[0], 4
        elif length == 127:
            self._take(10, deadline)
            length, at = struct.unpack("!Q", self.buffer[2:10])[0], 10
        self._take(at + length, deadline)
        data = bytes(self.buffer[at:at + length])
        del self.buffer[:at + length]
        return first & 15, data

    def read(self, seconds=None):
        """The next message; pings are answered on the way."""
        while True:
            opcode, data = self.frame(seconds)
            if opcode == PING:
                self.send(data, PONG)
            elif opcode == CLOSE:
                raise Closed(struct.unpack("!H", data[:2])[0], data[2:].decode())
            elif opcode != PONG:
                return data.decode() if opcode == TEXT else data

    def ask(self, **message):
        self.send(json.dumps(message))

    def event(self, *kinds, seconds=None):
        """The next message that is one of these events, as JSON."""
        while True:
            message = json.loads(self.read(seconds))
            if not kinds or message["event"] in kinds:
                return message
