# SPDX-License-Identifier: Apache-2.0

"""Hosts with free devices that cannot serve the rest of a request.

Ways to serve two bound ports are more than are read, so each answer is
truncated, and what it lacks has to be told from what Placement did not come
to. Every answer is compared with all that Placement alone has to offer.
"""

from collections.abc import Mapping
import dataclasses
import os
import random
from unittest import mock

from demo import threads  # noqa: F401

# isort: split

import hypothesis
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import search
from tests.functional.placement import service
from tests.functional.placement import worlds
from tests.functional.placement.questions import GPU
from tests.functional.placement.service import Inventory
from tests.functional.placement.service import Provider

PORT = "CUSTOM_PORT"
DISABLED = "COMPUTE_STATUS_DISABLED"
ZONE, OTHER_ZONE = worlds.AGGREGATES[:2]
_FIND = inner.Conversation.find_candidates
NOTHING_LEFT = Inventory(64, used=64)

_ROOT: Mapping[str, Inventory] = {
    "VCPU": Inventory(64),
    "MEMORY_MB": Inventory(4096),
    "DISK_GB": Inventory(100),
}


@dataclasses.dataclass(frozen=True)
class State:
    """What differs on a host."""

    root: Mapping[str, Inventory] = dataclasses.field(default_factory=dict)
    traits: tuple[str, ...] = ("CUSTOM_FAST",)
    aggregates: tuple[str, ...] = (ZONE,)
    ports: tuple[Inventory, ...] = (Inventory(9),) * 4
    gpus: int = 2
    nodes: tuple[Inventory, ...] = ()
    """VCPU of each NUMA node, in the place of the root's."""


USUAL = State()
NO_GPU = State(gpus=0)

ABSENT = {
    "no VCPU": State({"VCPU": NOTHING_LEFT}),
    "VCPU overcommitted": State(
        {"VCPU": Inventory(8, used=16, allocation_ratio=2.0)}
    ),
    "VCPU reserved": State({"VCPU": Inventory(64, reserved=61)}),
    "too few VCPU at once": State({"VCPU": Inventory(64, max_unit=3)}),
    "more VCPU at least": State({"VCPU": Inventory(64, min_unit=5)}),
    "VCPU in other steps": State({"VCPU": Inventory(64, step_size=3)}),
    "capacity lowered": State({"VCPU": Inventory(8, used=60)}),
    "no memory": State({"MEMORY_MB": Inventory(64, used=64)}),
    "no disk": State({"DISK_GB": Inventory(64, reserved=64)}),
    "nodes without VCPU": State(nodes=(NOTHING_LEFT, NOTHING_LEFT)),
    "half on each node": State(nodes=(Inventory(3), Inventory(3))),
    "disabled": State(traits=("CUSTOM_FAST", DISABLED)),
    "forbidden trait": State(traits=("CUSTOM_FAST", "CUSTOM_RED")),
    "no required trait": State(traits=()),
    "another zone": State(aggregates=(OTHER_ZONE,)),
    "no zone": State(aggregates=()),
    "no port": State(ports=(Inventory(9, used=9),) * 4),
    "each port alone": State(ports=(Inventory(2),)),
}

PRESENT = {
    "usual": USUAL,
    "just enough": State({"VCPU": Inventory(8, used=4)}),
    "by overcommitment": State(
        {"VCPU": Inventory(8, used=10, allocation_ratio=2.0)}
    ),
    "in steps": State({"VCPU": Inventory(64, min_unit=4, step_size=2)}),
    "on one node": State(nodes=(NOTHING_LEFT, Inventory(4))),
    "traits of a node": State(traits=(), nodes=(Inventory(4),)),
    "one port": State(ports=(Inventory(3),)),
    "both zones": State(aggregates=(ZONE, OTHER_ZONE)),
}


def _host(name, state, disk=True):
    root = {**_ROOT, **state.root}
    if state.nodes:
        del root["VCPU"]
    if not disk:
        del root["DISK_GB"]
    yield Provider(
        name,
        inventories=root,
        traits=state.traits,
        aggregates=state.aggregates,
    )
    for i, inventory in enumerate(state.nodes):
        yield Provider(
            f"{name}-node{i}", name, {"VCPU": inventory}, ("CUSTOM_FAST",)
        )
    for i in range(state.gpus):
        yield Provider(f"{name}-gpu{i}", name, {GPU: Inventory(1)})
    for i, inventory in enumerate(state.ports):
        yield Provider(f"{name}-port{i}", name, {PORT: inventory})


_RESOURCES = "VCPU:4,MEMORY_MB:128,DISK_GB:10"


def _query(*others, k=2):
    groups = [f"resources_{i}={GPU}:1" for i in range(k)]
    ports = [f"resources_p{i}={PORT}:{1 + i}" for i in range(2)]
    return "&".join(
        (
            f"resources={_RESOURCES}",
            *(*groups, *ports, "same_subtree=_p0", "same_subtree=_p1"),
            *("group_policy=none", *others),
        )
    )


CONDITIONS = (
    f"root_required=!{DISABLED}",
    "required=!CUSTOM_RED,CUSTOM_FAST",
    f"member_of={ZONE}",
)


@pytest.fixture(scope="module", autouse=True)
def _limited(placement):
    """Let the answers to inner queries be cut off soon."""
    placement.set_option("max_allocation_candidates", 1, "placement")
    for trait in worlds.TRAITS:
        placement.create_trait(trait)


def _hosts_of(response):
    answer = response.json
    return {
        answer["provider_summaries"][candidate["mappings"]["_0"][0]][
            "root_provider_uuid"
        ]
        for candidate in answer["allocation_requests"]
    }


def _ask_stock_for_all(placement, text):
    placement.set_option("max_allocation_candidates", -1, "placement")
    try:
        return placement.stock(f"/allocation_candidates?{text}")
    finally:
        placement.set_option("max_allocation_candidates", 1, "placement")


def _compare(placement, text):
    """Return our answer, and that of Placement; ours is a part of it."""
    stock = _ask_stock_for_all(placement, text)
    ours = placement.candidates(text)
    assert ours.status == stock.status == 200
    if ours.is_composed:
        assert _hosts_of(ours) == _hosts_of(stock)
        assert {worlds.exact(c) for c in ours.json["allocation_requests"]} <= {
            worlds.exact(c) for c in stock.json["allocation_requests"]
        }
    return ours, stock


def _uuids(*names):
    return {service.provider_uuid(name) for name in names}


@pytest.mark.parametrize("state", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize("number", [1, 3])
def test_hosts_that_cannot_serve_the_rest_are_left_out(
    placement, state, number
):
    names = [f"host{i}" for i in range(6)]
    states = [state] * number + [USUAL] * (6 - number)
    placement.replace_providers(
        p for args in zip(names, states, strict=True) for p in _host(*args)
    )
    ours, stock = _compare(placement, _query(*CONDITIONS))
    assert ours.is_composed
    assert _hosts_of(stock) == _uuids(*names[number:])


def _cut_off(names):
    """Let hosts be those that Placement did not come to in its answers.

    Where enough is left for these to be truncated all the same.
    """
    roots = _uuids(*names)

    def find(self, text, most, in_turn=False):
        if not in_turn:
            return _FIND(self, text, most)
        answer = _FIND(self, text, None)
        summaries = answer["provider_summaries"]
        found = answer["allocation_requests"]
        left = [
            candidate
            for candidate in found
            if roots.isdisjoint(
                summaries[provider]["root_provider_uuid"]
                for provider in candidate["allocations"]
            )
        ]
        kept = left if len(left) >= most else found
        return answer | {"allocation_requests": kept[:most]}

    return mock.patch.object(inner.Conversation, "find_candidates", find)


@pytest.mark.parametrize("state", PRESENT.values(), ids=PRESENT)
def test_hosts_that_an_answer_did_not_come_to_are_found(placement, state):
    states = {"able": state, "busy": ABSENT["no VCPU"]}
    states |= {f"host{i}": USUAL for i in range(7)}
    placement.replace_providers(
        p for args in states.items() for p in _host(*args)
    )
    with _cut_off(["able"]):
        ours, stock = _compare(placement, _query(*CONDITIONS))
    assert ours.is_composed
    assert _hosts_of(stock) == _uuids(*states) - _uuids("busy")


def test_hosts_without_devices_do_not_fill_an_answer(placement):
    # Of many hosts with ports, two have devices.
    placement.replace_providers(
        p
        for i in range(40)
        for p in _host(f"host{i}", USUAL if i in (18, 37) else NO_GPU)
    )
    ours, stock = _compare(placement, _query())
    assert ours.is_composed
    assert _hosts_of(stock) == _uuids("host18", "host37")


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
            *(p for args in states.items() for p in _host(*args, disk=False)),
            shared,
        ]
    )
    ours, stock = _compare(placement, _query(*CONDITIONS))
    assert ours.is_composed is (name != "each port alone")
    assert _hosts_of(stock) == _uuids(*states) - _uuids("busy")


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
        [*(p for args in states.items() for p in _host(*args)), addresses]
    )
    ours, stock = _compare(placement, _query(*CONDITIONS))
    assert ours.is_composed
    assert _hosts_of(stock) == _uuids(*states) - _uuids("busy")


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
        providers += _host(f"host{i}", state, disk)
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
    cut_off = rng.sample([f"host{i}" for i in range(6)], rng.choice((0, 1, 3)))
    return providers, _query(*conditions), rng.choice((1, 2, 8)), cut_off


@hypothesis.settings(
    deadline=None,
    derandomize=_CASES_ASKED not in os.environ,
    max_examples=int(os.environ.get(_CASES_ASKED, "40")),
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(case=st.integers(0, (1 << 64) - 1).map(_draw))
def test_hosts_are_those_of_stock(placement, case):
    providers, text, most_rests, cut_off = case
    placement.replace_providers(providers)
    with (
        mock.patch.object(search, "_MOST_RESTS", most_rests),
        _cut_off(cut_off),
    ):
        ours, stock = _compare(placement, text)
    roots = sum(p.parent is None and p.name != "shared" for p in providers)
    seen["asked"] += 1
    seen["composed"] += ours.is_composed
    seen["hosts absent"] += roots - len(_hosts_of(stock))


def test_most_were_composed():
    if seen["asked"] >= 40:
        assert seen["composed"] > seen["asked"] * 0.7, seen
        assert seen["hosts absent"] > seen["asked"] * 0.5, seen
