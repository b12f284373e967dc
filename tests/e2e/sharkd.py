# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Files read by Wireshark's engine, started once: tshark takes longer to begin than to read most files.

What is in the frames is left alone, which is most of the work; who wants to know asks tshark.
https://wiki.wireshark.org/Development/sharkd: a request a line, an answer a line; what it has to say of a file it
says in words beside them.
"""
import atexit
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading

_IDLE_WORDS = re.compile(r"Hello in child\.|load: filename=|Running as user \"root\"|$")


class Sharkd:
    def __init__(self):
        self.process, self.settings, self.serial = None, None, 0

    def lengths(self, path, seconds):
        """Original lengths of all packets of the file at path; AssertionError with its words if it has any."""
        self._start()
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        try:
            loaded = self._ask("load", file=str(path))
            frames = self._ask("frames", column0="frame.len:1")
            words, answers = self._answers(frames)
        finally:
            watchdog.cancel()
        if words or answers.get(loaded, {}).get("result") != {"status": "OK"}:
            self.stop()
            raise AssertionError(f"sharkd complains of {path}: {words} {answers.get(loaded)}")
        return [int(row["c"][0]) for row in answers[frames]["result"]]

    def _start(self):
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.settings = tempfile.TemporaryDirectory()
            (pathlib.Path(self.settings.name) / "disabled_protos").write_text("eth\n", "ascii")
            self.process = subprocess.Popen(
                ["sharkd", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "WIRESHARK_CONFIG_DIR": self.settings.name},
            )

    def _ask(self, method, **params):
        self.serial += 1
        request = {"jsonrpc": "2.0", "id": self.serial, "method": method, "params": params}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.serial

    def _answers(self, last):
        """What it says until request last is answered, or until it ends: words, and {id: answer}."""
        words, answers = [], {}
        while last not in answers:
            line = self.process.stdout.readline()
            if line.startswith("{"):
                answer = json.loads(line)
                answers[answer["id"]] = answer
            elif line == "":
                words.append("it has ended")
                break
            elif not _IDLE_WORDS.match(line):
                words.append(line.strip())
        return words, answers

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.settings.cleanup()
        self.process = None


SHARKD = Sharkd()
atexit.register(SHARKD.stop)
