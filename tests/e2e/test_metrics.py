# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The metrics page: read by Prometheus' own parser, and the same numbers as everywhere else."""
import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

import certificates
import frames
from harness import SOURCE, replay, run

PROMETHEUS = SOURCE / "config/prometheus"

# Families by name and what a counter's may not do is fall.
STAGES = ("offered", "filtered", "sampled_out", "over_limit", "accepted", "written", "durable")


def scrape(daemon):
    answer = daemon.api.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation and family.type in ("counter", "gauge"), family
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in values, key
            values[key] = sample.value
    return values


def ledger_of(values):
    return {stage: values[f"sluice_capture_{stage}_packets_total", ()] for stage in STAGES}


def test_metrics_say_what_the_api_says(sluiced, tmp_path):
    path = tmp_path / "in.pcap"
    frames.write_pcap(path, [frames.numbered(1, n) for n in range(500)])
    daemon = sluiced({"tap0": replay(path)})
    first = daemon.api.create(limits={"packets": 300})["id"]
    one, _ = daemon.settled(first)
    second = daemon.api.create(filter="tcp port 1")["id"]
    daemon.api.wait_offered(second, 500)
    daemon.api.stop(second)
    two, _ = daemon.settled(second)

    values = scrape(daemon)
    assert ledger_of(values) == {stage: one["ledger"][stage] + two["ledger"][stage] for stage in STAGES}
    assert values["sluice_captures", (("state", "complete"),)] == 2
    port = daemon.api.counters()
    label = (("port", "tap0"),)
    assert values["sluice_port_offered_packets_total", label] == port["offered"]
    assert values["sluice_port_received_packets_total", label] == port["rx"]
    assert values["sluice_port_matched_packets_total", label] == port["matched"]
    blocks = daemon.api.status()["blocks"]
    assert values["sluice_blocks", ()] == blocks["total"]
    assert values["sluice_block_memory_bytes", ()] == blocks["total"] * 65536
    assert values["sluice_http_answers_total", (("status", "2xx"),)] > 0

    # What is deleted stays counted: a counter never falls.
    daemon.api.delete(first)
    after = scrape(daemon)
    assert ledger_of(after) == ledger_of(values)
    assert after["sluice_captures", (("state", "complete"),)] == 1
    assert set(after) == set(values), "series must not depend on how many captures there are"


def test_metrics_want_a_token(sluiced, tmp_path):
    path = tmp_path / "in.pcap"
    frames.write_pcap(path, [frames.numbered(1, 0)])
    daemon = sluiced({"tap0": replay(path)})
    answer = daemon.api.request("GET", "/metrics", headers={"Authorization": "Bearer no"})
    assert answer.status == 401


@pytest.fixture(scope="module")
def promtool(tmp_path_factory):
    """Prometheus' own judge, out of its package, which is not installed: that would start a service."""
    path = tmp_path_factory.mktemp("prometheus")
    if run("apt-get", "download", "prometheus", cwd=path, check=False).returncode != 0:
        pytest.skip("the package prometheus cannot be had")
    run("dpkg", "-x", next(path.glob("*.deb")), path)
    return path / "usr/bin/promtool"


@pytest.fixture
def page(sluiced, tmp_path):
    """The page of a daemon that has all there is."""
    authority = certificates.Authority(tmp_path)
    certificate, key = authority.sign("server")
    daemon = sluiced(
        {"tap0": {"device": "net_null0,size=64", "rate": 1000}},
        tls=authority,
        api={"tls_certificate": certificate, "tls_key": key},
    )
    return daemon.api.request("GET", "/metrics").body.decode()


def test_promtool_has_nothing_to_say(page, promtool):
    assert run(promtool, "check", "metrics", input=page).stderr == ""


def test_the_alerts_go_off_when_they_should(promtool):
    run(promtool, "test", "rules", "alerts_test.yml", cwd=PROMETHEUS)


def test_every_alert_has_been_seen_to_go_off():
    rules = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    tests = (PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8")
    went_off = re.findall(r"alertname: (\w+)\n +exp_alerts:", tests)
    stayed_off = re.findall(r"alertname: (\w+)\}", tests)
    assert len(rules) > 20 and len(rules) == len(set(rules))
    assert set(went_off) == set(rules)
    assert set(stayed_off) == set(rules)


def asked_for():
    """Every expression of the alerts and of the dashboard, as Prometheus would get it."""
    rules = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    yield from re.findall(r"^ +expr: (.+)$", rules, re.M)
    dashboard = json.loads((SOURCE / "config/grafana/sluice.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        yield from (target["expr"] for target in panel["targets"])


def test_alerts_and_dashboard_ask_for_what_there_is(page):
    labels = {"up": {"job", "instance"}}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    for expression in asked_for():
        names = set(re.findall(r"\b(?:sluice_\w+|up\b)", expression))
        assert names <= set(labels), expression
        known = set().union(*(labels[name] for name in names))
        for selector in re.findall(r"\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+) *[=!]", selector)) <= known, expression
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(re.findall(r"\w+", grouped)) <= known, expression


def test_prometheus_understands_the_dashboard(promtool, tmp_path):
    rules = [
        {"record": f"dashboard:{n}", "expr": expression.replace("$__rate_interval", "1m")}
        for n, expression in enumerate(asked_for())
    ]
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    run(promtool, "check", "rules", path)
