# SPDX-License-Identifier: Apache-2.0

"""Random provider trees and queries, small enough to enumerate."""

from collections.abc import Mapping
import dataclasses
import random
from typing import Any

from tests.functional.placement import service

DEVICE_CLASSES = ("CUSTOM_GPU", "CUSTOM_NIC")
TRAITS = ("CUSTOM_FAST", "CUSTOM_RED", "CUSTOM_GPU_LINK_PIX_0")
AGGREGATES = (
    "aaaaaaaa-0000-4000-8000-000000000001",
    "aaaaaaaa-0000-4000-8000-000000000002",
)
SHARES = "MISC_SHARES_VIA_AGGREGATE"


@dataclasses.dataclass(frozen=True)
class Query:
    """A query, and the equal groups that went into it."""

    pairs: tuple[tuple[str, str], ...]
    classes: tuple[tuple[str, ...], ...]
    """Suffixes of the groups that ask for the same, and can change places."""

    def text(self, **others: Any) -> str:
        """Return the query string, with further parameters."""
        pairs = (*self.pairs, *others.items())
        return "&".join(f"{name}={value}" for name, value in pairs)


def _one_in(rng: random.Random, n: int) -> bool:
    """Draw true once in ``n`` times."""
    return rng.randrange(n) == 0


def _subset(
    rng: random.Random, values: tuple[str, ...], most: int
) -> tuple[str, ...]:
    return tuple(sorted(rng.sample(values, rng.randint(0, most))))


def _inventory(rng: random.Random) -> service.Inventory:
    """Draw an inventory, now and then with awkward limits."""
    total = rng.choice((1, 1, 1, 2, 2, 3, 4))
    if not _one_in(rng, 4):
        used = rng.randint(0, total) if _one_in(rng, 5) else 0
        return service.Inventory(total, used=used)
    reserved = rng.randint(0, min(1, total - 1))
    ratio = rng.choice((1.0, 1.5, 2.0))
    capacity = int((total - reserved) * ratio)
    return service.Inventory(
        total,
        used=rng.randint(0, capacity) if _one_in(rng, 3) else 0,
        reserved=reserved,
        min_unit=2 if _one_in(rng, 6) else 1,
        max_unit=rng.randint(1, total),
        step_size=2 if _one_in(rng, 6) else 1,
        allocation_ratio=ratio,
    )


def providers(rng: random.Random) -> list[service.Provider]:
    """Draw one or two trees, sometimes with a sharing provider."""
    found: list[service.Provider] = []
    # In half of the clouds every device can serve most queries.
    is_generous = rng.random() < 0.5
    for tree in range(rng.choice((1, 1, 2))):
        root = f"host{tree}"
        found.append(
            service.Provider(
                root,
                inventories={
                    "VCPU": service.Inventory(8, used=rng.randint(0, 1))
                }
                | ({"CUSTOM_GPU": _inventory(rng)} if _one_in(rng, 6) else {}),
                traits=_subset(rng, TRAITS[:2], 1),
                aggregates=_subset(rng, AGGREGATES, 1),
            )
        )
        parents = [root]
        if rng.random() < 0.5:
            parents = [f"{root}-numa{node}" for node in range(2)]
            for parent in parents:
                inventory = (
                    {"MEMORY_MB": service.Inventory(4)}
                    if rng.random() < 0.5
                    else {}
                )
                found.append(service.Provider(parent, root, inventory))
        for device in range(rng.choice((3, 4, 5))):
            classes = (
                DEVICE_CLASSES
                if is_generous
                else rng.choice(
                    (
                        *(DEVICE_CLASSES[:1],) * 3,
                        *(DEVICE_CLASSES[1:],) * 2,
                        *(DEVICE_CLASSES,) * 2,
                    )
                )
            )
            found.append(
                service.Provider(
                    f"{root}-device{device}",
                    rng.choice(parents),
                    {
                        rc: service.Inventory(rng.randint(1, 3))
                        if is_generous and rng.random() < 0.7
                        else _inventory(rng)
                        for rc in classes
                    },
                    _subset(rng, TRAITS, 2),
                    _subset(rng, AGGREGATES, 1) if _one_in(rng, 4) else (),
                )
            )
    if _one_in(rng, 3):
        rc = rng.choice(("DISK_GB",) * 5 + ("CUSTOM_GPU",))
        found.append(
            service.Provider(
                "sharing",
                None,
                {rc: service.Inventory(4)},
                (SHARES, *_subset(rng, TRAITS[:1], 1)),
                AGGREGATES[:1],
            )
        )
    return found


def _required(rng: random.Random) -> list[str]:
    """Draw the values of ``required`` of one group.

    What is the same has the same text, see :func:`query`.
    """
    kind = rng.choice(("",) * 12 + ("all", "not", "any", "both"))
    first, second = rng.sample(TRAITS, len(TRAITS))[:2]
    return {
        "": [],
        "all": [first],
        "not": [f"!{first}"],
        "any": ["in:" + ",".join(sorted((first, second)))],
        "both": [f"{first},!{second}"],
    }[kind]


def _template(rng: random.Random, usual: str) -> list[tuple[str, str]]:
    """Draw what the groups of one class ask for, mostly the usual."""
    resources = {
        rng.choice((usual,) * 2 + DEVICE_CLASSES): (
            2 if _one_in(rng, 5) else 1
        )
    }
    if _one_in(rng, 10):
        resources[rng.choice(DEVICE_CLASSES)] = 1
    pairs = [
        (
            "resources",
            ",".join(f"{rc}:{n}" for rc, n in sorted(resources.items())),
        )
    ]
    pairs += [("required", value) for value in _required(rng)]
    if _one_in(rng, 10):
        aggregate = rng.choice(AGGREGATES)
        prefix = rng.choice(("", "!", "in:"))
        pairs.append(("member_of", f"{prefix}{aggregate}"))
    if _one_in(rng, 10):
        pairs.append(("in_tree", service.provider_uuid("host0")))
    return pairs


def query(rng: random.Random) -> Query:
    """Draw a query with two to five suffixed groups, some of them equal."""
    sizes = rng.choice(
        (
            *((2,), (3,), (4,), (2, 1), (3, 1), (2, 1, 1), (2, 1, 1, 1)),
            *((2, 2), (2, 2), (2, 2), (3, 2), (2, 2, 1)),
        )
    )
    groups: list[list[tuple[str, str]]] = []
    suffixes_by_template: dict[object, list[str]] = {}
    number = 0
    for place, size in enumerate(sizes):
        template = _template(rng, DEVICE_CLASSES[place % 2])
        suffixes = [f"_{number + offset}" for offset in range(size)]
        number += size
        suffixes_by_template.setdefault(tuple(template), []).extend(suffixes)
        groups += [
            [(f"{name}{suffix}", value) for name, value in template]
            for suffix in suffixes
        ]
    unsuffixed = rng.choice(
        (
            "",
            *("VCPU:1",) * 8,
            "VCPU:1,DISK_GB:1",
            "VCPU:1,MEMORY_MB:1",
            "VCPU:1,CUSTOM_GPU:1",
        )
    )
    if unsuffixed:
        groups.append([("resources", unsuffixed)])
    pairs = [
        pair for group in rng.sample(groups, len(groups)) for pair in group
    ]
    pairs.append(("group_policy", rng.choice(("none", "isolate"))))
    if _one_in(rng, 8):
        pairs.append(
            (
                "root_required",
                rng.choice(("CUSTOM_FAST", "!CUSTOM_RED")),
            )
        )
    classes = list(suffixes_by_template.values())
    if _one_in(rng, 5):
        bound = [
            found.pop() for found in classes[:2] if found is not classes[0]
        ]
        if len(classes[0]) > 2 or not bound:
            bound.append(classes[0].pop())
        classes += [[suffix] for suffix in bound]
        names = list(bound)
        if len(bound) == 1 or _one_in(rng, 2):
            # A group that asks for no resources.
            pairs.append(("required_r", rng.choice(TRAITS)))
            classes.append(["_r"])
            names.append("_r")
        pairs.append(("same_subtree", ",".join(names)))
    return Query(
        tuple(pairs), tuple(tuple(found) for found in classes if found)
    )


def _lower_capacities(
    found: list[service.Provider], rng: random.Random
) -> list[service.Provider]:
    """Lower some capacities below what is used, as an operator can."""
    return [
        dataclasses.replace(
            provider,
            inventories={
                rc: dataclasses.replace(
                    inventory, used=inventory.used + rng.randint(4, 9)
                )
                if _one_in(rng, 4)
                else inventory
                for rc, inventory in provider.inventories.items()
            },
        )
        for provider in found
    ]


def case(seed: int) -> tuple[list[service.Provider], Query]:
    """Draw providers, and a query for them."""
    rng = random.Random(seed)
    world, asked = providers(rng), query(rng)
    if _one_in(rng, 6):
        world = _lower_capacities(world, rng)
    return world, asked


def canonical(
    candidate: Mapping[str, Any], classes: tuple[tuple[str, ...], ...]
) -> object:
    """Return what is equal for candidates that differ in equal groups only."""
    mappings = dict(candidate["mappings"])
    sets = [
        tuple(sorted(mappings.pop(suffix)[0] for suffix in suffixes))
        for suffixes in classes
    ]
    return (_allocations(candidate), tuple(sets), _mappings(mappings))


def exact(candidate: Mapping[str, Any]) -> object:
    """Return what is equal for equal candidates."""
    return (_allocations(candidate), _mappings(candidate["mappings"]))


def _allocations(candidate: Mapping[str, Any]) -> object:
    return frozenset(
        (provider, rc, amount)
        for provider, allocation in candidate["allocations"].items()
        for rc, amount in allocation["resources"].items()
    )


def _mappings(mappings: Mapping[str, Any]) -> object:
    return frozenset(
        (suffix, frozenset(found)) for suffix, found in mappings.items()
    )
