# SPDX-License-Identifier: Apache-2.0

"""Random provider trees and queries, small enough to enumerate."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from hypothesis import strategies as st

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
    """Suffixes of the groups that were made from one template."""

    def text(self, **others: Any) -> str:
        """Return the query string, with further parameters."""
        pairs = (*self.pairs, *others.items())
        return "&".join(f"{name}={value}" for name, value in pairs)


def _subsets(values: tuple[str, ...], most: int) -> Any:
    return st.lists(st.sampled_from(values), unique=True, max_size=most).map(
        lambda found: tuple(sorted(found))
    )


@st.composite
def inventories(draw: Any) -> service.Inventory:
    """Draw an inventory, now and then with awkward limits."""
    total = draw(st.sampled_from((1, 1, 1, 2, 3, 4, 6)))
    if draw(st.integers(0, 2)):
        used = draw(st.integers(0, total)) if draw(st.booleans()) else 0
        return service.Inventory(total, used=used)
    reserved = draw(st.integers(0, min(1, total - 1)))
    ratio = draw(st.sampled_from((1.0, 1.5, 2.0)))
    capacity = int((total - reserved) * ratio)
    return service.Inventory(
        total,
        used=draw(st.integers(0, capacity)),
        reserved=reserved,
        min_unit=draw(st.integers(1, 2)),
        max_unit=draw(st.integers(1, total)),
        step_size=draw(st.integers(1, 2)),
        allocation_ratio=ratio,
    )


@st.composite
def providers(draw: Any) -> list[service.Provider]:
    """Draw one to three trees, sometimes with a sharing provider."""
    found: list[service.Provider] = []
    for tree in range(draw(st.integers(1, 3))):
        root = f"host{tree}"
        found.append(
            service.Provider(
                root,
                inventories={
                    "VCPU": service.Inventory(8, used=draw(st.integers(0, 1)))
                }
                | (
                    {"CUSTOM_GPU": draw(inventories())}
                    if not draw(st.integers(0, 5))
                    else {}
                ),
                traits=draw(_subsets(TRAITS[:2], 1)),
                aggregates=draw(_subsets(AGGREGATES, 1)),
            )
        )
        parents = [root]
        if draw(st.booleans()):
            parents = [f"{root}-numa{node}" for node in range(2)]
            for parent in parents:
                inventory = (
                    {"MEMORY_MB": service.Inventory(4)}
                    if draw(st.booleans())
                    else {}
                )
                found.append(service.Provider(parent, root, inventory))
        for device in range(draw(st.integers(1, 4))):
            classes = draw(
                st.sampled_from(
                    (
                        DEVICE_CLASSES[:1],
                        DEVICE_CLASSES[:1],
                        DEVICE_CLASSES[1:],
                        DEVICE_CLASSES,
                    )
                )
            )
            found.append(
                service.Provider(
                    f"{root}-device{device}",
                    draw(st.sampled_from(parents)),
                    {rc: draw(inventories()) for rc in classes},
                    draw(_subsets(TRAITS, 2)),
                    draw(_subsets(AGGREGATES, 1))
                    if not draw(st.integers(0, 3))
                    else (),
                )
            )
    if not draw(st.integers(0, 2)):
        rc = draw(st.sampled_from(("DISK_GB", "DISK_GB", "CUSTOM_GPU")))
        found.append(
            service.Provider(
                "sharing",
                None,
                {rc: service.Inventory(4)},
                (SHARES, *draw(_subsets(TRAITS[:1], 1))),
                AGGREGATES[:1],
            )
        )
    return found


def _required(draw: Any) -> list[str]:
    """Draw the values of ``required`` of one group."""
    kind = draw(st.sampled_from(("", "", "all", "not", "any", "both")))
    first, second = draw(st.permutations(TRAITS))[:2]
    return {
        "": [],
        "all": [first],
        "not": [f"!{first}"],
        "any": [f"in:{first},{second}"],
        "both": [f"{first},!{second}"],
    }[kind]


def _template(draw: Any) -> list[tuple[str, str]]:
    """Draw what the groups of one class ask for."""
    resources = {
        draw(st.sampled_from(DEVICE_CLASSES[:1] * 2 + DEVICE_CLASSES)): draw(
            st.sampled_from((1, 1, 1, 2))
        )
    }
    if not draw(st.integers(0, 5)):
        resources[draw(st.sampled_from(DEVICE_CLASSES))] = 1
    pairs = [
        ("resources", ",".join(f"{rc}:{n}" for rc, n in resources.items()))
    ]
    pairs += [("required", value) for value in _required(draw)]
    if not draw(st.integers(0, 4)):
        aggregate = draw(st.sampled_from(AGGREGATES))
        prefix = draw(st.sampled_from(("", "!", "in:")))
        pairs.append(("member_of", f"{prefix}{aggregate}"))
    if not draw(st.integers(0, 6)):
        pairs.append(("in_tree", service.provider_uuid("host0")))
    return pairs


@st.composite
def queries(draw: Any) -> Query:
    """Draw a query with two to five suffixed groups, some of them equal."""
    sizes = draw(
        st.sampled_from(
            ((2,), (3,), (4,), (2, 1), (2, 2), (3, 1), (3, 2), (2, 1, 1))
        )
    )
    groups: list[list[tuple[str, str]]] = []
    classes = []
    number = 0
    for size in sizes:
        template = _template(draw)
        suffixes = [f"_{number + offset}" for offset in range(size)]
        number += size
        classes.append(tuple(suffixes))
        groups += [
            [(f"{name}{suffix}", value) for name, value in template]
            for suffix in suffixes
        ]
    unsuffixed = draw(
        st.sampled_from(
            (
                "",
                "VCPU:1",
                "VCPU:1",
                "VCPU:1,DISK_GB:1",
                "VCPU:1,MEMORY_MB:1",
                "VCPU:1,CUSTOM_GPU:1",
            )
        )
    )
    if unsuffixed:
        groups.append([("resources", unsuffixed)])
    pairs = [pair for group in draw(st.permutations(groups)) for pair in group]
    pairs.append(("group_policy", draw(st.sampled_from(("none", "isolate")))))
    if not draw(st.integers(0, 4)):
        pairs.append(
            (
                "root_required",
                draw(st.sampled_from(("CUSTOM_FAST", "!CUSTOM_RED"))),
            )
        )
    if len(sizes) > 1 and not draw(st.integers(0, 3)):
        pairs.append(
            ("same_subtree", ",".join((classes[0][0], classes[1][0])))
        )
    return Query(tuple(pairs), tuple(classes))


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
