# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""kill -9 and power cuts at random moments: every durable packet is there, nothing else is, and the books
say what is known. A few of each, by one fixed and one random seed, which is printed; scripts/soak kill N and
scripts/soak powercut N do many."""
import random

import pytest

import crash
import powercut

SEED = 20261121


@pytest.mark.parametrize("queues", [1, 2])
def test_kill_at_any_moment(sluiced, dir, two_cpus, queues):
    daemon = sluiced(crash.ports(dir, queues), engine=crash.engine(queues))
    daemon.allow("recover", "merge")
    for seed in crash.seeds(SEED + queues):
        print(f"seed {seed}")
        dice = random.Random(seed)
        for _ in range(5):
            crash.kill_once(daemon, dice)


@pytest.mark.parametrize("queues", [1, 2])
def test_power_cut_at_any_moment(sluiced, dir, two_cpus, belongings, queues):
    if (reason := powercut.able()) is not None:
        pytest.skip(reason)
    disk = belongings.enter_context(powercut.PowerCut(256 << 20))
    disk.format()
    disk.mount()
    daemon = crash.cut_daemon(sluiced, disk, dir, queues)
    for seed in crash.seeds(SEED + queues):
        print(f"seed {seed}")
        dice = random.Random(seed)
        for _ in range(3 if queues == 1 else 2):
            crash.cut_once(disk, daemon, dice)
