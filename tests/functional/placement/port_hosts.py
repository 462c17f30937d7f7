# SPDX-License-Identifier: Apache-2.0

"""Hosts with GPUs and ports, some of which cannot serve the rest of a request.

Ways to serve the ports are more than are read, so each answer is truncated,
and what it lacks has to be told from what Placement did not come to. Every
answer is compared with all that Placement alone has to offer.
"""

from collections.abc import Mapping
import dataclasses
from unittest import mock

from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import rounds
from tests.functional.placement import service
from tests.functional.placement import worlds
from tests.functional.placement.questions import GPU
from tests.functional.placement.service import Inventory
from tests.functional.placement.service import Provider

PORT = "CUSTOM_PORT"
DISABLED = "COMPUTE_STATUS_DISABLED"
ZONE, OTHER_ZONE = worlds.AGGREGATES[:2]
_FIND = inner.PlacementQueries.find_candidates
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
    node_traits: tuple[str, ...] = ("CUSTOM_FAST",)
    node_aggregates: tuple[str, ...] = ()
    port_traits: tuple[str, ...] = ()
    """Of the first port; others have none."""
    port_aggregates: tuple[str, ...] = ()


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


def make_host(name, state, disk=True):
    """Yield the providers of a host."""
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
            f"{name}-node{i}",
            name,
            {"VCPU": inventory},
            state.node_traits,
            state.node_aggregates,
        )
    for i in range(state.gpus):
        yield Provider(f"{name}-gpu{i}", name, {GPU: Inventory(1)})
    for i, inventory in enumerate(state.ports):
        yield Provider(
            f"{name}-port{i}",
            name,
            {PORT: inventory},
            () if i else state.port_traits,
            () if i else state.port_aggregates,
        )


_RESOURCES = "VCPU:4,MEMORY_MB:128,DISK_GB:10"


def build_query(*others, k=2, resources=_RESOURCES):
    """Ask for GPUs, two ports of one and two units, and ``resources``."""
    groups = [f"resources_{i}={GPU}:1" for i in range(k)]
    ports = [f"resources_p{i}={PORT}:{1 + i}" for i in range(2)]
    return "&".join(
        (
            f"resources={resources}",
            *(*groups, *ports, "same_subtree=_p0", "same_subtree=_p1"),
            *("group_policy=none", *others),
        )
    )


CONDITIONS = (
    f"root_required=!{DISABLED}",
    "required=!CUSTOM_RED,CUSTOM_FAST",
    f"member_of={ZONE}",
)


def hosts_of(response):
    """Return the roots of the hosts that an answer offers."""
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


def compare(placement, text):
    """Return our answer, and that of Placement; ours is a part of it."""
    stock = _ask_stock_for_all(placement, text)
    ours = placement.candidates(text)
    assert ours.status == stock.status == 200
    if ours.is_composed:
        assert hosts_of(ours) == hosts_of(stock)
        assert {worlds.exact(c) for c in ours.json["allocation_requests"]} <= {
            worlds.exact(c) for c in stock.json["allocation_requests"]
        }
    return ours, stock


def uuids(*names):
    """Return the UUIDs of providers."""
    return {service.provider_uuid(name) for name in names}


def cut_off(names):
    """Let hosts be those that Placement did not come to in its answers.

    Where enough is left for these to be truncated all the same.
    """
    roots = uuids(*names)

    def find(self, text, most, in_turn=False):
        if not in_turn:
            return _FIND(self, text, most)
        answer = _FIND(self, text, None)
        summaries = answer["provider_summaries"]
        found = answer["allocation_requests"]
        left: dict[str, list[object]] = {}
        for candidate in found:
            of = _roots_of(candidate, summaries)
            if roots.isdisjoint(of):
                left.setdefault(min(of), []).append(candidate)
        # Placement gives what is in no order where it is not truncated.
        kept = list(rounds.take_in_turn(list(map(iter, left.values()))))
        if len(kept) < most:
            kept = found
        kept = kept[:most]
        used = {root for c in kept for root in _roots_of(c, summaries)}
        return {
            "allocation_requests": kept,
            "provider_summaries": {
                provider: summary
                for provider, summary in summaries.items()
                if summary["root_provider_uuid"] in used
            },
        }

    return mock.patch.object(inner.PlacementQueries, "find_candidates", find)


def _roots_of(candidate, summaries):
    return {
        summaries[provider]["root_provider_uuid"]
        for provider in candidate["allocations"]
    }
