# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The fault points themselves: what a rule may be, that it comes and goes in a running daemon, and that
what happened is told."""
import os

import pytest

import frames
import harness

FRAMES = [frames.numbered(1, i, 100) for i in range(1000)]


@pytest.fixture
def source(dir):
    return frames.write_pcap(dir / "numbered.pcap", FRAMES)


@pytest.mark.parametrize(
    "line, says",
    [
        ("opn: once -> EIO", 'there is no fault point "opn"'),
        ("open once EIO", "name: when -> what"),
        ("open: twice -> EIO", "nth=N, from=N, every=N"),
        ("open: nth=0 -> EIO", "nth=N, from=N, every=N"),
        ("open: probability=1.5 -> EIO", "probability=P (0 to 1)"),
        ("open: once -> EWHAT", "short=N, delay=MS, stall, abort"),
        ("open: once -> short=3", "no meaning for this point"),
        ("open: once -> delay=-1", "not between 0 and"),
        ("clock_read: always -> offset=x", "offset=S or rate=PPM"),
        ("seed=-1", "seed=N"),
        ("open: once -> EIO" + " " * 200, "longer than"),
    ],
    ids=lambda text: text.strip()[:20],
)
def test_a_wrong_rule_is_refused_at_the_start(belongings, faults, source, line, says):
    daemon = harness.Daemon({"tap0": harness.replay(source)})
    belongings.callback(daemon.discard)
    faults.write("open: nth=1000000 -> EIO  # fine", line)
    done = harness.run(
        harness.SLUICED,
        "--config",
        daemon.config,
        check=False,
        env={**os.environ, "SLUICE_FAULTS": str(faults.path)},
    )
    assert done.returncode == 2
    assert "SLUICE_FAULTS line 3" in done.stderr and says in done.stderr, done.stderr


def test_rules_come_and_go_while_the_daemon_runs(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source)})
    assert "this sluiced has fault points" in daemon.log()
    daemon.allow("cannot make the capture's files", "line 2: there is no fault point")
    faults.set("open: always -> EMFILE")
    with pytest.raises(harness.Refused) as refused:
        daemon.api.create(ports=["tap0"])
    assert "Too many open files" in refused.value.answer.json()["detail"]
    faults.wait_hit("open")
    faults.write("opne: always -> EIO")
    harness.until("the daemon complains", lambda: '"opne"' in daemon.log())
    with pytest.raises(harness.Refused):
        daemon.api.create(ports=["tap0"])
    faults.clear()
    id = daemon.api.create(ports=["tap0"])["id"]
    daemon.api.wait_offered(id, len(FRAMES))
    daemon.api.stop(id)
    capture, _ = daemon.settled(id)
    assert capture["ledger"]["written"] == len(FRAMES)


def test_a_rule_counts_on_beside_others(faulty, faults, source):
    """The disk is asked for its free space by and by."""
    daemon = faulty({"tap0": harness.replay(source)})
    rule = "statvfs: nth=1000000 -> EIO"
    faults.set(rule)
    harness.until("the rule has counted", lambda: faults.rule(rule)[0] >= 2)
    before = faults.rule(rule)[0]
    faults.set("seed=7", rule, "statvfs: probability=1 -> delay=1")
    assert faults.rule(rule)[0] >= before
    faults.wait_hit("statvfs")
    assert daemon.api.captures()["captures"] == []


def test_a_stall_lasts_as_long_as_its_rule(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source)})
    daemon.allow("the storage does not answer")
    faults.set("fsync: always -> stall")
    with pytest.raises(TimeoutError):
        daemon.api.request("POST", "/api/v1/captures", {"ports": ["tap0"]}, timeout=0.7)
    faults.wait_hit("fsync")
    assert daemon.api.captures()["captures"][0]["state"] == "starting"
    faults.clear()
    id = daemon.api.captures()["captures"][0]["id"]
    daemon.api.wait_offered(id, len(FRAMES))
    daemon.api.stop(id)
    daemon.settled(id)


def test_abort_is_a_kill(faulty, faults, source):
    daemon = faulty({"tap0": harness.replay(source)})
    faults.set("dir_fsync: once -> abort")
    with pytest.raises(OSError):
        daemon.api.create(ports=["tap0"])
    assert daemon.process.wait(10) == -9
