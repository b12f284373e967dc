# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The metrics page: read by Prometheus' own parser, and the same numbers as everywhere else."""
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

import frames
from harness import SOURCE, replay, run

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


def test_promtool_has_nothing_to_say(sluiced, promtool):
    daemon = sluiced({"tap0": {"device": "net_null0,size=64", "rate": 1000}})
    page = daemon.api.request("GET", "/metrics").body.decode()
    assert run(promtool, "check", "metrics", input=page).stderr == ""


def test_the_alerts_go_off_when_they_should(promtool):
    run(promtool, "test", "rules", "alerts_test.yml", cwd=SOURCE / "config/prometheus")


def test_alerts_and_dashboard_ask_for_what_there_is(sluiced):
    daemon = sluiced({"tap0": {"device": "net_null0,size=64", "rate": 1000}})
    page = daemon.api.request("GET", "/metrics").body.decode()
    for path in ("config/prometheus/alerts.yml", "config/grafana/sluice.json"):
        asked = set(re.findall(r"\bsluice_[a-z_]+", (SOURCE / path).read_text(encoding="utf-8")))
        assert len(asked) >= 5
        assert [name for name in asked if f"\n{name}" not in page] == []
