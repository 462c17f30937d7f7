# SPDX-License-Identifier: Apache-2.0

"""Scenarios of nova-gpu-simulate: YAML that somebody wrote."""

import copy
import itertools
import pathlib
import tempfile

from hypothesis import given
from hypothesis import strategies as st
import pytest
import yaml

from nova_gpu_filter import printable
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import scenario
from tests.fuzz import hostile
from tests.fuzz import test_inventory_json

SCENARIO = {
    "title": "x",
    "inventory": {
        "machines": {"m": {"gpu_links": ["nv18:0"] * 2, "numa": [0, 0]}},
        "machine_by_model": {"H100/8": "hgx-h100"},
        "hosts": [
            {"name": "a", "machine": "hgx-h100", "count": 2, "used": [0, 1]},
            {"machine": "m", "gpus": 2, "model": "H100"},
            {"gpu_links": ["pix:0", "pix:0"], "numa": [0, 1]},
        ],
    },
    "workload": {
        "load": [0.5],
        "arrivals": 5,
        "duration": 3.0,
        "distribution": "exponential",
        "seed": 3,
        "flavors": [{"gpus": 2, "share": 0.5, "link": "nvlink"}],
    },
    "fits": [{"gpus": 8, "link": "fabric"}],
    "scheduler": {"weighers": "pci", "max_sets_per_tree": 4, "options": {}},
}
LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{of}'] * 9)}]\n"
    for of, name in itertools.pairwise("abcdefghij")
)
VALUES = hostile.values | st.integers(-3, 99) | st.floats(width=16)


def read(document):
    """Read a scenario, and make what it asks for."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "x.yaml"
        path.write_text(yaml.safe_dump(document, allow_unicode=False))
        found = scenario.make(scenario.read_file(str(path)), str(path))
        for run in found.runs:
            try:
                run.arrivals(16)
            except ValueError as error:
                # The command tells it in the same way.
                raise errors.BadScenario(source=path, problem=error) from None
        return found


def test_the_scenario_is_read_as_it_is():
    found = read(SCENARIO)
    assert found.hosts
    assert found.runs
    assert [flavor.gpus for flavor in found.fits] == [8]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(test_inventory_json.places(SCENARIO))), VALUES
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_damage_is_one_line(changes):
    document = copy.deepcopy(SCENARIO)
    for place, value in changes:
        try:
            test_inventory_json.change(document, place, value)
        except (KeyError, IndexError, TypeError):
            continue
    try:
        read(document)
    except errors.BadScenario as error:
        text = printable.join_lines(str(error))
        assert "x.yaml" in text
        # A text of 5,000 characters is among the values.
        assert len(text) < 20_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        LAUGHS,
        "\x00",
        "!!python/object/apply:os.system [true]",
        "a: 1\n---\nb: 2\n",
        "1" * 5000,
    ],
    ids=["deep", "laughs", "nul", "python", "two", "long number"],
)
def test_what_is_no_scenario_is_refused(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(errors.BadScenario) as caught:
        scenario.make(scenario.read_file(str(path)), str(path))
    assert len(str(caught.value)) < 10_000
