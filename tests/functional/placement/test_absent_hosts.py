# SPDX-License-Identifier: Apache-2.0

"""Hosts with free devices that cannot serve the rest of a request."""

import dataclasses
import os
import random
from unittest import mock

from demo import threads  # noqa: F401

# isort: split

import hypothesis
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.placement import search
from tests.functional.placement import service
from tests.functional.placement import worlds
from tests.functional.placement.port_hosts import ABSENT
from tests.functional.placement.port_hosts import CONDITIONS
from tests.functional.placement.port_hosts import NO_GPU
from tests.functional.placement.port_hosts import NOTHING_LEFT
from tests.functional.placement.port_hosts import OTHER_ZONE
from tests.functional.placement.port_hosts import PORT
from tests.functional.placement.port_hosts import PRESENT
from tests.functional.placement.port_hosts import USUAL
from tests.functional.placement.port_hosts import ZONE
from tests.functional.placement.port_hosts import build_query
from tests.functional.placement.port_hosts import compare
from tests.functional.placement.port_hosts import cut_off
from tests.functional.placement.port_hosts import hosts_of
from tests.functional.placement.port_hosts import make_host
from tests.functional.placement.port_hosts import uuids
from tests.functional.placement.service import Inventory
from tests.functional.placement.service import Provider


@pytest.fixture(scope="module", autouse=True)
def _limited(placement):
    """Let the answers to inner queries be cut off soon."""
    placement.set_option("max_allocation_candidates", 1, "placement")
    for trait in worlds.TRAITS:
        placement.create_trait(trait)


@pytest.mark.parametrize("state", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize("number", [1, 3])
def test_hosts_that_cannot_serve_the_rest_are_left_out(
    placement, state, number
):
    names = [f"host{i}" for i in range(6)]
    states = [state] * number + [USUAL] * (6 - number)
    placement.replace_providers(
        p for args in zip(names, states, strict=True) for p in make_host(*args)
    )
    ours, stock = compare(placement, build_query(*CONDITIONS))
    assert ours.is_composed
    assert hosts_of(stock) == uuids(*names[number:])


@pytest.mark.parametrize("state", PRESENT.values(), ids=PRESENT)
def test_hosts_that_an_answer_did_not_come_to_are_found(placement, state):
    states = {"able": state, "busy": ABSENT["no VCPU"]}
    states |= {f"host{i}": USUAL for i in range(7)}
    placement.replace_providers(
        p for args in states.items() for p in make_host(*args)
    )
    with cut_off(["able"]):
        ours, stock = compare(placement, build_query(*CONDITIONS))
    assert ours.is_composed
    assert hosts_of(stock) == uuids(*states) - uuids("busy")


def test_hosts_without_devices_do_not_fill_an_answer(placement):
    # Of many hosts with ports, two have devices.
    placement.replace_providers(
        p
        for i in range(40)
        for p in make_host(f"host{i}", USUAL if i in (18, 37) else NO_GPU)
    )
    ours, stock = compare(placement, build_query())
    assert ours.is_composed
    assert hosts_of(stock) == uuids("host18", "host37")


@pytest.mark.parametrize("name", ["no VCPU", "each port alone", "disabled"])
def test_shared_disk(placement, name):
    """What a tree lacks can be told, but no tree be asked for by itself."""
    states = {"busy": ABSENT[name]} | {f"host{i}": USUAL for i in range(5)}
    shared = Provider(
        "shared",
        inventories={"DISK_GB": Inventory(1000)},
        traits=(worlds.SHARES, "CUSTOM_FAST"),
        aggregates=(ZONE,),
    )
    placement.replace_providers(
        [
            *(
                p
                for args in states.items()
                for p in make_host(*args, disk=False)
            ),
            shared,
        ]
    )
    ours, stock = compare(placement, build_query(*CONDITIONS))
    assert ours.is_composed is (name != "each port alone")
    assert hosts_of(stock) == uuids(*states) - uuids("busy")


def test_sharing_providers_of_other_things_are_no_hindrance(placement):
    states = {"busy": ABSENT["each port alone"]}
    states |= {f"host{i}": USUAL for i in range(5)}
    addresses = Provider(
        "shared",
        inventories={"IPV4_ADDRESS": Inventory(1000), "DISK_GB": NOTHING_LEFT},
        traits=(worlds.SHARES, "CUSTOM_FAST"),
        aggregates=(ZONE,),
    )
    placement.replace_providers(
        [*(p for args in states.items() for p in make_host(*args)), addresses]
    )
    ours, stock = compare(placement, build_query(*CONDITIONS))
    assert ours.is_composed
    assert hosts_of(stock) == uuids(*states) - uuids("busy")


_CASES_ASKED = "HYPOTHESIS_PLACEMENT_CASES"

seen = {"asked": 0, "composed": 0, "hosts absent": 0}


def _is_one_of(rng, n):
    return not rng.randrange(n)


def _draw(seed):
    """Draw providers and a query."""
    rng = random.Random(seed)
    states = [*ABSENT.values(), *PRESENT.values(), *[USUAL] * 20]
    has_shared_disk = _is_one_of(rng, 4)
    providers = []
    for i in range(rng.randint(2, 6)):
        state = rng.choice(states)
        if _is_one_of(rng, 4):
            state = dataclasses.replace(state, gpus=rng.choice((0, 1, 3)))
        if _is_one_of(rng, 3):
            other = rng.choice(states)
            state = dataclasses.replace(
                state,
                root={**other.root, **state.root},
                nodes=other.nodes,
                aggregates=rng.choice((state, other)).aggregates,
                ports=rng.choice((state, other)).ports,
            )
        disk = not has_shared_disk or _is_one_of(rng, 4)
        providers += make_host(f"host{i}", state, disk)
    if has_shared_disk:
        shared = {
            rng.choice(("DISK_GB", "DISK_GB", "IPV4_ADDRESS", PORT)): (
                Inventory(1000, used=rng.choice((0, 1000)))
            )
        }
        if _is_one_of(rng, 5):
            shared["VCPU"] = Inventory(100)
        providers.append(
            Provider(
                "shared",
                inventories=shared,
                traits=(worlds.SHARES, *rng.choice(((), ("CUSTOM_FAST",)))),
                aggregates=rng.choice(((ZONE,), (ZONE, OTHER_ZONE))),
            )
        )
    conditions = [c for c in CONDITIONS if rng.random() < 0.5]
    fast = f"required{rng.choice(('', '_p0'))}"
    more = (
        "root_required=CUSTOM_FAST",
        f"member_of=!{OTHER_ZONE}",
        f"member_of=in:{ZONE},{OTHER_ZONE}",
        f"{fast}=in:CUSTOM_FAST,CUSTOM_RED",
        f"in_tree={service.provider_uuid('host0-gpu0')}",
        f"in_tree_p0={service.provider_uuid('host1')}",
        "required_r=CUSTOM_FAST&same_subtree=_r,_p0",
        "required_r=!CUSTOM_RED,CUSTOM_FAST&same_subtree=_r,_p1,_p0",
    )
    if _is_one_of(rng, 2):
        added = rng.choice(more)
        name = added.partition("=")[0]
        conditions = [c for c in conditions if c.partition("=")[0] != name]
        conditions.append(added)
    names = rng.sample([f"host{i}" for i in range(6)], rng.choice((0, 1, 3)))
    return providers, build_query(*conditions), rng.choice((1, 2, 8)), names


@hypothesis.settings(
    deadline=None,
    derandomize=_CASES_ASKED not in os.environ,
    max_examples=int(os.environ.get(_CASES_ASKED, "40")),
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(case=st.integers(0, (1 << 64) - 1).map(_draw))
def test_hosts_are_those_of_stock(placement, case):
    providers, text, max_bases, names = case
    placement.replace_providers(providers)
    with (
        mock.patch.object(search, "_MAX_BASES", max_bases),
        cut_off(names),
    ):
        ours, stock = compare(placement, text)
    roots = sum(p.parent is None and p.name != "shared" for p in providers)
    seen["asked"] += 1
    seen["composed"] += ours.is_composed
    seen["hosts absent"] += roots - len(hosts_of(stock))


def test_most_were_composed():
    if seen["asked"] >= 40:
        assert seen["composed"] > seen["asked"] * 0.7, seen
        assert seen["hosts absent"] > seen["asked"] * 0.5, seen
