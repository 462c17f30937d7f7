# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.status import devices
from nova_gpu_filter.status import limits
from nova_gpu_filter.status import survey
from nova_gpu_filter.status.results import Code
from tests.unit.fleet import builders
from tests.unit.status.conftest import expect

ALL = survey.PROBES
CONF = f"""
[filter_scheduler]
pci_in_placement = true
[pci]
alias = {{"name": "h100", "resource_class": "{builders.H100}"}}
"""


def plain(name, count, resource_class=builders.H100):
    """Make a host whose devices have no links in Placement."""
    return builders.host(
        name,
        [
            builders.device(name, bus, resource_class=resource_class)
            for bus in builders.BUSES[:count]
        ],
    )


@pytest.fixture
def surveyed(make_node):
    """Return a function that makes a node of what Placement told."""

    def make(hosts, composed=0, text=CONF, **fields):
        node = make_node(text, **fields)
        vars(node)["survey"] = survey.Survey(tuple(hosts), composed)
        return node

    return make


@pytest.fixture
def placement_conf(tmp_path):
    """Return a function that writes a placement.conf, unless it gets None."""

    def write(text):
        if text is None:
            return None
        path = tmp_path / "placement.conf"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("gpus", "composed", "code", "words"),
    [
        (8, ALL, Code.SUCCESS, None),
        (8, 0, Code.WARNING, "have its WSGI server run"),
        (2, 0, Code.WARNING, "have its WSGI server run"),
        (8, 1, Code.WARNING, "Of 4 answers of Placement, 1 came with"),
        (1, 0, Code.SUCCESS, "needs none"),
        (1, 3, Code.WARNING, "some of its APIs run without"),
    ],
)
def test_the_extension_answers_where_it_is_needed(
    surveyed, gpus, composed, code, words
):
    result = devices.check_extension(surveyed([plain("a", gpus)], composed))
    assert result.code is code
    if words is None:
        assert result.details is None
    else:
        assert words in result.details


def test_an_extension_that_is_turned_off_is_told_so(surveyed, tmp_path):
    path = tmp_path / "placement.conf"
    path.write_text("[gpu_filter]\nmax_sets_per_tree = 0\n")
    node = surveyed([plain("a", 8)], placement_conf=str(path))
    result = devices.check_extension(node)
    assert result.code is Code.WARNING
    assert "[gpu_filter]max_sets_per_tree = 0" in result.details


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("request_mix = 2:1, 4:1\n", Code.SUCCESS, None),
        ("request_mix = 4:2, 2:2\n", Code.SUCCESS, None),
        ("", Code.WARNING, "request_mix is another in nova.conf than in"),
        ("request_mix = x\n", Code.WARNING, "--placement-conf: "),
    ],
)
def test_the_extension_expects_what_the_scheduler_expects(
    surveyed, tmp_path, text, code, words
):
    path = tmp_path / "placement.conf"
    path.write_text(f"[gpu_filter]\n{text}")
    node = surveyed(
        [plain("a", 8)],
        ALL,
        text=f"{CONF}[gpu_filter]\nrequest_mix = 2:1,4:1\n",
        placement_conf=str(path),
    )
    result = devices.check_extension(node)
    expect(result, code, words)


@pytest.mark.parametrize(
    ("gpus", "composed", "text", "code", "words"),
    [
        pytest.param(
            8, ALL, None, Code.SUCCESS, "The extension answers", id="ours"
        ),
        pytest.param(
            4, 0, None, Code.SUCCESS, "Not needed", id="four GPUs a host"
        ),
        pytest.param(
            5,
            0,
            None,
            Code.WARNING,
            "Hosts have up to 5 devices",
            id="five GPUs a host",
        ),
        pytest.param(
            8,
            1,
            None,
            Code.WARNING,
            "--placement-conf FILE lets this command check it",
            id="one API of several",
        ),
        pytest.param(
            8,
            0,
            "[placement]\nmax_allocation_candidates = 500\n",
            Code.WARNING,
            "Write [workarounds]optimize_for_wide_provider_trees = true and"
            " [placement]allocation_candidates_generation_strategy ="
            " breadth-first in ",
            id="one of three",
        ),
        pytest.param(
            8,
            0,
            "no configuration\n",
            Code.WARNING,
            "--placement-conf: ",
            id="a file of another kind",
        ),
    ],
)
def test_placement_has_limits_where_it_needs_them(
    surveyed, placement_conf, gpus, composed, text, code, words
):
    node = surveyed(
        [plain("a", 1), plain("b", gpus)],
        composed,
        placement_conf=placement_conf(text),
    )
    result = devices.check_limits(node)
    assert result.code is code
    assert words in result.details


def test_all_three_options_are_named_where_no_file_can_be_read(surveyed):
    result = devices.check_limits(surveyed([plain("a", 8)]))
    assert all(cure in result.details for cure in limits.CURE.values())


@pytest.mark.parametrize(
    ("gpus", "composed", "text", "code", "words"),
    [
        pytest.param(
            8, ALL, None, Code.SUCCESS, "The extension sees", id="ours"
        ),
        pytest.param(
            8,
            ALL,
            "[placement]\n",
            Code.SUCCESS,
            "The extension sees",
            id="ours, tries by default",
        ),
        pytest.param(
            8,
            ALL,
            "no configuration\n",
            Code.SUCCESS,
            "The extension sees",
            id="ours, unreadable",
        ),
        pytest.param(
            8,
            ALL,
            "[placement]\nallocation_conflict_retry_count = 1\n",
            Code.WARNING,
            "take [placement]allocation_conflict_retry_count out of ",
            id="ours, stock's remedy left over",
        ),
        pytest.param(
            0, 0, None, Code.SUCCESS, "no devices", id="nothing to give"
        ),
        pytest.param(
            1,
            0,
            None,
            Code.WARNING,
            "--placement-conf FILE lets this command check it",
            id="one GPU a host, unknown options",
        ),
        pytest.param(
            8,
            3,
            "[placement]\n",
            Code.WARNING,
            "Write [placement]allocation_conflict_retry_count = 1 in ",
            id="one API of several without it",
        ),
        pytest.param(
            8,
            0,
            "[placement]\nallocation_conflict_retry_count = 1\n",
            Code.SUCCESS,
            None,
            id="stock, one try",
        ),
        pytest.param(
            8,
            0,
            "[gpu_filter]\nmax_sets_per_tree = 0\n",
            Code.SUCCESS,
            "composes no answers",
            id="ours, turned off",
        ),
        pytest.param(
            8, 0, "no configuration\n", Code.WARNING, "--placement-conf: "
        ),
    ],
)
def test_placement_gives_no_device_twice(
    surveyed, placement_conf, gpus, composed, text, code, words
):
    result = devices.check_races(
        surveyed(
            [plain("a", gpus)] if gpus else [],
            composed,
            placement_conf=placement_conf(text),
        )
    )
    assert result.code is code, result.details
    assert result.details is words or words in result.details


def test_hosts_with_links_are_fine(surveyed):
    node = surveyed([builders.machine("a"), builders.machine("b")])
    result = devices.check_links(node)
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_hosts_without_links_are_named(surveyed):
    node = surveyed(
        [plain(name, 8) for name in "abcde"] + [builders.machine("f")]
    )
    result = devices.check_links(node)
    assert result.code is Code.WARNING
    assert "not known on a, b, c and 2 more hosts" in result.details
    assert "nova-gpu-host config" in result.details


@pytest.mark.parametrize(
    ("gpus", "resource_class"),
    [
        pytest.param(1, builders.H100, id="one device has no links"),
        pytest.param(8, "CUSTOM_NIC", id="no alias asks for them"),
    ],
)
def test_devices_that_need_no_links_are_passed_over(
    surveyed, gpus, resource_class
):
    node = surveyed([plain("a", gpus, resource_class)])
    result = devices.check_links(node)
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_links_that_cannot_be_read_are_named(surveyed):
    host = builders.host(
        "a",
        [
            builders.device("a", bus, traits=("CUSTOM_GPU_LINK_WARP_0",))
            for bus in builders.BUSES[:2]
        ],
    )
    result = devices.check_links(surveyed([host]))
    assert result.code is Code.WARNING
    assert "on a cannot be read" in result.details
    assert "CUSTOM_GPU_LINK_WARP_0" in result.details


def test_good_limits_are_enough(surveyed, tmp_path):
    path = tmp_path / "placement.conf"
    lines = []
    for cure in limits.CURE.values():
        group, _, line = cure.partition("]")
        lines += [f"{group}]", line]
    path.write_text("\n".join(lines))
    node = surveyed([plain("a", 8)], placement_conf=str(path))
    result = devices.check_limits(node)
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_aliases_that_cannot_be_read_are_left_to_their_own_check(surveyed):
    node = surveyed([plain("a", 8)], text="[pci]\nalias = x\n")
    assert "Does not apply" in devices.check_links(node).details


@pytest.mark.parametrize(
    ("owners", "code", "words"),
    [
        ([()], Code.SUCCESS, None),
        ([("OWNER_NOVA",)], Code.SUCCESS, None),
        ([("OWNER_CYBORG",)], Code.FAILURE, "manages a_0000:1B:00.0, and"),
        (
            [("OWNER_CYBORG",)] * 5,
            Code.FAILURE,
            "a_0000:52:00.0 and 2 more devices, and Cyborg",
        ),
    ],
)
def test_a_device_has_one_owner(surveyed, owners, code, words):
    found = [
        builders.device("a", bus, traits=traits)
        for bus, traits in zip(builders.BUSES, owners, strict=False)
    ]
    result = devices.check_owners(surveyed([builders.host("a", found)]))
    assert result.code is code
    assert words is None or words in result.details
