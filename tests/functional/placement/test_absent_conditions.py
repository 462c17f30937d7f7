# SPDX-License-Identifier: Apache-2.0

"""What the groups in no class ask for beside devices, one thing at a time.

A host that has it in the least obvious place is one to which Placement did not
come, and must be found; hosts that have it in a place that does not count must
be left out without being asked for.
"""

import dataclasses
from unittest import mock

from demo import threads  # noqa: F401

# isort: split

import pytest

from nova_gpu_filter.placement import absent
from nova_gpu_filter.placement import search
from tests.functional.placement import port_hosts
from tests.functional.placement import worlds
from tests.functional.placement.port_hosts import DISABLED
from tests.functional.placement.port_hosts import OTHER_ZONE
from tests.functional.placement.port_hosts import ZONE
from tests.functional.placement.port_hosts import State
from tests.functional.placement.service import Inventory
from tests.functional.placement.service import Provider
from tests.functional.placement.service import provider_uuid

FAST, RED = "CUSTOM_FAST", "CUSTOM_RED"
NODE = (Inventory(8),)

PLAIN = State(traits=(), aggregates=(), node_traits=())
ZONED = dataclasses.replace(PLAIN, aggregates=(ZONE,))
ON_NODE = dataclasses.replace(PLAIN, nodes=NODE)


def _but(state, **changes):
    return dataclasses.replace(state, **changes)


CASES = {
    # Of the unsuffixed group, the root or what gives something.
    "zone of the root": (
        f"member_of={ZONE}",
        _but(ON_NODE, aggregates=(ZONE,)),
        _but(PLAIN, aggregates=(OTHER_ZONE,)),
    ),
    "zone of a node": (
        f"member_of={ZONE}",
        _but(ON_NODE, node_aggregates=(ZONE,)),
        _but(ON_NODE, node_aggregates=(OTHER_ZONE,)),
    ),
    "one of two zones": (
        f"member_of=in:{ZONE},{OTHER_ZONE}",
        _but(PLAIN, aggregates=(OTHER_ZONE,)),
        PLAIN,
    ),
    "both zones": (
        f"member_of={ZONE}&member_of={OTHER_ZONE}",
        _but(PLAIN, aggregates=(ZONE, OTHER_ZONE)),
        ZONED,
    ),
    "not in a zone": (
        f"member_of=!{ZONE}",
        _but(PLAIN, port_aggregates=(ZONE,)),
        ZONED,
    ),
    "in none of two zones": (
        f"member_of=!in:{ZONE},{OTHER_ZONE}",
        PLAIN,
        _but(PLAIN, aggregates=(OTHER_ZONE,)),
    ),
    "trait of a node": (
        f"required={FAST}",
        _but(ON_NODE, node_traits=(FAST,)),
        ON_NODE,
    ),
    "one of two traits": (
        f"required=in:{FAST},{RED}",
        _but(ON_NODE, node_traits=(RED,)),
        PLAIN,
    ),
    "trait of what gives nothing": (
        f"required=!{RED}",
        _but(ON_NODE, traits=(RED,), port_traits=(RED,)),
        _but(ON_NODE, node_traits=(RED,)),
    ),
    # Of the root alone.
    "trait of the root": (
        f"root_required={FAST}",
        _but(PLAIN, traits=(FAST,)),
        _but(ON_NODE, node_traits=(FAST,), port_traits=(FAST,)),
    ),
    "no trait of the root": (
        f"root_required=!{DISABLED}",
        _but(ON_NODE, node_traits=(DISABLED,), port_traits=(DISABLED,)),
        _but(PLAIN, traits=(DISABLED,)),
    ),
    "traits of the root": (
        f"root_required={FAST},!{RED}",
        _but(PLAIN, traits=(FAST,), port_traits=(RED,)),
        _but(PLAIN, traits=(FAST, RED)),
    ),
    # Of the port alone.
    "zone of a port": (
        f"member_of_p0={ZONE}",
        _but(PLAIN, port_aggregates=(ZONE,)),
        ZONED,
    ),
    "port not in a zone": (
        f"member_of_p0=!{ZONE}",
        ZONED,
        _but(PLAIN, ports=(Inventory(9),), port_aggregates=(ZONE,)),
    ),
    "trait of a port": (
        f"required_p0={FAST}",
        _but(PLAIN, port_traits=(FAST,)),
        _but(PLAIN, traits=(FAST,)),
    ),
    "no trait of a port": (
        f"required_p0=!{RED}",
        _but(PLAIN, traits=(RED,), port_traits=(RED,)),
        _but(PLAIN, ports=(Inventory(9),), port_traits=(RED,)),
    ),
    # Of a group without resources.
    "trait beside a port": (
        f"required_r={FAST}&same_subtree=_r,_p0",
        _but(PLAIN, traits=(FAST,)),
        PLAIN,
    ),
    "zone beside a port": (
        f"required_r={FAST}&member_of_r={ZONE}&same_subtree=_r,_p0",
        _but(PLAIN, traits=(FAST,), aggregates=(ZONE,)),
        _but(PLAIN, traits=(FAST,)),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _limited(placement):
    placement.set_option("max_allocation_candidates", 1, "placement")
    for trait in worlds.TRAITS:
        placement.create_trait(trait)


def _few_asked(number):
    return mock.patch.object(absent, "_MOST_TREES_ASKED", number)


def _compare(placement, states, text, shared=None):
    """Compare the answers where Placement does not come to the host "able".

    :param shared: a provider of all disks; None for disks of each host.
    """
    placement.replace_providers(
        [
            *(
                provider
                for name, state in states.items()
                for provider in port_hosts.make_host(
                    name, state, disk=shared is None
                )
            ),
            *([] if shared is None else [shared]),
        ]
    )
    with (
        mock.patch.object(search, "_MAX_BASES", 1),
        port_hosts.cut_off(["able"]),
    ):
        return port_hosts.compare(placement, text)


@pytest.mark.parametrize(
    ("condition", "able", "unable"), CASES.values(), ids=CASES
)
def test_where_a_thing_is_counts(placement, condition, able, unable):
    states = {"able": able} | {f"host{i}": able for i in range(6)}
    others = {f"other{i}": unable for i in range(2)}
    text = port_hosts.build_query(condition, resources="VCPU:4")
    with _few_asked(1):
        ours, stock = _compare(placement, {**states, **others}, text)
    assert ours.is_composed
    assert port_hosts.hosts_of(stock) == port_hosts.uuids(*states)


@pytest.mark.parametrize("name", ["in_tree", "in_tree_p0"])
@pytest.mark.parametrize("provider", ["host0", "host0-gpu1"])
def test_a_tree_that_is_asked_for_is_the_only_one(placement, name, provider):
    states = {f"host{i}": PLAIN for i in range(3)}
    text = port_hosts.build_query(
        f"{name}={provider_uuid(provider)}", resources="VCPU:4"
    )
    with _few_asked(0):
        ours, stock = _compare(placement, states, text)
    assert ours.is_composed
    assert port_hosts.hosts_of(stock) == port_hosts.uuids("host0")


def test_what_a_sharing_provider_has_counts_for_all_trees(placement):
    states = {"able": ZONED} | {f"host{i}": ZONED for i in range(6)}
    shared = Provider(
        "shared",
        inventories={"DISK_GB": Inventory(1000)},
        traits=(worlds.SHARES, FAST),
        aggregates=(ZONE,),
    )
    text = port_hosts.build_query(
        f"required={FAST}", resources="VCPU:4,DISK_GB:10"
    )
    ours, stock = _compare(placement, states, text, shared)
    # No tree can be asked for by itself, and none is rightly left out.
    assert not ours.is_composed
    assert port_hosts.hosts_of(stock) == port_hosts.uuids(*states)
