# SPDX-License-Identifier: Apache-2.0

"""The command nova-gpu-simulate, from arguments to what it prints."""

import json
import sys

from oslo_config import cfg
import pytest
import yaml

from nova_gpu_filter.cmd import simulate

SCENARIO = {
    "title": "a small cloud",
    "inventory": {
        "hosts": [{"machine": "hgx-h100-fabric", "model": "H100", "count": 4}]
    },
    "workload": {
        "arrivals": 60,
        "load": [1.5],
        "flavors": [
            {"gpus": 1, "share": 0.5},
            {"gpus": 4, "share": 0.5, "link": "fabric"},
        ],
    },
    "fits": [1, {"gpus": 4, "link": "fabric"}],
}


@pytest.fixture(autouse=True)
def _options_as_they_were():
    yield
    cfg.CONF.reset()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SCENARIO))
    return str(path)


def _run_json(capsys, *arguments):
    assert simulate.main([*arguments, "-f", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_holds_both_schedulers_side_by_side(path, capsys):
    found = _run_json(capsys, "--scenario", path)
    assert found["title"] == "a small cloud"
    ours, stock = found["results"]
    assert (ours["scheduler"], stock["scheduler"]) == ("gpu", "stock")
    assert ours["run"] == stock["run"] == "load 1.5"
    assert ours["satisfied"] == 1.0
    assert ours["capacity_gpus"] == 32
    assert [size["gpus"] for size in ours["sizes"]] == [1, 4]
    assert sum(size["arrived"] for size in ours["sizes"]) == 60
    refused = sum(r["servers"] for r in ours["refusals"])
    assert refused == 60 - sum(size["accepted"] for size in ours["sizes"])
    assert refused > 0
    assert ours["series"][-1]["gpus_used"] == ours["gpus_used_end"]
    assert ours["fits"] == [
        {
            "gpus": 1,
            "model": None,
            "extra_specs": {},
            "servers": 32 - ours["gpus_used_end"],
        },
        {
            "gpus": 4,
            "model": None,
            "extra_specs": {"gpu:link": "fabric"},
            "servers": ours["fits"][1]["servers"],
        },
    ]


def test_equal_seeds_give_equal_answers(path, capsys):
    first, second, other = (
        _run_json(capsys, "--scenario", path, "--seed", seed)
        for seed in ("1", "1", "2")
    )
    for found in (first, second, other):
        for result in found["results"]:
            del result["seconds"]
    assert first == second != other


def test_the_table_says_what_was_accepted_and_why_not(path, capsys):
    assert simulate.main(["--scenario", path]) == 0
    out = capsys.readouterr().out
    for words in (
        "a small cloud",
        "load 1.5   gpu",
        "load 1.5   stock",
        "100.0 %",
        "load 1.5, gpu, refused:",
        "4 GPUs gpu:link=fabric",
        "after load 1.5",
    ):
        assert words in out


def test_what_fits_now_needs_no_workload(tmp_path, capsys):
    path = tmp_path / "hosts.yaml"
    path.write_text(
        "- {name: a, machine: hgx-h100-fabric, used: [0, 2]}\n"
        "- {name: b, machine: hgx-h100-fabric}\n"
    )
    found = _run_json(
        capsys,
        "--inventory",
        str(path),
        "--fits",
        "1,2:fabric,4:fabric,8:fabric",
        "--scheduler",
        "gpu",
    )
    (result,) = found["results"]
    assert [row["servers"] for row in result["fits"]] == [14, 6, 3, 1]
    assert result["run"] == ""


def test_a_mix_can_be_typed(tmp_path, capsys):
    path = tmp_path / "hosts.csv"
    path.write_text("name,machine\na,hgx-h100-fabric\n")
    found = _run_json(
        capsys,
        *("--inventory", str(path), "--mix", "1:0.5,2:0.5:fabric"),
        *("--load", "0.5", "--load", "1", "--arrivals", "20"),
        *("--scheduler", "stock"),
    )
    assert [result["run"] for result in found["results"]] == [
        "load 0.5",
        "load 1",
    ]


def test_a_nova_conf_sets_multipliers(tmp_path, capsys):
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(
        "- {name: first, machine: pcie-2}\n"
        "- {name: used, machine: pcie-2, used: [0]}\n"
    )
    nova_conf = tmp_path / "nova.conf"
    nova_conf.write_text(
        "[filter_scheduler]\npci_weight_multiplier = 0\n"
        "gpu_fragmentation_weight_multiplier = 0\n"
    )
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival,duration,gpus\n0,9,1\n")
    left = [
        [
            row["servers"]
            for result in _run_json(
                capsys,
                *("--inventory", str(hosts), "--workload", str(trace)),
                *("--fits", "2", *more),
            )["results"]
            for row in result["fits"]
        ]
        for more in ((), ("--config-file", str(nova_conf)))
    ]
    # Without weights the first host is taken, and its pair is gone.
    assert left == [[1, 1], [0, 0]]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_plot_is_drawn(path, tmp_path, ending, capsys):
    picture = tmp_path / f"curves.{ending}"
    assert simulate.main(["--scenario", path, "--plot", str(picture)]) == 0
    start = picture.read_bytes()[:500]
    assert (b"\x89PNG" if ending == "png" else b"<svg") in start


def test_without_matplotlib_a_plot_says_what_to_install(
    path, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = tmp_path / "curves.png"
    assert simulate.main(["--scenario", path, "--plot", str(picture)]) == 3
    assert (
        "pip install 'nova-gpu-filter[simulate,plot]'"
        in capsys.readouterr().err
    )
    assert not picture.exists()


def test_a_picture_format_that_is_unknown_is_named(path, tmp_path, capsys):
    picture = tmp_path / "curves.abc"
    assert simulate.main(["--scenario", path, "--plot", str(picture)]) == 3
    assert "curves.abc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --scenario, --inventory or --placement"),
        (["--inventory", "h", "--placement", "A"], "not both"),
        (["--inventory", "hosts.yaml", "--load", "1"], "need a workload"),
        (["--inventory", "hosts.yaml"], "nothing to do"),
        (["--inventory", "nowhere.yaml", "--fits", "1"], "nowhere.yaml: "),
        (["--inventory", "hosts.yaml", "--mix", "1"], "--mix: '1' is no fl"),
        (
            ["--inventory", "hosts.yaml", "--fits", "2:warp"],
            "--fits: 'warp' is no link: must be one of fabric",
        ),
        (["--inventory", "hosts.yaml", "--mix", "1:1"], "give a load"),
        (["--scenario", "list.yaml"], "list.yaml: must be a mapping"),
        (["--color"], "--help"),
    ],
)
def test_wrong_usage_and_bad_input_exit_with_3_and_one_line(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yaml").write_text("- {machine: pcie-2}\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    try:
        code = simulate.main(arguments)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 3
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"gpu_filter": {"candidates_to_try": "abc"}},
        {"gpu_filter": {"candidates_to_try": [1]}},
        {"gpu_filter": {"nothing": 1}},
        {"gpu_filter": {5: 1}},
        {"gpu_filter": 5},
        {"gpu_filter": {"request_mix": 5}},
        {"gpu_filter": {"request_mix": {"1": "nan"}}},
        {"filter_scheduler": {"enabled_filters": 5}},
        {"filter_scheduler": {"weight_classes": [".a"]}},
        {"filter_scheduler": {"weight_classes": ["no.such.module"]}},
        {"\x1b[2J": {"x": 1}},
        {5: {"x": 1}},
    ],
    ids=str,
)
def test_an_option_that_is_none_ends_in_one_line(tmp_path, capsys, options):
    path = tmp_path / "x.yaml"
    path.write_text(
        yaml.safe_dump({**SCENARIO, "scheduler": {"options": options}})
    )
    assert simulate.main(["--scenario", str(path), "-q"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_workload_that_is_none_ends_in_one_line(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, "workload": "x"}))
    arguments = ["--scenario", str(path), "--mix", "1:1", "--load", "1"]
    assert simulate.main(arguments) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.yaml, workload: must be a mapping" in line


def test_a_nova_conf_that_is_none_ends_in_one_line(path, tmp_path, capsys):
    conf = tmp_path / "nova.conf"
    conf.write_bytes(b"# \xff")
    for file in (str(conf), "/dev/zero"):
        arguments = ["--scenario", path, "--config-file", file]
        assert simulate.main(arguments) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{file}: " in line


def test_device_specs_of_a_nova_conf_are_of_another_host(
    path, tmp_path, capsys
):
    conf = tmp_path / "nova.conf"
    conf.write_text("[pci]\ndevice_spec = {\n")
    assert _run_json(capsys, "--scenario", path, "--config-file", str(conf))


def test_more_arrivals_than_can_be_held_are_refused(path, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival,duration,gpus\n0,5,2\n1,5,2\n")
    for number in ("1000001", "9" * 40):
        arguments = ["--scenario", path, "--workload", str(trace)]
        assert simulate.main([*arguments, "--arrivals", number]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert "arrivals: must be at most" in line
