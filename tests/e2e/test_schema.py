# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Valid and nearly valid requests of every operation and dialect (schema.py): always the same ones, and others
each time, whose seed is printed. The long form is `scripts/soak schema N`."""
import random

import pytest

import frames
import schema
from harness import replay


@pytest.mark.parametrize("seed,count", [(1, 400), (None, 200)])
def test_requests_by_schema(sluiced, dir, seed, count):
    path = frames.write_pcap(dir / "s.pcap", [frames.numbered(1, n, 70 + n % 400) for n in range(500)])
    daemon = sluiced({"tap0": replay(path, infinite=True, rate=10_000)}, **schema.SECTIONS)
    seed = seed or random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    driver = schema.Driver(daemon, seed)
    driver.run(count)
    assert driver.counts["native 2xx"] and driver.counts["native 4xx"], driver.counts
    driver.settle(readers=1)
