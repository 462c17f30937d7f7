# SPDX-License-Identifier: Apache-2.0

"""The dashboard is one by the types that Grafana generates of its schema."""

from collections.abc import Iterator
import copy
import enum
import json
import typing

from grafana_foundation_sdk.cog import encoder
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.models import dashboard
import pytest

from tests.unit.exporter import test_dashboard

# The types of panels and queries, which are plugins of Grafana.
plugins.register_default_plugins()


def left_out(ours, theirs, where="dashboard") -> Iterator[str]:
    """Find what is ours and was lost or changed.

    Defaults that were added do not count.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from left_out(value, theirs[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is not in the schema"
    elif isinstance(ours, list) and isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for place, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from left_out(*pair, f"{where}[{place}]")
    elif ours != theirs:
        yield f"{where}: {ours!r} became {theirs!r}"


def mistyped(value, type_, where="dashboard") -> Iterator[str]:
    """Find values that are not of the type that the schema says.

    ``from_json`` takes any value for a text, a number or a word of a few.
    """
    if isinstance(value, dict) and hasattr(type_, "from_json"):
        # Transformations of panels are left as they are.
        value = type_.from_json(value)
    kind, of = typing.get_origin(type_), typing.get_args(type_)
    if kind is typing.Union:
        # Of several classes, all but one find everything wrong.
        yield from min(
            (list(mistyped(value, one, where)) for one in of), key=len
        )
    elif kind is list and isinstance(value, list):
        for place, one in enumerate(value):
            yield from mistyped(one, of[0], f"{where}[{place}]")
    elif kind is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from mistyped(one, of[1], f"{where}.{key}")
    elif kind is typing.Literal or _is_enum(type_):
        words = of or [word.value for word in type_]
        if value not in words:
            yield f"{where}: {value!r} is none of {words}"
    elif not _is_a(value, kind or type_):
        yield f"{where}: {value!r} is no {type_}"
    elif hasattr(value, "to_json"):
        for name, one in typing.get_type_hints(type(value)).items():
            yield from mistyped(getattr(value, name), one, f"{where}.{name}")


def _is_enum(type_) -> bool:
    return isinstance(type_, type) and issubclass(type_, enum.Enum)


def _is_a(value, type_) -> bool:
    if type_ is typing.Any:
        return True
    if type_ is float:
        type_ = int | float
    # A bool is an int of Python, and not of JSON.
    return isinstance(value, type_) and (
        type_ in (bool, object) or not isinstance(value, bool)
    )


def findings(data) -> list[str]:
    """Find what Grafana would not take as it is meant."""
    model = dashboard.Dashboard.from_json(data)
    written = json.loads(encoder.JSONEncoder().encode(model))
    return [
        *left_out(data, written),
        *mistyped(model, dashboard.Dashboard),
    ]


def test_grafana_reads_all_of_the_dashboard():
    assert findings(test_dashboard.DASHBOARD) == []


def _first(data, type_):
    return next(p for p in data["panels"] if p["type"] == type_)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(
            lambda data: data.update(style="dark"),
            "dashboard.style is not in the schema",
            id="an old key",
        ),
        pytest.param(
            lambda data: data.update(refresh=60),
            "dashboard.refresh: 60 is no <class 'str'>",
            id="a number for a text",
        ),
        pytest.param(
            lambda data: _first(data, "timeseries")["options"][
                "legend"
            ].update(placement="top"),
            "dashboard.panels[8].options.legend.placement: 'top' is none of"
            " ['bottom', 'right']",
            id="a word that the plugin does not know",
        ),
        pytest.param(
            lambda data: _first(data, "stat")["targets"][0].update(query="up"),
            "dashboard.panels[1].targets[0].query is not in the schema",
            id="a query of another data source",
        ),
        pytest.param(
            lambda data: _first(data, "table")["transformations"][0].update(
                id=7
            ),
            "dashboard.panels[18].transformations[0].id_val: 7 is no"
            " <class 'str'>",
            id="a transformation",
        ),
    ],
)
def test_what_is_not_in_the_schema_is_found(spoil, expected):
    data = copy.deepcopy(test_dashboard.DASHBOARD)
    spoil(data)
    assert expected in findings(data)
