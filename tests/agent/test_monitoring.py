"""The alert rules and the dashboard ask for metrics that the agent has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from netk8s.agent.metrics import Metrics

_NAME = re.compile(r"\bnetk8s_agent_\w+")


def expressions(root: Path) -> Iterator[tuple[str, str]]:
    folder = root / "daemonset/monitoring"
    for group in yaml.safe_load((folder / "alerts.yaml").read_text())["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((folder / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def there() -> set[str]:
    made = Metrics()
    made.requests.labels("/v1/snapshot", "200").inc()
    made.seconds.labels("/v1/snapshot").observe(1)
    made.reviews.labels("200").inc()
    made.findings.labels("NK101", "warning").inc()
    families = text_string_to_metric_families(made.text().decode())
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_that_is_asked_for_is_there(root: Path, there: set[str]) -> None:
    asked = [(place, name) for place, expression in expressions(root) for name in _NAME.findall(expression)]
    assert len(asked) > 10
    assert [(place, name) for place, name in asked if name not in there] == []


def test_alerts_say_what_to_do(root: Path) -> None:
    text = yaml.safe_load((root / "daemonset/monitoring/alerts.yaml").read_text())
    for rule in text["spec"]["groups"][0]["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
