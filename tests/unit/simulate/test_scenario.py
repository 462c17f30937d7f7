# SPDX-License-Identifier: Apache-2.0

"""Scenario files."""

import os
import pathlib

import pytest
import yaml

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import scenario
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from tests import openb as openb_trace

ROOT = pathlib.Path(__file__).parents[3]
SHIPPED = ROOT / "etc" / "nova-gpu-filter" / "simulate"

HOSTS = {"hosts": [{"machine": "hgx-h100", "count": 2}]}
MIX = {
    "load": [0.5, 1.0],
    "arrivals": 7,
    "flavors": [{"gpus": 1, "share": 1}],
}


def _load(path, *files, **changed):
    return scenario.make(
        scenario.read_file(path),
        path,
        os.path.dirname(path),
        *files,
        **changed,
    )


def test_each_load_is_a_run():
    made = scenario.make({"inventory": HOSTS, "workload": MIX}, "s.yaml")
    assert [run.label for run in made.runs] == ["load 0.5", "load 1"]
    slow, fast = (run.arrivals(16) for run in made.runs)
    assert len(slow) == len(fast) == 7
    assert slow[-1].time == pytest.approx(2 * fast[-1].time)


def test_arguments_take_the_place_of_what_the_file_says():
    made = scenario.make(
        {"inventory": HOSTS, "workload": MIX},
        "s.yaml",
        changes={"load": [0.7], "arrivals": 3, "seed": 9},
    )
    assert [run.label for run in made.runs] == ["load 0.7"]
    assert len(made.runs[0].arrivals(16)) == 3
    assert made.seed == 9


def test_a_size_alone_is_a_flavor_of_fits():
    made = scenario.make(
        {"inventory": HOSTS, "fits": [1, {"gpus": 2, "link": "pix"}]}, "s"
    )
    assert made.fits == [
        workload.Flavor(1),
        workload.Flavor(2, link=LinkPolicy(Requirement.PIX)),
    ]
    assert not made.runs


def test_files_are_looked_for_beside_the_scenario(tmp_path):
    (tmp_path / "hosts.csv").write_text("name,model,gpus\na,T4,2\n")
    (tmp_path / "machines.yaml").write_text(
        "machines:\n  mine: {gpu_links: ['pix:0', 'pix:0']}\n"
        "machine_by_model: {T4: mine}\n"
    )
    (tmp_path / "trace.csv").write_text("arrival,duration,gpus\n1,2,1\n")
    path = tmp_path / "scenario.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "inventory": {
                    "file": "hosts.csv",
                    "machines_file": "machines.yaml",
                },
                "workload": {"file": "trace.csv"},
            }
        )
    )
    made = _load(str(path))
    assert made.hosts[0].kind.links == ("pix:0", "pix:0")
    assert [run.label for run in made.runs] == ["as recorded"]
    assert made.runs[0].arrivals(2) == [
        workload.Arrival(1, 2, workload.Flavor(1))
    ]


def test_other_files_can_be_named_instead(tmp_path):
    hosts = tmp_path / "hosts.json"
    hosts.write_text('{"hosts": [{"machine": "pcie-2"}]}')
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival,duration,gpus\n1,2,1\n")
    made = scenario.make(
        {"inventory": HOSTS, "workload": MIX | {"load": [0.001]}},
        "s.yaml",
        "/nowhere",
        inventory_file=str(hosts),
        workload_file=str(trace),
        changes={},
    )
    assert [spec.kind.name for spec in made.hosts] == ["pcie-2"]
    assert [run.label for run in made.runs] == ["load 0.001"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"colour": 1}, "s.yaml: unknown colour; known are fits, inventory"),
        ({"workload": MIX}, "s.yaml, inventory: give hosts or a file"),
        (
            {"inventory": HOSTS | {"host": 1}},
            "s.yaml, inventory: unknown host; known are columns, file",
        ),
        (
            {"inventory": HOSTS, "workload": MIX | {"load": 0}},
            "s.yaml, workload: load: must be above 0",
        ),
        (
            {"inventory": HOSTS, "workload": MIX | {"load": []}},
            "s.yaml, workload: give a load",
        ),
        (
            {"inventory": HOSTS, "workload": MIX | {"flavors": []}},
            "s.yaml, workload: no flavors",
        ),
        (
            {"inventory": HOSTS, "workload": MIX | {"arrivals": "many"}},
            "s.yaml, workload: arrivals: 'many' is not a whole number",
        ),
        (
            {
                "inventory": HOSTS,
                "workload": MIX | {"flavors": [{"gpus": 1}]},
            },
            "s.yaml, workload, flavor 1: no share",
        ),
        (
            {"inventory": HOSTS, "workload": MIX | {"distribution": "odd"}},
            "distribution: must be one of exponential, fixed",
        ),
        (
            {"inventory": HOSTS, "scheduler": {"weighers": "none"}},
            "s.yaml, scheduler: weighers: must be one of pci, all",
        ),
        (
            {"inventory": HOSTS, "fits": [{"gpus": 2, "link": "x"}]},
            "s.yaml, fits: gpu:link = 'x': must be one of",
        ),
        ({"inventory": []}, "give hosts or a file"),
        ({"inventory": [1]}, "s.yaml, inventory: must be a mapping"),
    ],
)
def test_what_makes_no_sense_is_named(data, words):
    with pytest.raises(errors.BadScenario) as bad:
        scenario.make(data, "s.yaml")
    assert words in str(bad.value)


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(errors.BadScenario, match=r"bad\.yaml"):
        _load(str(path))


@pytest.mark.parametrize(
    "name", ["hgx-fabric.yaml", "bridge-pairs.yaml", "mixed-links.yaml"]
)
def test_scenarios_that_are_shipped_can_be_loaded(name):
    made = _load(str(SHIPPED / name))
    assert made.runs
    assert made.hosts


@pytest.fixture
def openb(tmp_path):
    """Return the files of the trace; without it, of one like it."""
    return openb_trace.find_or_write(tmp_path)


@pytest.mark.parametrize("name", ["openb-whole.yaml", "openb-rounded.yaml"])
def test_the_openb_trace_is_read_with_a_topology_for_each_model(name, openb):
    made = _load(str(SHIPPED / name), *openb, {"arrivals": 20000})
    assert len(made.hosts) == 1213
    assert sum(spec.kind.gpus for spec in made.hosts) == 6212
    assert {spec.kind.name for spec in made.hosts} == {
        "dgx1-v100",
        "hgx-a100",
        "pcie-1",
        "pcie-2",
        "pcie-4",
        "pcie-switch-pairs",
        "v100-4",
    }
    assert [run.label for run in made.runs] == ["filled to 1.3", "load 1.2"]


COLUMNS = {
    "name": ("p0", "p1", "p2"),
    "num_gpu": ("1", "8", "1"),
    "gpu_milli": ("1000", "1000", "500"),
    "creation_time": ("0", "5", "9"),
    "deletion_time": ("40000", "60000", ""),
}
"""The columns of a list of pods of the openb kind that a scenario may read."""


def _write_pods(directory, *left_out, **changed):
    """Write a list of pods without some of its columns."""
    kept = {
        name: values
        for name, values in (COLUMNS | changed).items()
        if name not in left_out
    }
    lines = [",".join(kept), *map(",".join, zip(*kept.values(), strict=True))]
    path = directory / "pods.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _load_openb(name, directory, pods, **changes):
    return _load(
        str(SHIPPED / name),
        workload_file=str(pods),
        inventory_file=str(_nodes(directory)),
        changes=changes,
    )


@pytest.mark.parametrize("name", ["openb-whole.yaml", "openb-rounded.yaml"])
@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (["creation_time"], "no times of arrival (column 'creation_time')"),
        (["deletion_time"], "no times of departure (column 'deletion_time')"),
        (
            ["creation_time", "deletion_time"],
            "no times of arrival (column 'creation_time')",
        ),
    ],
)
def test_a_trace_without_times_fills_a_cloud(tmp_path, name, left_out, told):
    pods = _write_pods(tmp_path, *left_out)
    made = _load_openb(name, tmp_path, pods)
    (run,) = made.runs
    assert run.label == "filled to 1.3"
    assert {arrival.flavor.gpus for arrival in run.arrivals(100)} == {1, 8}
    assert made.left_out == [f"{pods}: {told}, so load 1.2 is left out"]


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("openb-whole.yaml", "name"),
        ("openb-rounded.yaml", "name"),
        ("openb-rounded.yaml", "gpu_milli"),
    ],
)
def test_columns_that_a_scenario_does_not_read_may_be_missing(
    tmp_path, name, left_out
):
    made = _load_openb(name, tmp_path, _write_pods(tmp_path, left_out))
    assert [run.label for run in made.runs] == ["filled to 1.3", "load 1.2"]
    assert not made.left_out


@pytest.mark.parametrize(
    ("name", "left_out", "ours"),
    [
        ("openb-whole.yaml", "num_gpu", "gpus"),
        ("openb-rounded.yaml", "num_gpu", "gpus"),
        ("openb-whole.yaml", "gpu_milli", "gpu_milli"),
    ],
)
def test_a_column_that_a_trace_must_have_is_named_with_the_cure(
    tmp_path, name, left_out, ours
):
    with pytest.raises(
        errors.BadScenario,
        match=rf"pods\.csv: no column '{left_out}'; columns are .*: write in"
        rf" the scenario which of them it is, as 'columns: {{{ours}: NAME}}'",
    ):
        _load_openb(name, tmp_path, _write_pods(tmp_path, left_out))


@pytest.mark.parametrize(
    ("column", "ours"),
    [("sn", "name"), ("gpu", "gpus"), ("model", "model")],
)
def test_a_column_that_nodes_must_have_is_named_with_the_cure(
    tmp_path, column, ours
):
    """Without models no host would have links, and nothing would say so."""
    nodes = _nodes(tmp_path)
    nodes.write_text(nodes.read_text().replace(column, "x", 1))
    with pytest.raises(
        errors.BadScenario,
        match=rf"nodes\.csv: no column '{column}'.*{{{ours}: NAME}}",
    ):
        _load(
            str(SHIPPED / "openb-whole.yaml"),
            str(nodes),
            str(_write_pods(tmp_path)),
        )


@pytest.mark.parametrize("column", ["creation_time", "deletion_time"])
def test_a_trace_without_times_cannot_be_replayed(tmp_path, column):
    data = {
        "inventory": {"hosts": [{"gpus": 8}]},
        "workload": {
            "file": str(_write_pods(tmp_path, column)),
            "columns": {
                "arrival": "creation_time",
                "departure": "deletion_time",
                "gpus": "num_gpu",
            },
        },
    }
    with pytest.raises(
        errors.BadScenario,
        match=rf"pods\.csv: no times of \w+ \(column '{column}'\), which all"
        " but filling needs: correct the file, or name the right column under"
        " columns, or give requested",
    ):
        scenario.make(data, "s.yaml")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("", "no arrival (column 'creation_time')"),
        ("x", "arrival (column 'creation_time'): 'x' is not a number"),
    ],
)
def test_one_pod_with_a_bad_time_does_not_keep_from_filling(
    tmp_path, time, words
):
    pods = _write_pods(tmp_path, creation_time=("0", time, "9"))
    made = _load_openb("openb-whole.yaml", tmp_path, pods)
    assert [run.label for run in made.runs] == ["filled to 1.3"]
    assert made.left_out == [
        f"{pods}: line 3: {words}, so load 1.2 is left out"
    ]


def test_a_trace_with_a_bad_time_cannot_be_replayed(tmp_path):
    pods = _write_pods(tmp_path, creation_time=("0", "x", "9"))
    data = {
        "inventory": {"hosts": [{"gpus": 8}]},
        "workload": {
            "file": str(pods),
            "columns": {"arrival": "creation_time", "gpus": "num_gpu"},
        },
    }
    with pytest.raises(
        errors.BadScenario,
        match=r"line 3: arrival .*'x' is not a number, which all but filling"
        " needs: correct the file",
    ):
        scenario.make(data, "s.yaml")


@pytest.mark.parametrize(
    ("fractional", "words"),
    [
        ({"treat": "drop"}, "fractional: no whole"),
        ({"whole": 1000}, "fractional: no column"),
        ({"whole": 0, "column": "gpu_milli"}, "whole: must be above 0"),
        ({"whole": "all", "column": "gpu_milli"}, "could not convert"),
        ({"treat": "halve"}, "treat: must be one of drop, round_up"),
        (["drop"], "fractional: "),
    ],
)
def test_parts_of_gpus_that_make_no_sense_are_named(
    tmp_path, fractional, words
):
    path = _write_pods(tmp_path)
    with pytest.raises(errors.BadScenario) as bad:
        workload.read_trace(str(path), {"gpus": "num_gpu"}, fractional)
    assert words in str(bad.value)


def _nodes(directory):
    path = directory / "nodes.csv"
    path.write_text("sn,gpu,model\nn0,8,A10\n")
    return path
