# SPDX-License-Identifier: Apache-2.0

"""The extension against stock Placement, on random small clouds.

Stock Placement enumerates everything there. Ours must be a part of it that
covers the same trees, and all of it, up to permutation of equal groups, when
every set is asked for.
"""

import collections
import dataclasses
import os
import random

from demo import threads  # noqa: F401

# isort: split

import hypothesis
from hypothesis import strategies as st
import pytest

from tests.functional.placement import service
from tests.functional.placement import worlds

_CASES_ASKED = "HYPOTHESIS_PLACEMENT_CASES"
"""How many cases to try in the place of the same 40 each time."""

_SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=_CASES_ASKED not in os.environ,
    max_examples=int(os.environ.get(_CASES_ASKED, "40")),
    suppress_health_check=list(hypothesis.HealthCheck),
)

_CASES = st.integers(0, (1 << 64) - 1).map(worlds.case)
"""Each from a seed: what hypothesis itself would draw resembles its last case
too much."""

seen: collections.Counter[str] = collections.Counter()
"""How often the extension composed, and how often there was something."""


@pytest.fixture(scope="module", autouse=True)
def _was_put_to_the_test():
    """Fail if nearly everything was passed through, or had no answer."""
    yield
    if seen["asked"] >= 100:
        assert seen["composed"] > seen["asked"] / 2, seen
        assert seen["not empty"] > seen["asked"] / 4, seen


@pytest.fixture(scope="module")
def placement(placement):
    """A Placement that knows all traits and resource classes."""
    for trait in worlds.TRAITS:
        placement.create_trait(trait)
    for rc in worlds.DEVICE_CLASSES:
        placement.stock(f"/resource_classes/{rc}", method="PUT")
    return placement


def _ask(placement, query, max_sets, **others):
    """Return (stock's answer, ours); ours is composed."""
    placement.set_option("max_sets_per_tree", max_sets, "gpu_filter")
    path = f"/allocation_candidates?{query.text(**others)}"
    stock = placement.stock(f"/allocation_candidates?{query.text()}")
    ours = placement.ours(path)
    assert stock.status == 200, stock.body
    assert ours.status == 200, ours.body
    seen["asked"] += 1
    seen["composed"] += ours.is_composed
    seen["not empty"] += ours.is_composed and bool(
        ours.json["allocation_requests"]
    )
    hypothesis.event(f"composed: {ours.is_composed}")
    hypothesis.assume(ours.is_composed)
    return stock.json, ours.json


def _roots(answer, query):
    """The trees that give the devices of an answer."""
    return {
        _root(answer, candidate, query)
        for candidate in answer["allocation_requests"]
    }


def _root(answer, candidate, query):
    """The tree that gives the devices of a candidate."""
    [provider] = candidate["mappings"][query.classes[0][0]]
    return answer["provider_summaries"][provider]["root_provider_uuid"]


@_SETTINGS
@hypothesis.given(case=_CASES)
def test_all_sets_are_all_that_stock_has(placement, case):
    world, query = case
    placement.replace_providers(world)
    stock, ours = _ask(placement, query, max_sets=-1)
    assert ours["provider_summaries"] == stock["provider_summaries"]
    candidates = ours["allocation_requests"]
    assert {worlds.exact(c) for c in candidates} <= {
        worlds.exact(c) for c in stock["allocation_requests"]
    }
    distinct = [worlds.canonical(c, query.classes) for c in candidates]
    assert len(distinct) == len(set(distinct))
    assert set(distinct) == {
        worlds.canonical(c, query.classes)
        for c in stock["allocation_requests"]
    }


@_SETTINGS
@hypothesis.example(case=worlds.case(38819261), max_sets=1)
@hypothesis.given(
    case=_CASES,
    max_sets=st.integers(1, 4),
)
def test_few_sets_are_sets_of_stock_and_cover_every_tree(
    placement, case, max_sets
):
    world, query = case
    placement.replace_providers(world)
    stock, ours = _ask(placement, query, max_sets)
    assert ours["provider_summaries"] == stock["provider_summaries"]
    candidates = ours["allocation_requests"]
    assert {worlds.exact(c) for c in candidates} <= {
        worlds.exact(c) for c in stock["allocation_requests"]
    }
    assert _roots(ours, query) == _roots(stock, query)
    distinct = {worlds.canonical(c, query.classes) for c in candidates}
    assert len(distinct) == len(candidates)


def _on_nodes(world, rng):
    """Put the devices of a world on two NUMA nodes, and tell of some.

    :returns: (the world with traits that tell nodes, provider UUID -> node).
    """
    told = rng.choice((0.0, 0.8, 1.0))
    nodes = {}
    found = []
    for provider in world:
        if "-device" in provider.name:
            node = nodes[service.provider_uuid(provider.name)] = rng.choice(
                ("0", "1")
            )
            traits = {t for t in provider.traits if "GPU_LINK" not in t}
            if rng.random() < told:
                traits.add(f"CUSTOM_GPU_LINK_NODE_{node}")
            provider = dataclasses.replace(provider, traits=tuple(traits))
        found.append(provider)
    return found, nodes


@_SETTINGS
@hypothesis.given(
    case=_CASES,
    max_sets=st.integers(1, 4),
    seed=st.integers(0, 1 << 32),
)
def test_nodes_that_serve_with_stock_serve_with_us(
    placement, case, max_sets, seed
):
    """What NUMATopologyFilter could let pass, it is offered."""
    world, query = case
    world, nodes = _on_nodes(world, random.Random(seed))
    placement.replace_providers(world)
    stock, ours = _ask(placement, query, max_sets)

    def nodes_used(answer):
        return {
            frozenset(
                nodes.get(provider, provider)
                for suffix, found in candidate["mappings"].items()
                if suffix
                for provider in found
            )
            | {_root(answer, candidate, query)}
            for candidate in answer["allocation_requests"]
        }

    offered = nodes_used(ours)
    for wanted in nodes_used(stock):
        assert any(found <= wanted for found in offered), wanted


@_SETTINGS
@hypothesis.given(
    case=_CASES,
    limit=st.integers(1, 5),
)
def test_a_limit_is_kept_and_shared_by_the_trees(placement, case, limit):
    world, query = case
    placement.replace_providers(world)
    stock, ours = _ask(placement, query, max_sets=-1, limit=limit)
    candidates = ours["allocation_requests"]
    there_are = {
        worlds.canonical(c, query.classes)
        for c in stock["allocation_requests"]
    }
    assert {
        worlds.canonical(c, query.classes) for c in candidates
    } <= there_are
    roots = _roots(ours, query)
    assert len(candidates) == min(limit, len(there_are))
    assert len(roots) == min(limit, len(_roots(stock, query)))
    used = {p for c in candidates for p in c["allocations"]}
    roots_used = {
        ours["provider_summaries"][p]["root_provider_uuid"] for p in used
    }
    assert ours["provider_summaries"] == {
        provider: summary
        for provider, summary in stock["provider_summaries"].items()
        if summary["root_provider_uuid"] in roots_used
    }


@_SETTINGS
@hypothesis.given(
    case=_CASES,
    max_sets=st.sampled_from((2, -1)),
)
def test_every_candidate_can_be_claimed(placement, case, max_sets):
    world, query = case
    placement.replace_providers(world)
    _, ours = _ask(placement, query, max_sets)
    for candidate in ours["allocation_requests"][:6]:
        consumer = placement.allocate(candidate)
        assert placement.allocations(consumer) == candidate["allocations"]
        placement.free(consumer)


@pytest.fixture
def limit_candidates(placement):
    """Give a function that limits what Placement answers by itself."""

    def limit(most):
        placement.set_option(_LIMIT, most, "placement")
        placement.set_option(
            "allocation_candidates_generation_strategy",
            "breadth-first" if most >= 0 else "depth-first",
            "placement",
        )

    yield limit
    limit(-1)


_LIMIT = "max_allocation_candidates"


@_SETTINGS
@hypothesis.given(case=_CASES, most=st.sampled_from((1, 3, 1000)))
def test_where_placement_is_limited_we_are(
    placement, limit_candidates, case, most
):
    """Of few ways to serve the groups in no class, all sets are reached."""
    world, query = case
    placement.replace_providers(world)
    placement.set_option("max_sets_per_tree", -1, "gpu_filter")
    path = f"/allocation_candidates?{query.text()}"
    limit_candidates(-1)
    stock = placement.stock(path).json
    limit_candidates(most)
    response = placement.ours(path)
    assert response.status == 200
    # Placement's own answer within a limit can have a candidate that its
    # answer without one lacks, and that can be claimed (seed 1193213).
    hypothesis.assume(response.is_composed)
    ours = response.json
    candidates = ours["allocation_requests"]
    assert {worlds.exact(c) for c in candidates} <= {
        worlds.exact(c) for c in stock["allocation_requests"]
    }
    there_are = {
        worlds.canonical(c, query.classes)
        for c in stock["allocation_requests"]
    }
    found = {worlds.canonical(c, query.classes) for c in candidates}
    roots = _roots(stock, query)
    assert len(found) == len(candidates) <= max(most, 2)
    assert bool(found) == bool(there_are)
    if most == 1000:
        assert found == there_are
        assert _roots(ours, query) == roots


def test_a_candidate_too_many_is_refused(placement):
    # That a claim can fail at all, or the test above would say nothing.
    placement.replace_providers(
        [
            service.Provider(
                "host",
                inventories={"CUSTOM_GPU": service.Inventory(2, max_unit=1)},
            )
        ]
    )
    candidate = {
        "allocations": {
            service.provider_uuid("host"): {"resources": {"CUSTOM_GPU": 2}}
        },
        "mappings": {"_0": [service.provider_uuid("host")]},
    }
    with pytest.raises(AssertionError):
        placement.allocate(candidate)
