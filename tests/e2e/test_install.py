# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What an installed Sluice has besides its programs, and the daemon as a service."""
import json
import os
import pathlib
import re
import socket
import subprocess

import pytest

from harness import SLUICED, run, until


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A staged installation."""
    path = tmp_path_factory.mktemp("install")
    build = pathlib.Path(SLUICED).parent
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", path)
    return path


def only(tree, pattern):
    found = list(tree.glob(f"**/{pattern}"))
    assert len(found) == 1, (pattern, found)
    return found[0]


@pytest.mark.parametrize("page", ["sluice.1", "sluiced.8", "sluice.ini.5", "sluice-host.8"])
def test_a_man_page_reads_well(tree, page):
    path = only(tree, page)
    shown = run("man", "--warnings", "--local-file", path, env={**os.environ, "MANWIDTH": "100"})
    assert shown.stderr == ""
    assert "NAME" in shown.stdout and "SEE ALSO" in shown.stdout


def test_the_manual_has_every_option(tree):
    text = only(tree, "sluice.ini.5").read_text(encoding="utf-8").replace("\\", "")
    for line in run(SLUICED, "--help-config").stdout.splitlines():
        if re.match(r"  \w+ =", line):
            assert f".B {line.split()[0]} =" in text


def test_the_installed_configuration_is_good(tree):
    run(only(tree, "sluiced"), "--check", "--config", only(tree, "sluice.ini"))


def test_everything_is_below_the_prefix(tree):
    build = pathlib.Path(SLUICED).parent
    options = json.loads(run("meson", "introspect", "--buildoptions", build).stdout)
    prefix = next(option["value"] for option in options if option["name"] == "prefix")
    files = [f"/{path.relative_to(tree)}" for path in tree.rglob("*") if path.is_file()]
    assert len(files) > 10 and all(file.startswith(f"{prefix}/") for file in files), files
    started = re.search(r"^ExecStart=(.+)$", only(tree, "sluiced.service").read_text(), re.M)[1]
    program, _, config = started.split()
    assert {program, config} <= set(files)


def test_completion_knows_the_commands(tree):
    script = only(tree, "bash-completion/completions/sluice")
    client = only(tree, "bin/sluice")

    def complete(*words):
        shell = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sluice; echo "${COMPREPLY[@]}"'
        return run("bash", "-c", shell, "bash", script, client, *words).stdout.split()

    assert complete("sta") == ["start", "status"]
    assert "--snaplen" in complete("start", "--s")
    assert complete("start", "-Q", "in") == ["in", "inout"]


def test_the_unit_confines_the_daemon(tree, tmp_path):
    unit = tmp_path / "sluiced.service"
    unit.write_text(only(tree, "sluiced.service").read_text().replace("ExecStart=", f"ExecStart={tree}"))
    # 25 is an exposure of 2.5
    run("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", unit)


def test_the_service_manager_is_told(sluiced, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        wrap = ("env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=400000")
        daemon = sluiced({"tap0": {"device": "net_null0,size=64", "rate": 1000}}, wrap=wrap)
        assert manager.recv(64) == b"READY=1"
        for _ in range(5):
            assert manager.recv(64) == b"WATCHDOG=1"
        daemon.process.terminate()
        until("it says that it stops", lambda: manager.recv(64) == b"STOPPING=1", 10)
        assert daemon.process.wait(20) == 0


def test_the_audit_log_is_rotated(tree, tmp_path):
    """By the installed rule, but for its user and its service: the line that was there is kept."""
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    (root / "audit.log").write_text("{}\n", encoding="ascii")
    text = only(tree, "logrotate.d/sluice").read_text(encoding="ascii")
    assert "/var/lib/sluice/audit.log {" in text and "su sluice sluice" in text
    told = tmp_path / "told"
    text = text.replace("/var/lib/sluice", str(root)).replace("su sluice sluice", "su root root")
    rule = tmp_path / "rule"
    rule.write_text(re.sub(r"systemctl kill .*", f"touch {told}", text), encoding="ascii")
    rule.chmod(0o644)
    run("logrotate", "--force", "--state", tmp_path / "state", rule)
    assert told.exists() and not (root / "audit.log").exists()
    assert (root / "audit.log.1").read_text(encoding="ascii") == "{}\n"
