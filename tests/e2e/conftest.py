# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Fixtures. Each leaves the machine as it found it, whatever the test did."""
import contextlib
import itertools
import os
import pathlib
import shutil
import signal

import pytest

import disks
import frames
import harness
import net
import oracle
import rgw
import s3
import slowdisk

LIMIT_SECONDS = 240
_serial = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "sanitize: quick and telling; run again with the sanitizer build"
    )
    config.addinivalue_line("markers", "hugepages: needs 2 MiB pages, reserved and given back")


def pytest_collection_finish(session):
    """What takes its time to come up begins while the tests before it run."""
    if session.config.option.collectonly:
        return
    wanted = any(
        "gateway" in item.fixturenames or "[gateway" in item.name for item in session.items
    )
    if wanted and not rgw.missing():
        session.gateway = rgw.Gateway()
    if any(item.name == "test_official_client" for item in session.items):
        oracle.npm_ahead(harness.SOURCE / "tests" / "e2e" / "cloudflare")


def pytest_sessionfinish(session):
    if hasattr(session, "gateway"):
        session.gateway.close()


@pytest.fixture(autouse=True)
def time_limit():
    """A test that hangs fails instead of holding everything up."""

    def late(*_):
        raise AssertionError(f"test took more than {LIMIT_SECONDS * harness.SLOW:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(int(LIMIT_SECONDS * harness.SLOW))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows its daemons' logs."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for daemon in getattr(item, "daemons", []):
            if daemon.log_path.exists():
                report.sections.append((f"log of {daemon.dir.name}", daemon.log()[-8000:]))


@pytest.fixture
def belongings():
    """What a test has made and must be undone. The daemons depend on it, so they end before it
    goes."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def sluiced(request, belongings):
    """sluiced(ports, **sections) starts a daemon; it is finished, with all checks, after the test."""
    request.node.daemons = daemons = []

    def start(ports, begin=True, preexec=None, **options):
        daemon = harness.Daemon(ports, **options)
        daemons.append(daemon)
        return daemon.start(preexec) if begin else daemon

    yield start
    errors = []
    for daemon in reversed(daemons):
        try:
            daemon.finish()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def dir(belongings):
    """A directory for a test's own files, with a path short enough for one line of configuration."""
    path = harness.scratch()
    belongings.callback(shutil.rmtree, path, ignore_errors=True)
    return path


@pytest.fixture(scope="module")
def module_dir():
    """The same for a daemon that serves all tests of a file."""
    path = harness.scratch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def wires():
    reason = net.able()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def veth(wires, belongings):
    """veth(mtu=1500, offloads=True) makes a pair."""

    def make(**options):
        return belongings.enter_context(contextlib.closing(net.Veth(**options)))

    return make


@pytest.fixture
def small_disk(dir, belongings):
    """small_disk("ext4" or "tmpfs", bytes) mounts a file system of that size."""

    def make(kind, size):
        if os.geteuid() != 0:
            pytest.skip("needs root to mount")
        place = harness.scratch()
        belongings.callback(shutil.rmtree, place)
        if kind == "tmpfs":
            done = harness.run(
                "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place, check=False
            )
        else:
            image = dir / f"{place.name}.image"
            with open(image, "wb") as f:
                f.truncate(size)
            harness.run("mkfs.ext4", "-q", "-m", "0", image)
            done = harness.run("mount", "-o", "loop", image, place, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount {kind}: {done.stderr.strip()}")
        belongings.callback(harness.run, "umount", place)
        return place

    return make


@pytest.fixture
def disk(belongings):
    """disk(disks.FaultyDisk, 256 << 20, ...) is one that fails on request; gone after the daemons."""

    def make(kind, *args, **options):
        programs = ["nbdkit", "nbdfuse", "fusermount3"] if kind is disks.FaultyDisk else []
        reason = disks.able(*programs)
        if reason:
            pytest.skip(reason)
        return belongings.enter_context(kind(*args, **options))

    return make


@pytest.fixture
def slow_disk(belongings):
    """slow_disk(bytes a second) is what a daemon calls before it starts (preexec)."""

    def make(rate):
        try:
            disk = slowdisk.SlowDisk(os.environ.get("SLUICE_TEST_DIR", "/var/tmp"), rate)
        except OSError as error:
            pytest.skip(f"the disk cannot be throttled here: {error}")
        belongings.callback(disk.close)
        return disk.join

    return make


@pytest.fixture
def hugepages(belongings):
    """512 pages of 2 MiB, given back afterwards."""
    control = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    wanted = 512
    if not control.exists() or not os.access(control, os.W_OK):
        pytest.skip("hugepages: cannot be reserved here")
    before = int(control.read_text(encoding="ascii"))
    belongings.callback(control.write_text, str(before), encoding="ascii")
    control.write_text(str(before + wanted), encoding="ascii")
    if int(control.read_text(encoding="ascii")) < before + wanted:
        pytest.skip("hugepages: not enough free memory in one piece")
    return wanted


@pytest.fixture(scope="session")
def corpus():
    """100,000 mixed frames, and the file that holds them."""
    made = frames.mixed(100_000)
    path = harness.scratch()
    yield frames.write_pcap(path / "mixed.pcap", made), made
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def gateway(request):
    """A Ceph RADOS Gateway, one for all tests of a run."""
    if rgw.missing():
        pytest.skip(f"no Ceph here: {', '.join(rgw.missing())}")
    return request.session.gateway.wait()


@pytest.fixture
def bucket(gateway):
    """A new bucket of the gateway, seen from outside (s3.Client)."""
    bucket = s3.Client(
        "127.0.0.1", gateway.port, f"caps-{next(_serial)}", gateway.key, gateway.secret
    )
    bucket.make()
    yield bucket
    bucket.empty()


@pytest.fixture(scope="session")
def two_cpus():
    if len(harness.CPUS) < 2:
        pytest.skip("needs two CPUs")
