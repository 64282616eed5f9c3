"""``deploy/prometheus``, ``deploy/grafana``: what they name exists, and Prometheus takes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus.telemetry.names import METRICS, PROCESS_METRICS, Kind
from nexus.telemetry.reference import main as reference
from nexus.telemetry.reference import with_metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "nexus.json"
_NAME = re.compile(r"\b(?:nexus|process)_[a-z_]+\b")
_RULE = re.compile(r"^ +expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", re.MULTILINE)
_LABELS = re.compile(r"\b(?:by|without) \(([^)]*)\)|\{([^}]*)\}")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def _series() -> set[str]:
    names = set(PROCESS_METRICS)
    for metric in METRICS.values():
        if metric.kind is Kind.HISTOGRAM:
            names |= {f"{metric.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
        else:
            names.add(metric.name)
    return names


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def _expressions() -> list[str]:
    """Every query of dashboard and alert rules."""
    rules = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    queries = ["".join(found) for found in _RULE.findall(rules)]
    assert len(queries) == rules.count("alert: ")
    queries += [one["expr"] for one in _objects(_dashboard()) if "expr" in one]
    return queries + [
        one["definition"] for one in _objects(_dashboard()) if one.get("type") == "query"
    ]


def test_every_metric_that_is_queried_exists() -> None:
    """Dashboard and rules ask for nothing that the page does not show."""
    asked = {name for query in _expressions() for name in _NAME.findall(query)}
    assert len(asked) > 25
    assert asked <= _series()


def test_every_label_that_is_queried_exists() -> None:
    """Neither do they group or select by a label that no metric has."""
    known = {label for metric in METRICS.values() for label in metric.labels}
    known |= {"le", "instance", "job"}
    for query in _expressions():
        for grouped, selected in _LABELS.findall(query):
            labels = re.split(r",\s*", grouped) if grouped else re.findall(r"(\w+)[=!]", selected)
            assert set(labels) <= known, query


def test_the_dashboard_is_whole() -> None:
    """Panels have ids of their own, lie beside each other, and use the chosen data source only."""
    dashboard = _dashboard()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 25
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        taken = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in taken) < 24
        cells |= taken
    sources = {one["uid"] for one in _objects(dashboard) if one.get("type") == "prometheus"}
    assert sources == {"${datasource}"}
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    used = {name for query in _expressions() for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval"} <= variables


def test_the_page_shows_every_metric() -> None:
    """``docs/observability.md`` is what ``telemetry/names.py`` says, and names every alert."""
    assert reference(["--check"]) == 0
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    for alert in re.findall(r"alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text()):
        assert f"`{alert}`" in page


def test_the_page_keeps_its_marks() -> None:
    """Without them nothing could be written, and that is said."""
    with pytest.raises(ValueError, match="lost a mark"):
        with_metrics("# A page\n")


def _promtool(*arguments: str, where: Path = PROMETHEUS) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_the_configuration() -> None:
    """Syntax of configuration and rules, expressions included."""
    _promtool("check", "config", "prometheus.yml")
    _promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_the_alerts_fire_when_they_should() -> None:
    """The rules' own tests."""
    _promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_prometheus_takes_the_dashboards_queries(tmp_path: Path) -> None:
    """Each query is an expression that Prometheus can parse."""
    rules = []
    for number, one in enumerate(one for one in _objects(_dashboard()) if "expr" in one):
        query = one["expr"].replace("$__rate_interval", "5m").replace("$", "")
        rules.append({"record": f"query:{number}", "expr": query})
    groups = {"groups": [{"name": "queries", "rules": rules}]}
    (tmp_path / "queries.yml").write_text(json.dumps(groups))
    _promtool("check", "rules", "queries.yml", where=tmp_path)
