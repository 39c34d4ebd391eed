"""The page, the dashboard and the alert rules speak of metrics that there are."""

import json
import re
from pathlib import Path

import yaml

from pilothouse.services import metrics
from tools import metrics_docs

_ROOT = Path(__file__).resolve().parents[2]
_OURS = re.compile(r"\b(?:pilothouse|http_server)_\w+|\bup\b")


def expressions() -> list[str]:
    rules = yaml.safe_load((_ROOT / "deploy/monitoring/alerts.yaml").read_text())
    dashboard = json.loads((_ROOT / "deploy/monitoring/dashboard.json").read_text())
    return [
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
    ]


def test_the_page_describes_every_metric():
    assert metrics_docs.PAGE.read_text() == metrics_docs.page(), "run `make docs`"


def test_dashboard_and_alerts_name_only_metrics_that_there_are():
    named = {name for expression in expressions() for name in _OURS.findall(expression)}
    assert len(named) > 15
    assert named <= metrics_docs.names()
    assert "pilothouse_releases_with_update" in named


def test_every_alert_says_what_to_do():
    rules = yaml.safe_load((_ROOT / "deploy/monitoring/alerts.yaml").read_text())["groups"][0]["rules"]
    assert all(rule["annotations"]["summary"] and rule["annotations"]["action"] for rule in rules)


def test_every_gauge_of_the_database_is_described():
    declared = {
        value[0] for value in vars(metrics).values() if isinstance(value, tuple) and isinstance(value[-1], tuple)
    }
    assert declared == {metric.name for metric, _ in metrics.describe()}
    assert declared
