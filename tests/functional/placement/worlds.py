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
    """Suffixes of the groups that ask for the same, and can change places."""

    def text(self, **others: Any) -> str:
        """Return the query string, with further parameters."""
        pairs = (*self.pairs, *others.items())
        return "&".join(f"{name}={value}" for name, value in pairs)


def _one_in(draw: Any, n: int) -> bool:
    """Draw true once in ``n`` times; 0, which hypothesis prefers, is false."""
    return bool(draw(st.sampled_from(range(n))) == n - 1)


def _subsets(values: tuple[str, ...], most: int) -> Any:
    return st.lists(st.sampled_from(values), unique=True, max_size=most).map(
        lambda found: tuple(sorted(found))
    )


@st.composite
def inventories(draw: Any) -> service.Inventory:
    """Draw an inventory, now and then with awkward limits."""
    total = draw(st.sampled_from((1, 1, 1, 2, 3, 4, 6)))
    if not _one_in(draw, 3):
        used = draw(st.integers(0, total)) if _one_in(draw, 3) else 0
        return service.Inventory(total, used=used)
    reserved = draw(st.integers(0, min(1, total - 1)))
    ratio = draw(st.sampled_from((1.0, 1.5, 2.0)))
    capacity = int((total - reserved) * ratio)
    return service.Inventory(
        total,
        used=draw(st.integers(0, capacity)) if draw(st.booleans()) else 0,
        reserved=reserved,
        min_unit=2 if _one_in(draw, 6) else 1,
        max_unit=draw(st.integers(1, total)),
        step_size=2 if _one_in(draw, 6) else 1,
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
                    if _one_in(draw, 6)
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
        for device in range(draw(st.sampled_from((2, 3, 4)))):
            classes = draw(
                st.sampled_from(
                    (
                        *(DEVICE_CLASSES[:1],) * 4,
                        *(DEVICE_CLASSES[1:],) * 2,
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
                    draw(_subsets(AGGREGATES, 1)) if _one_in(draw, 4) else (),
                )
            )
    if _one_in(draw, 3):
        rc = draw(st.sampled_from(("DISK_GB",) * 5 + ("CUSTOM_GPU",)))
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
    kind = draw(st.sampled_from(("",) * 6 + ("all", "not", "any", "both")))
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
        draw(st.sampled_from(DEVICE_CLASSES[:1] * 4 + DEVICE_CLASSES)): (
            2 if _one_in(draw, 5) else 1
        )
    }
    if _one_in(draw, 10):
        resources[draw(st.sampled_from(DEVICE_CLASSES))] = 1
    pairs = [
        ("resources", ",".join(f"{rc}:{n}" for rc, n in resources.items()))
    ]
    pairs += [("required", value) for value in _required(draw)]
    if _one_in(draw, 10):
        aggregate = draw(st.sampled_from(AGGREGATES))
        prefix = draw(st.sampled_from(("", "!", "in:")))
        pairs.append(("member_of", f"{prefix}{aggregate}"))
    if _one_in(draw, 10):
        pairs.append(("in_tree", service.provider_uuid("host0")))
    return pairs


@st.composite
def queries(draw: Any) -> Query:
    """Draw a query with two to five suffixed groups, some of them equal."""
    sizes = draw(
        st.sampled_from(
            ((2,), (2,), (3,), (4,), (2, 1), (2, 2), (3, 1), (3, 2), (2, 1, 1))
        )
    )
    groups: list[list[tuple[str, str]]] = []
    suffixes_by_template: dict[object, list[str]] = {}
    number = 0
    for size in sizes:
        template = _template(draw)
        suffixes = [f"_{number + offset}" for offset in range(size)]
        number += size
        suffixes_by_template.setdefault(tuple(template), []).extend(suffixes)
        groups += [
            [(f"{name}{suffix}", value) for name, value in template]
            for suffix in suffixes
        ]
    unsuffixed = draw(
        st.sampled_from(
            (
                "",
                *("VCPU:1",) * 4,
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
    if _one_in(draw, 8):
        pairs.append(
            (
                "root_required",
                draw(st.sampled_from(("CUSTOM_FAST", "!CUSTOM_RED"))),
            )
        )
    classes = list(suffixes_by_template.values())
    if len(classes) > 1 and _one_in(draw, 6):
        bound = [classes[0].pop(), classes[1].pop()]
        pairs.append(("same_subtree", ",".join(bound)))
        classes += [[suffix] for suffix in bound]
    return Query(
        tuple(pairs), tuple(tuple(found) for found in classes if found)
    )


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
