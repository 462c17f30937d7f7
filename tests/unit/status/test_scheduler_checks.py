# SPDX-License-Identifier: Apache-2.0

from importlib import metadata

import pytest
from stevedore import extension

from nova_gpu_filter.scheduler import filters
from nova_gpu_filter.scheduler import weights
from nova_gpu_filter.status import scheduler_checks
from nova_gpu_filter.status.results import Code
from tests.unit.status.conftest import expect

AVAILABLE = """
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_gpu_filter.scheduler.filters.all_filters
"""
WEIGHERS = (
    "weight_classes = nova.scheduler.weights.all_weighers,"
    "nova_gpu_filter.scheduler.weights.all_weighers\n"
)


def options(*lines):
    """Write the section of the scheduler."""
    return "[filter_scheduler]\n" + "\n".join(lines) + "\n"


def enabled(*names):
    """Write a section with our filters available and some enabled."""
    return options(AVAILABLE, f"enabled_filters = {','.join(names)}")


@pytest.fixture
def broken(monkeypatch):
    """Return a function that puts a broken entry point into a namespace."""

    def put(namespace):
        monkeypatch.setitem(
            extension.ExtensionManager.ENTRY_POINT_CACHE,
            namespace,
            [metadata.EntryPoint("Broken", "no_such_module:X", namespace)],
        )

    return put


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        pytest.param(
            enabled("ComputeFilter", "GpuPciPassthroughFilter"),
            Code.SUCCESS,
            None,
            id="as documented",
        ),
        pytest.param(
            options(
                "available_filters = nova.scheduler.filters.all_filters",
                "enabled_filters = GpuPciPassthroughFilter",
            ),
            Code.FAILURE,
            "add the line available_filters ="
            " nova_gpu_filter.scheduler.filters.all_filters",
            id="not available",
        ),
        pytest.param(
            enabled("GpuPciPassthroughFilter", "MineFilter"),
            Code.FAILURE,
            "enabled_filters names MineFilter, which available_filters does"
            " not provide",
            id="a filter of somebody else is not available",
        ),
        pytest.param(
            enabled("PciPassthroughFilter"),
            Code.WARNING,
            "write GpuPciPassthroughFilter in its place",
            id="Nova's own filter decides",
        ),
        pytest.param(
            enabled("ComputeFilter"),
            Code.FAILURE,
            "has no GpuPciPassthroughFilter: add it",
            id="no filter looks at devices",
        ),
        pytest.param(
            options("available_filters = no_such_module.all_filters"),
            Code.FAILURE,
            "available_filters cannot be loaded, and nova-scheduler does not"
            " start",
            id="a module that is not installed",
        ),
    ],
)
def test_the_filter_is_enabled_and_can_be_loaded(make_node, text, code, words):
    result = scheduler_checks.check_filter(make_node(text))
    expect(result, code, words)


def test_a_filter_that_cannot_be_imported_is_named(make_node, broken):
    broken(filters.NAMESPACE)
    node = make_node(enabled("GpuPciPassthroughFilter"))
    result = scheduler_checks.check_filter(node)
    assert result.code is Code.FAILURE
    assert "no_such_module:X" in result.details


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        pytest.param(
            ("GpuPciPassthroughFilter", "NUMATopologyFilter"),
            Code.SUCCESS,
            None,
            id="ours first",
        ),
        pytest.param(
            ("GpuPciPassthroughFilter",),
            Code.SUCCESS,
            None,
            id="no NUMATopologyFilter",
        ),
        pytest.param(
            ("NUMATopologyFilter", "GpuPciPassthroughFilter"),
            Code.WARNING,
            "put GpuPciPassthroughFilter first",
            id="NUMATopologyFilter first",
        ),
        pytest.param(
            ("GpuPciPassthroughFilter", "PciPassthroughFilter"),
            Code.SUCCESS,
            "harmless, but every host is asked twice",
            id="Nova's own as well",
        ),
        pytest.param(
            ("NUMATopologyFilter",),
            Code.SUCCESS,
            "Does not apply",
            id="ours is not enabled",
        ),
    ],
)
def test_our_filter_stands_before_numa_topology_filter(
    make_node, names, code, words
):
    result = scheduler_checks.check_order(make_node(enabled(*names)))
    expect(result, code, words)


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        pytest.param((WEIGHERS,), Code.SUCCESS, None, id="as documented"),
        pytest.param(
            (),
            Code.WARNING,
            "without GpuFragmentationWeigher and GpuTopologyWeigher, so",
            id="Nova's own only",
        ),
        pytest.param(
            (
                "weight_classes = nova_gpu_filter.scheduler.weights"
                ".gpu_topology.GpuTopologyWeigher",
            ),
            Code.WARNING,
            "without GpuFragmentationWeigher, so",
            id="one of them",
        ),
        pytest.param(
            (WEIGHERS, "gpu_topology_weight_multiplier = 0"),
            Code.SUCCESS,
            "[filter_scheduler]gpu_topology_weight_multiplier is 0",
            id="one is turned off",
        ),
        pytest.param(
            ("weight_classes = no_such_module.all_weighers",),
            Code.FAILURE,
            "weight_classes cannot be loaded",
            id="a module that is not installed",
        ),
    ],
)
def test_the_weighers_take_part(make_node, lines, code, words):
    result = scheduler_checks.check_weighers(make_node(options(*lines)))
    expect(result, code, words)


OURS = enabled("GpuPciPassthroughFilter")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        pytest.param(OURS + WEIGHERS, Code.SUCCESS, None, id="as documented"),
        pytest.param(
            OURS, Code.WARNING, "without GpuFurtherSetWeigher", id="stock's"
        ),
        pytest.param(
            OURS + WEIGHERS + "host_subset_size = 3",
            Code.SUCCESS,
            "where a later filter leaves fewer hosts, a server may get",
            id="a random host of three",
        ),
        pytest.param(
            OURS + WEIGHERS + "[gpu_filter]\ncandidates_to_try = 0",
            Code.SUCCESS,
            "candidates_to_try is 0",
            id="turned off",
        ),
        pytest.param(
            enabled("ComputeFilter"), Code.SUCCESS, "Does not apply", id="no"
        ),
        pytest.param(
            OURS + "weight_classes = no_such_module.all_weighers",
            Code.SUCCESS,
            "cannot be loaded, see above",
            id="a module that is not installed",
        ),
    ],
)
def test_what_follows_a_lost_claim(make_node, text, code, words):
    result = scheduler_checks.check_lost_claims(make_node(text))
    expect(result, code, words)


def test_a_weigher_that_cannot_be_imported_is_named(make_node, broken):
    broken(weights.NAMESPACE)
    result = scheduler_checks.check_weighers(make_node(options(WEIGHERS)))
    assert result.code is Code.FAILURE
    assert "no_such_module:X" in result.details


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", Code.SUCCESS, None),
        ("pool_matcher = nova", Code.SUCCESS, None),
        (
            "pool_matcher = fastest",
            Code.FAILURE,
            "[gpu_filter]pool_matcher = fastest: no such pool matcher",
        ),
        ("request_mix = one:1", Code.FAILURE, "[gpu_filter]request_mix"),
    ],
)
def test_the_matcher_can_be_loaded(make_node, line, code, words):
    result = scheduler_checks.check_matcher(
        make_node(f"[gpu_filter]\n{line}\n")
    )
    expect(result, code, words)


def test_nova_api_finds_our_extra_specs(make_node):
    result = scheduler_checks.check_validators(make_node())
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_extra_specs_that_nova_api_would_not_know_are_missed(
    make_node, monkeypatch
):
    monkeypatch.setattr(
        scheduler_checks.metadata,
        "entry_points",
        lambda group: [metadata.EntryPoint("others", "others.specs", group)],
    )
    result = scheduler_checks.check_validators(make_node())
    assert result.code is Code.FAILURE
    assert "takes every value of gpu:link and gpu:link_policy" in (
        result.details
    )
