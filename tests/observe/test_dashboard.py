"""The dashboard asks only for what a running server exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.settings import ServerSettings
from tests.http.serving import running_server
from tests.observe.scraping import Scrape, read_metrics

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "grafana.json"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "observability.md"
FUNCTIONS = {"histogram_quantile", "increase", "rate", "sum"}


@pytest.fixture(scope="module")
def exported() -> Scrape:
    """Return what a server exports after an answer, a stream and a refusal."""
    with running_server(settings=ServerSettings(port=0)) as running:
        body: dict[str, Any] = {"model": "demo", "prompt": "hello"}
        assert running.post("/v1/completions", body).is_success
        assert running.post("/v1/completions", body | {"stream": True}).is_success
        assert running.post("/v1/completions", body | {"model": "no"}).status_code == 404
        with running.client as client:
            return read_metrics(client.get("/metrics").text)


def expressions(part: Any) -> Iterator[str]:
    """Yield every expression and every query of a variable."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("expr", "definition"):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


def names_and_labels(expression: str) -> tuple[set[str], set[str]]:
    """Return the names that an expression uses as metrics or functions, and those of labels."""
    variable = re.fullmatch(r"label_values\((.*), (\w+)\)", expression)
    labels = set()
    if variable:
        expression = variable[1]
        labels.add(variable[2])
    text = re.sub(r'"[^"]*"', '""', expression)
    text = re.sub(r"\[\$\w+\]", "", text)
    for group in re.findall(r"\{([^}]*)\}", text):
        labels.update(re.findall(r"(\w+)\s*=~?", group))
    text = re.sub(r"\{[^}]*\}", "", text)
    for group in re.findall(r"\bby \(([^)]*)\)", text):
        labels.update(re.findall(r"\w+", group))
    text = re.sub(r"\bby \([^)]*\)", "", text)
    return set(re.findall(r"[A-Za-z_]\w*", text)), labels


def test_every_expression_names_only_what_is_exported(exported: Scrape) -> None:
    found = list(expressions(json.loads(DASHBOARD.read_text())))
    assert len(found) > 40
    for expression in found:
        names, labels = names_and_labels(expression)
        metrics = names - FUNCTIONS
        assert metrics, expression
        assert metrics <= exported.names, expression
        for metric in metrics:
            for label in labels:
                assert any(label in own for own, _ in exported.samples[metric]), expression


def test_what_is_not_exported_would_be_seen(exported: Scrape) -> None:
    names, labels = names_and_labels('sum by (le) (rate(mooring_gone_total{key="a"}[$__interval]))')
    assert names - FUNCTIONS == {"mooring_gone_total"}
    assert not names - FUNCTIONS <= exported.names
    assert labels == {"le", "key"}


def test_every_panel_has_a_place_of_its_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)


def test_every_metric_is_documented_and_no_other(exported: Scrape) -> None:
    documented = set(re.findall(r"`(mooring_\w+)`", DOCUMENTATION.read_text()))
    own = {name for name in exported.families if name.startswith("mooring_")}
    assert {name for name in own if not name.endswith("_created")} == documented
