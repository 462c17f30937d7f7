# SPDX-License-Identifier: Apache-2.0

"""Servers made of a mix, and servers of a trace."""

import math

import pytest

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy

ONE = workload.Flavor(1)
EIGHT = workload.Flavor(8)


def _mean_gpus(arrivals):
    """GPUs that servers have on average until the last one arrives."""
    end = arrivals[-1].time
    return (
        sum(a.flavor.gpus * min(a.duration, end - a.time) for a in arrivals)
        / end
    )


@pytest.mark.parametrize("distribution", workload.DISTRIBUTIONS)
@pytest.mark.parametrize("load", [0.5, 1.2])
def test_a_mix_asks_for_the_load_that_is_wanted(distribution, load):
    mix = workload.Mix(((ONE, 0.8), (EIGHT, 0.2)), 20000, 3.0, distribution)
    arrivals = mix.draw(100, load, seed=1)
    assert len(arrivals) == 20000
    assert _mean_gpus(arrivals) == pytest.approx(100 * load, rel=0.05)


def test_the_same_servers_come_with_each_load_only_faster():
    mix = workload.Mix(((ONE, 0.5), (EIGHT, 0.5)), 50)
    slow, fast = mix.draw(100, 0.5, seed=1), mix.draw(100, 1.0, seed=1)
    assert [(a.duration, a.flavor) for a in slow] == [
        (a.duration, a.flavor) for a in fast
    ]
    assert [a.time for a in slow] == pytest.approx([2 * a.time for a in fast])
    assert mix.draw(100, 0.5, seed=2) != slow


def test_shares_are_weights_among_the_arrivals():
    mix = workload.Mix(((ONE, 3), (EIGHT, 1)), 4000)
    ones = sum(a.flavor is ONE for a in mix.draw(100, 1, seed=1))
    assert ones == pytest.approx(3000, rel=0.05)


TRACE = workload.Trace(
    (
        workload.Arrival(5, 100, ONE),
        workload.Arrival(10, 1000, ONE),
        workload.Arrival(20, 10, EIGHT),
    )
)


@pytest.mark.parametrize("load", [0.3, 2.0])
def test_a_trace_can_be_drawn_from_until_it_has_a_load(load):
    arrivals = TRACE.draw_at_load(100, load, arrivals=300, seed=1)
    assert len(arrivals) == 300
    assert _mean_gpus(arrivals) == pytest.approx(100 * load, rel=0.001)


def test_a_load_that_so_few_servers_never_ask_for_is_refused():
    with pytest.raises(ValueError, match="3 servers have between"):
        TRACE.draw_at_load(1000, 1.0, arrivals=3, seed=1)


def test_servers_that_all_stay_never_have_a_load():
    stay = workload.Trace((workload.Arrival(5, math.inf, ONE),) * 9)
    with pytest.raises(ValueError, match="give requested in place of load"):
        stay.draw_at_load(4, 1.0, arrivals=9, seed=1)


def test_a_trace_can_fill_a_cloud_with_servers_that_stay():
    arrivals = TRACE.fill(100, 1.3, seed=1)
    asked = [a.flavor.gpus for a in arrivals]
    assert sum(asked[:-1]) < 130 <= sum(asked)
    assert {a.duration for a in arrivals} == {math.inf}
    assert set(asked) == {1, 8}


def _read(tmp_path, text, **kwargs):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return workload.read_trace(str(path), kwargs.pop("columns", {}), **kwargs)


def test_a_trace_is_read_by_time(tmp_path):
    trace = _read(
        tmp_path,
        "arrival,duration,gpus,model,link,link_policy\n"
        "9,1,2,H100,nvlink,preferred\n"
        "3,,1,,,\n"
        "4,5,0,,,\n",
    )
    assert list(trace.arrivals) == [
        workload.Arrival(3, math.inf, ONE),
        workload.Arrival(
            9,
            1,
            workload.Flavor(
                2, "H100", LinkPolicy(Requirement.NVLINK, required=False)
            ),
        ),
    ]


def test_a_trace_of_a_spreadsheet_is_read(tmp_path):
    trace = _read(tmp_path, "\ufeffarrival,duration,gpus\r\n1,2,1\r\n")
    assert list(trace.arrivals) == [workload.Arrival(1, 2, ONE)]


def test_a_trace_without_a_column_of_gpus_is_refused(tmp_path):
    with pytest.raises(errors.BadScenario, match="no column 'gpus'; columns"):
        _read(tmp_path, "arrival,duration,num_gpu\n0,1,1\n")


@pytest.mark.parametrize(
    ("treat", "expected"), [("drop", [4]), ("round_up", [1, 4])]
)
def test_servers_with_a_part_of_a_gpu_are_dropped_or_get_one(
    tmp_path, treat, expected
):
    trace = _read(
        tmp_path,
        "begin,end,gpus,milli\n1,2,1,500\n3,9,4,1000\n5,6,0,0\n",
        columns={"arrival": "begin", "departure": "end"},
        fractional={"column": "milli", "whole": 1000, "treat": treat},
    )
    assert [a.flavor.gpus for a in trace.arrivals] == expected
    assert trace.arrivals[-1].duration == 6


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,-4,", "gpus: must be 1 or more"),
        ("1,2,one,", "gpus: 'one' is not a whole number"),
        ("1,2,1.5,", "gpus: '1.5' is not a whole number"),
        ("1,2,nan,", "gpus: 'nan' is not a whole number"),
        ("1,2,1,sli", "gpu:link = 'sli': must be one of fabric"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path, line, words):
    with pytest.raises(errors.BadScenario, match=r"csv, line 3: ") as bad:
        _read(tmp_path, f"arrival,duration,gpus,link\n0,1,1,\n{line}\n")
    assert words in str(bad.value)


@pytest.mark.parametrize("gpus", ["2", "2.0", " 2 ", "2e0"])
def test_whole_numbers_of_gpus_are_read_however_written(tmp_path, gpus):
    trace = _read(tmp_path, f"arrival,duration,gpus\n0,1,{gpus}\n0,1,0.0\n")
    assert list(trace.arrivals) == [workload.Arrival(0, 1, workload.Flavor(2))]


def test_a_bad_number_is_named_with_its_column(tmp_path):
    with pytest.raises(errors.BadScenario) as bad:
        _read(tmp_path, "num_gpu\none\n", columns={"gpus": "num_gpu"})
    assert str(bad.value).endswith(
        "csv, line 2: gpus (column 'num_gpu'): 'one' is not a whole number"
    )


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ("1,-2", "line 3: arrival and duration: must be numbers from 0 on"),
        ("1,x", "line 3: duration: 'x' is not a number"),
        ("nan,2", "line 3: arrival and duration: must be numbers from 0 on"),
        (",2", "line 3: no arrival"),
    ],
)
def test_a_trace_with_bad_times_can_still_fill_a_cloud(tmp_path, times, words):
    trace = _read(tmp_path, f"arrival,duration,gpus\n0,1,1\n{times},1\n")
    assert trace.missing == words
    assert len(trace.fill(4, requested=1.0, seed=1)) == 4


def test_a_trace_without_gpus_is_refused(tmp_path):
    with pytest.raises(errors.BadScenario, match="no servers with GPUs"):
        _read(tmp_path, "arrival,duration,gpus\n0,1,0\n")


@pytest.mark.parametrize(
    ("flavor", "specs"),
    [
        (ONE, {}),
        (
            workload.Flavor(2, None, LinkPolicy(Requirement.PIX)),
            {"gpu:link": "pix"},
        ),
        (
            workload.Flavor(2, None, LinkPolicy(Requirement.PIX, False)),
            {"gpu:link": "pix", "gpu:link_policy": "preferred"},
        ),
    ],
)
def test_extra_specs_say_the_link_policy(flavor, specs):
    assert flavor.extra_specs == specs
