# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The Debian package: what is in it, that it comes and goes without a trace but the captures, and that
an upgrade keeps these and the tokens."""
import configparser
import contextlib
import re

import pytest

import harness
from harness import SOURCE, run

CONFIG = "/etc/sluice/sluice.ini"
STATE = "/var/lib/sluice"
FILES = """
/etc/logrotate.d/sluice
/etc/sluice/sluice.ini
/lib/systemd/system/sluiced.service
/usr/bin/sluice
/usr/bin/sluiced
/usr/sbin/sluice-host
/usr/share/bash-completion/completions/sluice
/usr/share/doc/sluice/NOTICE
/usr/share/doc/sluice/OPERATING.md.gz
/usr/share/doc/sluice/README.md.gz
/usr/share/doc/sluice/changelog.gz
/usr/share/doc/sluice/copyright
/usr/share/lintian/overrides/sluice
/usr/share/man/man1/sluice.1.gz
/usr/share/man/man5/sluice.ini.5.gz
/usr/share/man/man8/sluice-host.8.gz
/usr/share/man/man8/sluiced.8.gz
/usr/share/sluice/colo.ini
/usr/share/sluice/grafana.json
/usr/share/sluice/prometheus-alerts.yml
/usr/share/sluice/quickstart.ini
""".split()


@pytest.mark.parametrize("kind", ["changes", "dsc"])
def test_lintian_has_nothing_to_say(packages, kind):
    (path,) = packages.glob(f"sluice_*.{kind}")
    done = run(
        "lintian", "--display-info", "--fail-on", "error,warning,info", "--tag-display-limit", "0",
        "--allow-root", path, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_it_holds_what_it_should(deb):
    listed = run("dpkg-deb", "-c", deb).stdout.splitlines()
    found = {}
    for line in listed:
        mode, owner, _, _, _, name = line.split(None, 5)
        assert owner == "root/root"
        if not mode.startswith("d"):
            found[name.removeprefix(".")] = mode
    assert sorted(found) == sorted(FILES)
    for name, mode in found.items():
        assert mode == ("-rwxr-xr-x" if "bin/" in name else "-rw-r--r--"), name
    assert run("dpkg-deb", "-I", deb, "conffiles").stdout.split() == ["/etc/logrotate.d/sluice", CONFIG]


def test_the_maintainer_is_who_commits():
    maintainer = re.search(
        r"^Maintainer: (.+)$", (SOURCE / "debian/control").read_text(encoding="utf-8"), re.M
    )[1]
    done = run("git", "log", "--format=%an <%ae>", cwd=SOURCE, check=False)
    if done.returncode != 0 or not done.stdout:
        pytest.skip("no git repository here")
    assert maintainer in done.stdout.splitlines()
    changelog = (SOURCE / "debian/changelog").read_text(encoding="utf-8")
    assert f" -- {maintainer}  " in changelog


def state_of(machine):
    """User, files and unit as somebody would look at them."""
    passwd = machine.path("/etc/passwd").read_text(encoding="utf-8")
    return {
        "user": re.findall(r"^sluice:.*$", passwd, re.M),
        "state": machine.path(STATE).exists() and machine.path(STATE).stat().st_mode & 0o777,
        "unit": machine.path("/lib/systemd/system/sluiced.service").exists(),
        "enabled": machine.path("/etc/systemd/system/multi-user.target.wants/sluiced.service").exists(),
        "config": machine.path(CONFIG).exists(),
    }


def test_it_comes_and_goes(machine, deb):
    package = machine.take(deb)
    machine.dpkg("-i", package)
    installed = state_of(machine)
    assert len(installed["user"]) == 1
    assert installed["user"][0].endswith(f":{STATE}:/usr/sbin/nologin")
    assert installed["state"] == 0o700 and installed["unit"] and installed["config"]
    assert not installed["enabled"], "nothing is started that nobody asked for"
    machine.run("sluiced", "--check")
    # The scripts are run again by whatever goes wrong on the way.
    for script in ("postinst configure", "postinst configure 0.0.1", "postinst abort-upgrade 9"):
        machine.run("sh", "-ec", f"/var/lib/dpkg/info/sluice.{script}")
        assert state_of(machine) == installed
    machine.dpkg("-i", package)
    assert state_of(machine) == installed

    machine.path(f"{STATE}/captures").mkdir()
    machine.dpkg("-r", "sluice")
    assert state_of(machine) == {**installed, "unit": False}
    for _ in range(2):
        machine.dpkg("-P", "sluice")
        assert state_of(machine) == {**installed, "unit": False, "config": False}
    assert machine.path(f"{STATE}/captures").exists(), "captures are nobody's to purge"
    machine.dpkg("-i", package)
    assert state_of(machine) == installed


class Service:
    """The installed daemon, as its own user."""

    def __init__(self, machine, log):
        self.machine, self.log = machine, log
        config = configparser.ConfigParser(inline_comment_prefixes=(";",))
        path = machine.path(CONFIG)
        config.read_string(path.read_text(encoding="utf-8"))
        port = int(config["api"]["listen"].rpartition(":")[2])
        self.process = machine.start("setpriv", "--reuid=sluice", "--regid=sluice", "--clear-groups", "sluiced", log=log)
        self.api = harness.Api(port)
        harness.until("the daemon answers", self.answers, 30)
        self.api.token = machine.path(f"{STATE}/admin.token").read_text(encoding="ascii").strip()

    def answers(self):
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        with contextlib.suppress(OSError):
            return self.api.request("GET", "/healthz").status == 200

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0, self.log.read_text(encoding="utf-8")


def configure(machine):
    """What an operator would: another address, and a source of packets that is there."""
    path = machine.path(CONFIG)
    text = path.read_text(encoding="utf-8")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{harness.free_port()}")
    text = text.replace("interface = auto", "device = net_null0,size=64\nrate = 10000\npoll = wanted")
    text = text.replace("quota = 80%", "quota = 80%\nmeasure = no")
    path.write_text(text, encoding="utf-8")


def test_an_upgrade_keeps_captures_and_tokens(machine, deb, newer, tmp_path):
    machine.dpkg("-i", machine.take(deb))
    configure(machine)
    config = machine.path(CONFIG).read_text(encoding="utf-8")
    service = Service(machine, tmp_path / "before.log")
    api = service.api
    closed = api.wait_closed(api.create(name="before", limits={"packets": 1000})["id"])
    api.download(closed["id"], tmp_path / "before.pcapng")
    running = api.create(name="running")["id"]
    api.wait_offered(running, 100)
    token = api.ask("POST", "/api/v1/tokens", {"name": "eve", "role": "viewer"}, 201)["secret"]
    service.stop()

    machine.dpkg("-i", "--force-confold", machine.take(newer))
    assert machine.path(CONFIG).read_text(encoding="utf-8") == config
    service = Service(machine, tmp_path / "after.log")
    assert service.api.token == api.token
    assert service.api.capture(closed["id"]) == closed
    service.api.download(closed["id"], tmp_path / "after.pcapng")
    assert (tmp_path / "after.pcapng").read_bytes() == (tmp_path / "before.pcapng").read_bytes()
    left = service.api.wait_closed(running)
    assert (left["state"], left["reason"]) == ("complete", "shutdown")
    path = tmp_path / "running.pcapng"
    service.api.download(running, path)
    assert harness.capinfos_count(path) == left["ledger"]["written"]
    viewer = harness.Api(service.api.port, token)
    assert viewer.captures()["captures"][0]["id"] == running
    service.stop()
    assert "warning" not in (tmp_path / "after.log").read_text(encoding="utf-8")
