"""The dashboard and the alerts: Prometheus' own parser takes each query, and there is each metric that they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.node import PROMQL, environ, installed, node
from support.pages import PAGES, REPOSITORY

from konstruct_mcp.core.events import CallClosed, HealthChange, Refused, TryEnded
from konstruct_mcp.core.results import DeploymentState
from konstruct_mcp.gateway.gauges import DeploymentGauge, Gauges
from konstruct_mcp.telemetry.metrics import Metrics

DASHBOARD = REPOSITORY / "deploy" / "grafana" / "konstruct-mcp.json"
ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yaml"
# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
OF_PROMETHEUS = {"up"}
BAD = ("sum(rate(konstruct_calls_total[5m])", "rate(konstruct_calls_total[5 parsecs])", "sum by outcome (x)")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield query
    for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def parsed(*expressions: str) -> list[dict[str, list[str]]]:
    """What Prometheus' parser says of each."""
    folder = installed(PROMQL)
    script = shutil.copy(Path(__file__).parents[1] / "support" / "promql.mjs", folder)  # beside what it imports
    ran = subprocess.run(
        [node(), script], input=json.dumps(expressions), env=environ(), capture_output=True, text=True, timeout=60
    )
    assert not ran.returncode, ran.stderr
    answers: list[dict[str, list[str]]] = json.loads(ran.stdout)
    return answers


@pytest.fixture
def scraped() -> dict[str, set[str]]:
    """What a scrape gives after one event of each kind: each series' name, with the names of its labels."""
    metrics = Metrics(by_tenant=True)
    state: DeploymentState = "cooling_down"
    for event in (
        TryEnded("acme", "fast", "fast", "fast/1", "openai/gpt-4o", "ok", 1.0, 11, 7, 3, 1000),
        CallClosed("acme", "fast", "fast", "openai/gpt-4o", "ok", 1.0, 1, 11, 7, 3, 1000),
        CallClosed("acme", "fast", None, None, "cancelled", 1.0, 1, 0, 0, 0, None),
        Refused("acme", "fast", "overloaded"),
        HealthChange("fast/1", ("fast/1",), "fast", state, "timeout", 5.0, None),
    ):
        metrics(event)
    deployments = [DeploymentGauge("fast/1", "fast", "openai/gpt-4o", "ready")]
    metrics.show(Gauges(1, 0, True, 0, 0, True, deployments))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_each_query_is_one_for_prometheus_and_names_metrics_that_there_are(scraped: dict[str, set[str]]) -> None:
    asked = list(queries())
    assert len(asked) > 30
    named: set[str] = set()
    for query, answer in zip(asked, parsed(*asked), strict=True):
        assert not answer["wrong"], query
        assert answer["metrics"], query
        named |= set(answer["metrics"])
        labels = {label for metric in answer["metrics"] for label in scraped.get(metric, ())}
        labels |= {"job", "instance"}  # which Prometheus adds
        for inside in re.findall(r" by \(([^)]*)\)", query):
            assert {label.strip() for label in inside.split(",")} <= labels, query
    assert named - OF_PROMETHEUS <= scraped.keys()
    ours = {name.removesuffix("_bucket") for name in named if name.startswith("konstruct_")}
    assert len(ours) > 15


def test_the_parser_notices_what_is_wrong() -> None:
    assert all(answer["wrong"] for answer in parsed(*BAD))


def test_each_panel_says_what_it_shows_and_none_covers_another() -> None:
    shown = panels()
    assert all(panel["title"] and panel["description"] for panel in shown)
    ids = [panel["id"] for panel in shown]
    assert len(ids) == len(set(ids))
    taken = [
        (x, y)
        for panel in shown
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23


def test_the_table_of_metrics_has_those_that_there_are(scraped: dict[str, set[str]]) -> None:
    ours = {name: labels for name, labels in scraped.items() if name.startswith("konstruct_")}
    ends = ("_bucket", "_sum", "_count")
    families: dict[str, set[str]] = {}
    for name, labels in ours.items():
        base = next((name.removesuffix(end) for end in ends if name.endswith(end)), name)
        base = name if base not in {one.removesuffix("_bucket") for one in ours if one.endswith("_bucket")} else base
        families.setdefault(base, set()).update(labels - {"le"})
    page = PAGES["docs/observability.md"]
    told = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in page.table("metric", "labels")}
    assert told == families


def test_the_prometheus_of_the_deployment_has_a_job_of_the_name_that_an_alert_asks_for() -> None:
    [name] = re.findall(r'up{job=~"([^"]+)"}', ALERTS.read_text("utf-8"))
    config = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text("utf-8"))
    assert [bool(re.fullmatch(name, job["job_name"])) for job in config["scrape_configs"]] == [True]


def test_every_alert_is_told() -> None:
    alerts = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert PAGES["docs/observability.md"].names("alert") == alerts
