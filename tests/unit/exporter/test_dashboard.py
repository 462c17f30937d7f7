# SPDX-License-Identifier: Apache-2.0

"""The Grafana dashboard asks for metrics and labels that we export, and has
what Grafana's JSON model of a dashboard needs."""

import itertools
import json
import pathlib
import re

import pytest

from nova_gpu_filter.exporter import metrics

PATH = (
    pathlib.Path(__file__).parents[3]
    / "etc/nova-gpu-filter/grafana/nova-gpu.json"
)
DASHBOARD = json.loads(PATH.read_text())
PANELS = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
VARIABLES = DASHBOARD["templating"]["list"]
EXPRESSIONS = [
    target["expr"] for panel in GRAPHS for target in panel["targets"]
]
QUERIES = [
    variable["query"]["query"]
    for variable in VARIABLES
    if variable["type"] == "query"
]
LABELS = {gauge.metric: gauge.labels for gauge in metrics.Gauge}

# Of PromQL, and of what Grafana adds for variables.
WORDS = {
    *("by", "or", "count", "increase", "max", "min", "sort_desc", "sum"),
    *("time", "topk", "vector", "label_values"),
}
_SELECTOR = re.compile(r"([a-z_]+)\{([^}]*)\}")
_GROUPING = re.compile(r"\bby \(([a-z_, ]+)\)")
_LABEL_VALUES = re.compile(r"label_values\(([a-z_]+)(?:\{[^}]*\})?, ([a-z_]+)")

every_expression = pytest.mark.parametrize(
    "text", [*EXPRESSIONS, *QUERIES], ids=str
)
every_panel = pytest.mark.parametrize(
    "panel", GRAPHS, ids=[panel["title"] for panel in GRAPHS]
)


def matchers(text):
    """List the selectors with labels: (metric, its label names)."""
    return [
        (name, re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", inside))
        for name, inside in _SELECTOR.findall(text)
    ]


def names(text):
    """List what an expression names that is no label: metrics, functions."""
    text = re.sub(r'"[^"]*"', "", text)
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", text)
    text = _LABEL_VALUES.sub(r"label_values(\1", text)
    text = _GROUPING.sub("by", text)
    return re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", text)


@every_expression
def test_an_expression_names_only_metrics_that_we_export(text):
    found = set(names(text)) - WORDS
    assert found
    assert found <= set(LABELS)


@every_expression
def test_an_expression_selects_by_labels_that_the_metric_has(text):
    for name, labels in matchers(text):
        assert set(labels) <= set(LABELS[name])
    for name, label in _LABEL_VALUES.findall(text):
        assert label in LABELS[name]
    grouped = {
        label.strip()
        for labels in _GROUPING.findall(text)
        for label in labels.split(",")
    }
    for name in set(names(text)) - WORDS:
        assert grouped <= set(LABELS[name])


@every_expression
def test_parentheses_are_closed(text):
    depth = 0
    for character in re.sub(r'"[^"]*"', "", text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


@every_expression
def test_an_expression_uses_variables_that_there_are(text):
    known = {variable["name"] for variable in VARIABLES}
    assert set(re.findall(r"\$\{?(\w+)", text)) <= known


def test_every_metric_is_shown():
    shown = {name for text in EXPRESSIONS for name in names(text)}
    assert set(LABELS) <= shown


def test_the_dashboard_has_what_grafana_asks_for():
    assert {"uid", "title", "schemaVersion", "version", "time"} <= set(
        DASHBOARD
    )
    assert re.fullmatch("[a-zA-Z0-9_-]{1,40}", DASHBOARD["uid"])
    assert {"from", "to"} == set(DASHBOARD["time"])
    assert isinstance(DASHBOARD["schemaVersion"], int)
    # A database id would overwrite, or fail to find, another dashboard.
    assert "id" not in DASHBOARD


def test_panels_have_ids_of_their_own():
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))


def test_panels_do_not_overlap_and_fit_the_grid():
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert cells
        assert not cells & taken
        taken |= cells


@every_panel
def test_a_panel_asks_the_chosen_data_source(panel):
    assert panel["type"] in {"bargauge", "stat", "table", "timeseries"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references)) > 0
    for source in (
        panel["datasource"],
        *(target["datasource"] for target in panel["targets"]),
    ):
        assert source == {"type": "prometheus", "uid": "${datasource}"}
    assert {"defaults", "overrides"} == set(panel["fieldConfig"])


@every_panel
def test_a_legend_names_labels_that_the_expression_keeps(panel):
    for target in panel["targets"]:
        [kept] = [
            set(re.split(", ", labels))
            for labels in set(_GROUPING.findall(target["expr"]))
        ] or [
            {
                label
                for name in names(target["expr"])
                for label in LABELS.get(name, ())
            }
        ]
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= (
            kept
        )


def test_columns_of_the_table_are_those_of_its_queries():
    [table] = [panel for panel in GRAPHS if panel["type"] == "table"]
    [organize] = [
        each["options"]
        for each in table["transformations"]
        if each["id"] == "organize"
    ]
    values = {f"Value #{target['refId']}" for target in table["targets"]}
    expected = values | {"host", "model"}
    assert set(organize["renameByName"]) == expected
    assert set(organize["indexByName"]) == expected
