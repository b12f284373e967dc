# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""What the documents say is so: commands that are to be pasted do what they say, every link leads somewhere,
and no option, flag, route, metric or file is named that is not there.

A block behind a line `<!-- run NAME -->` is run as it stands, on the configuration of the quick start with
another source, address and directory. One behind `<!-- check -->` is a piece of configuration.
"""
import configparser
import json
import os
import pathlib
import re
import subprocess

import pytest

import frames
import harness
from harness import SLUICE, SLUICED, SOURCE, replay, run

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "api/README.md", "config/OPERATING.md", "perf/README.md"]
MARKED = re.compile(r"^<!-- (run|check)(?: ([a-z-]+))? -->\n+```[a-z]*\n(.*?)^```$", re.M | re.S)


def text_of(name):
    return (SOURCE / name).read_text(encoding="utf-8")


def marked(kind):
    for name in DOCUMENTS:
        for found in MARKED.finditer(text_of(name)):
            if found[1] == kind:
                yield pytest.param(found[3], id=found[2] or f"{name}-{text_of(name)[:found.start()].count(chr(10))}")


def quickstart():
    """The sections of config/quickstart.ini that say nothing of this machine."""
    config = configparser.ConfigParser(delimiters=("=",), comment_prefixes=(";",))
    config.read(SOURCE / "config/quickstart.ini", encoding="utf-8")
    return {
        name: dict(config[name]) for name in config.sections()
        if name not in ("api", "storage", "port tap0")
    }  # fmt: skip


@pytest.mark.parametrize("block", marked("run"))
def test_it_works_when_pasted(sluiced, tmp_path, block):
    path = tmp_path / "in.pcap"
    frames.write_pcap(path, frames.mixed(2000))
    source = replay(path, infinite=True, rate=50000)
    daemon = sluiced({"tap0": source}, **quickstart())
    pasted = block.replace("http://127.0.0.1:8080", daemon.api.url).replace("/var/lib/sluice", str(daemon.root))
    assert pasted != block or "sluice start" in block
    programs = f"{pathlib.Path(SLUICE).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", pasted],
        cwd=tmp_path, env={**daemon.client_env(), "PATH": programs},
        capture_output=True, text=True, timeout=60 * harness.SLOW, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{pasted}\n{done.stdout}{done.stderr}"
    (capture,) = daemon.api.captures()["captures"]
    left = sorted(set(p.name for p in tmp_path.iterdir()) - {"in.pcap"})
    made = [name for name in left if name.startswith("out.")]
    assert len(made) == 1, left
    assert harness.capinfos_count(tmp_path / made[0]) == capture["ledger"]["written"] > 0
    daemon.settled(capture["id"])


def test_every_dialect_has_a_first_capture():
    told = {block.id for block in marked("run")}
    assert {"native", "cloudflare", "citrix", "nsx", "mist"} <= told


@pytest.mark.parametrize("block", marked("check"))
def test_it_is_configuration(tmp_path, block):
    """sluiced --check takes it, beside a port where it has none."""
    for name in set(re.findall(r"= (/etc/\S+)", block)):
        made = tmp_path / pathlib.Path(name).name
        made.write_text("access_key = a\nsecret_key = b\n", encoding="ascii")
        made.chmod(0o600)
        block = block.replace(name, str(made))
    if "tls_certificate" in block:
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=x", "-keyout", tmp_path / "server.key", "-out", tmp_path / "server.pem")  # fmt: skip
        (tmp_path / "clients.pem").write_bytes((tmp_path / "server.pem").read_bytes())
    if "[port" not in block:
        block += "\n[port p]\ninterface = lo\n"
    path = tmp_path / "sluice.ini"
    path.write_text(block, encoding="utf-8")
    run(SLUICED, "--check", "--config", path)


def anchors(text):
    for head in re.findall(r"^#+ (.+)$", text, re.M):
        yield re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name):
    text = re.sub(r"^```.*?^```$", "", text_of(name), flags=re.M | re.S)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (SOURCE / name).parent / file if file else SOURCE / name
        assert target.exists(), link
        if anchor:
            assert anchor in set(anchors(target.read_text(encoding="utf-8"))), link
    for file in re.findall(r"`((?:api|config|control|debian|engine|perf|scripts|tests)/[\w./-]+)`", text):
        assert re.search("[A-Z]{4}", file) or (SOURCE / file).exists(), file


def helps():
    """What the programs say of themselves, all together."""
    said = run(SLUICE, "--help").stdout + run(SLUICED, "--help").stdout
    for command in re.findall(r"^  (\w+) ", said, re.M):
        said += run(SLUICE, command, "--help", check=False).stdout
    for script in ("run", "test", "host", "fuzz", "soak", "check", "packages"):
        said += (SOURCE / "scripts" / script).read_text(encoding="utf-8")
    return said + run(SOURCE / "perf/run", "--help").stdout


def test_nothing_is_named_that_is_not_there():
    text = "".join(text_of(name) for name in DOCUMENTS[:1] + DOCUMENTS[2:4])
    code = "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```$", text, re.M | re.S))
    said = helps()

    commands = set(re.findall(r"^  (\w+) ", run(SLUICE, "--help").stdout, re.M))
    named = set(re.findall(r"(?:^|[`$(]|&& )sluice ([a-z]+)", code, re.M))
    assert named - commands == set()

    flags = set(re.findall(r"\bsluice [^`\n|]*", code)) | set(re.findall(r"scripts/\w+ [^`\n]*", code))
    flags = {flag for line in flags for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line.partition("#")[0])}
    assert len(flags) > 10
    assert {flag for flag in flags if flag not in said} == set()

    metrics = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "api").glob("*.c"))
    assert {name for name in re.findall(r"\bsluice_[a-z_]+[a-z]", code) if name not in metrics} == set()

    described = json.loads(text_of("api/openapi.json"))["paths"]
    patterns = [re.sub(r"\{\w+\}", "[^/]+", path) + "$" for path in described]
    vendors = r"/pcaps|/self|/orgs|/sites|/pktcap|/fabric|/session|VERSION"
    for route in set(re.findall(r"(?<![\w-])/api/v1/[\w/{}]+", code)):
        if not re.search(vendors, route):
            assert any(re.match(p, route) for p in patterns), route

    options = run(SLUICED, "--help-config").stdout
    for block in re.findall(r"^```ini\n(.*?)^```$", text, re.M | re.S):
        for key in re.findall(r"^(\w+) =", block, re.M):
            assert re.search(rf"^  {key} =", options, re.M), key
