# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The file of fault rules (engine/fault.h), and what the daemon says about it."""
import os

import harness


class Faults:
    def __init__(self, path):
        self.path, self.serial = path, 0

    def write(self, *rules):
        """For a daemon that is not running."""
        self.serial += 1
        beside = self.path.with_suffix(".next")
        lines = [f"tag={self.serial}", *rules]
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        os.replace(beside, self.path)

    def set(self, *rules):
        """For a running daemon: returns once these rules are in force."""
        self.write(*rules)
        harness.until("the daemon obeys the new rules", lambda: self._said()[0] == str(self.serial))

    def clear(self):
        self.set()

    def _said(self):
        """(tag, {point: (calls, hits)}, {rule: (calls, hits)})"""
        points, rules, tag = {}, {}, ""
        try:
            text = self.path.with_name(self.path.name + ".count").read_text(encoding="ascii")
        except FileNotFoundError:
            return "", {}, {}
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "tag":
                tag = rest
            elif kind == "point":
                name, calls, hits = rest.split()
                points[name] = int(calls), int(hits)
            else:
                calls, hits, rule = rest.split(" ", 2)
                rules[rule] = int(calls), int(hits)
        return tag, points, rules

    def calls(self, point):
        return self._said()[1].get(point, (0, 0))[0]

    def hits(self, point):
        return self._said()[1].get(point, (0, 0))[1]

    def rule(self, text):
        """(calls, hits) of a rule in force."""
        return self._said()[2].get(text, (0, 0))

    def settled(self, text):
        """(calls, hits) of the only rule in force, with all that has happened by now."""
        self.set(text)
        return self.rule(text)

    def wait_hit(self, point, count=1, seconds=20):
        harness.until(f"{point} was hit", lambda: self.hits(point) >= count, seconds)
