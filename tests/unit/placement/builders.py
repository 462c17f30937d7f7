# SPDX-License-Identifier: Apache-2.0

"""Answers of Placement, as literals."""

from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any

from nova_gpu_filter.placement import device_links
from nova_gpu_filter.placement import query
from nova_gpu_filter.topology import topology as topology_lib

GPU = "CUSTOM_GPU"
NIC = "CUSTOM_NIC"


def question(
    gpus: int,
    nics: int = 0,
    policy: str = "none",
    limit: int | None = None,
    unsuffixed: str = "VCPU:1",
    amount: int = 1,
    others: Sequence[str] = (),
) -> query.Question:
    """Parse the query for a server with GPUs and NICs."""
    pairs = [
        f"resources={unsuffixed}",
        *(f"resources_g{i}={GPU}:{amount}" for i in range(gpus)),
        *(f"resources_n{i}={NIC}:1" for i in range(nics)),
        *others,
        f"group_policy={policy}",
    ]
    if limit is not None:
        pairs.append(f"limit={limit}")
    return query.parse("&".join(pairs), (1, 39))


def summary(
    root: str,
    resources: Mapping[str, int | tuple[int, int]],
    traits: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the summary of a provider.

    :param resources: resource class -> capacity, or (capacity, used).
    """
    pairs = {
        rc: found if isinstance(found, tuple) else (found, 0)
        for rc, found in resources.items()
    }
    return {
        "resources": {
            rc: {"capacity": capacity, "used": used}
            for rc, (capacity, used) in pairs.items()
        },
        "traits": list(traits),
        "parent_provider_uuid": None,
        "root_provider_uuid": root,
    }


def devices(*traits: Sequence[str]) -> dict[str, Any]:
    """Make the summaries of one tree whose device i has the i-th traits."""
    return {
        f"device{i}": summary("root", {"GPU": 1}, found)
        for i, found in enumerate(traits)
    }


def topology(*traits: Sequence[str]) -> topology_lib.Topology:
    """Read the topology of such a tree."""
    found = devices(*traits)
    return device_links.arrange(found, found)[1]


def host(
    name: str,
    gpus: int,
    capacity: int | tuple[int, int] = 1,
    nics: int = 0,
    traits: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Make the summaries of a tree: ``name``, ``name-g0``, ``name-n0``..."""
    traits = traits or {}
    found = {name: summary(name, {"VCPU": 64})}
    for kind, rc, count in (("g", GPU, gpus), ("n", NIC, nics)):
        for i in range(count):
            device = f"{name}-{kind}{i}"
            found[device] = summary(
                name,
                {rc: capacity if kind == "g" else 1},
                traits.get(f"{kind}{i}", ()),
            )
    return found


def request(
    allocations: Mapping[str, Mapping[str, int]],
    mappings: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Make an allocation request."""
    return {
        "allocations": {
            provider: {"resources": dict(resources)}
            for provider, resources in allocations.items()
        },
        "mappings": {
            suffix: list(found) for suffix, found in mappings.items()
        },
    }


def inner_answer(
    summaries: Mapping[str, Any], amount: int = 1
) -> dict[str, Any]:
    """Make the answer for one VCPU and one GPU, of any of the hosts."""
    return {
        "allocation_requests": [
            request(
                {root: {"VCPU": 1}, device: {GPU: amount}},
                {"": [root], "_g0": [device]},
            )
            for root, device in _devices(summaries, GPU, amount)
        ],
        "provider_summaries": dict(summaries),
    }


def providers(summaries: Mapping[str, Any], rc: str) -> dict[str, list[str]]:
    """List by root the providers that can give one of a resource class."""
    found: dict[str, list[str]] = {}
    for root, device in _devices(summaries, rc, 1):
        found.setdefault(root, []).append(device)
    return found


def _devices(summaries, rc, amount):
    for provider, found in summaries.items():
        inventory = found["resources"].get(rc)
        if inventory and inventory["capacity"] - inventory["used"] >= amount:
            yield found["root_provider_uuid"], provider


def all_sets(devices: Sequence[str], size: int) -> set[frozenset[str]]:
    """List every set of different devices."""
    return set(map(frozenset, itertools.combinations(devices, size)))
