# SPDX-License-Identifier: Apache-2.0

"""Generated questions to a host: its pools, PCI requests and candidates.

A :class:`Case` is plain data, so that what hypothesis prints after a failure
can be pasted into a test as it is. As on real hosts most pools are alike and
most requests ask for what is there, with a few oddities in each case: where
everything differs, everything is refused and nothing is tested.

Hypothesis pays by the draw, five times as much for a case of forty draws as
Nova takes to answer it. So it draws one string of bytes, and each byte makes
one choice.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import pprint
import random
from typing import Any
from typing import TypeVar

from hypothesis import strategies as st
from nova import objects
from nova.pci import stats

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Case:
    """One question to one host.

    ``pools`` and ``requests`` are the arguments of ``PciDevicePool.from_dict``
    and ``InstancePCIRequest``.
    """

    pools: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    mappings: list[dict[str, list[str]] | None]
    """``mappings`` of each allocation candidate."""

    def __repr__(self) -> str:
        fields = "".join(
            f"  {field.name}="
            + pprint.pformat(getattr(self, field.name), sort_dicts=False)
            + ",\n"
            for field in dataclasses.fields(self)
        )
        return f"Case(\n{fields})"

    def pci_stats(self) -> stats.PciDeviceStats:
        """Make what a host state holds, from what the database holds."""
        return stats.PciDeviceStats(
            None,
            stats=objects.PciDevicePoolList(
                objects=[
                    objects.PciDevicePool.from_dict(pool)
                    for pool in self.pools
                ]
            ),
        )

    def pci_requests(self) -> list[objects.InstancePCIRequest]:
        """Make the requests of a request spec."""
        return [
            objects.InstancePCIRequest(**request) for request in self.requests
        ]


class _Choices:
    """Makes each choice from the next byte.

    Zero chooses the first alternative, to which hypothesis shrinks: put the
    plainest first. A choice that turns out not to matter is made all the same,
    so that a byte keeps its meaning while others shrink.
    """

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def one(self, alternatives: Sequence[T]) -> T:
        """Choose one."""
        return alternatives[next(self._bytes) % len(alternatives)]

    def often(self) -> bool:
        """Answer True, but in one of five cases False."""
        return self.one((*[True] * 4, False))

    def seldom(self) -> bool:
        """Answer False, but in one of five cases True."""
        return not self.often()

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Put the items in one of 256 orders, the first that given."""
        shuffled = list(items)
        if seed := next(self._bytes):
            random.Random(seed).shuffle(shuffled)
        return shuffled


_ODD_VALUES: dict[str, tuple[str | None, ...]] = {
    "vendor_id": ("15b3", "10DE"),
    "product_id": ("101e",),
    "dev_type": ("type-PF", "type-VF", "vdpa", "Type-PF", None),
    "remote_managed": ("true", "True", "false", None),
    "live_migratable": ("true", "True", "false", "False", None),
    "physical_network": ("net1", "NET1", "net2", None),
    "rack": ("A", "a", None),
    "resource_class": ("CUSTOM_A100",),
    "traits": ("CUSTOM_FAST",),
}
"""Ids and tags that one pool or one spec has, unlike the others."""

_KEYS_ASKED_FOR: list[tuple[str, ...]] = [
    (),
    ("vendor_id",),
    ("vendor_id", "product_id"),
    ("vendor_id", "product_id"),
    ("vendor_id", "product_id", "dev_type"),
    ("vendor_id", "product_id", "dev_type"),
    ("product_id", "resource_class"),
    ("dev_type", "remote_managed"),
    ("dev_type", "live_migratable"),
    ("physical_network", "dev_type", "remote_managed"),
    ("rack", "traits"),
]
"""Keys of a spec: the values are those of a pool, None where it has none."""

_PLACES: list[tuple[int | None, int]] = list(
    itertools.product((None, 0, 1, 0, 1, 2), (2, 1, 3, 4, 2, 0))
)
"""NUMA node and number of free devices of a pool."""

_RP_UUIDS: list[list[dict[str, str | None]]] = [
    # No PCI in Placement.
    [{}, {}, {}, {}, {}],
    # As it should be: a provider for each pool.
    *itertools.repeat(
        [{"rp_uuid": f"rp{number}"} for number in range(1, 6)], 8
    ),
    # Split providers, which Nova refuses as long as they are split.
    [{"rp_uuid": "rp1"}, {"rp_uuid": "rp2"}] * 2 + [{"rp_uuid": "rp1"}],
    [{"rp_uuid": None}, {"rp_uuid": "rp1"}, {"rp_uuid": None}, {}, {}],
]


def _odd(choices: _Choices, theme: str) -> dict[str, str | None]:
    """Choose no oddity, or one that most likely concerns the theme."""
    key = choices.one((theme, theme, theme, *_ODD_VALUES))
    value = choices.one(_ODD_VALUES[key])
    return {key: value} if choices.seldom() else {}


def _pools(choices: _Choices, theme: str) -> list[dict[str, Any]]:
    """Free devices of a host: alike but for their place and oddities."""
    alike = {"vendor_id": "10de", "product_id": "2330", "dev_type": "type-PCI"}
    for _ in range(3):
        alike |= _odd(choices, theme)
    pools = []
    for rp_uuid in choices.one(_RP_UUIDS):
        numa_node, count = choices.one(_PLACES)
        place = {"numa_node": numa_node, "count": count}
        pools.append(alike | place | _odd(choices, theme) | rp_uuid)
    return choices.shuffled(pools[: choices.one((1, 2, 3, 4, 5, 5))])


def _spec(
    choices: _Choices, theme: str, pools: Sequence[dict[str, Any]]
) -> dict[str, str | None]:
    """Ask for what one pool is, in any case, and now and then for more."""
    like = choices.one(pools)
    keys = choices.one((*_KEYS_ASKED_FOR, (theme,), (theme,), (theme,)))
    spec = {key: like.get(key) for key in keys}
    other_case = choices.one((str.swapcase, str.lower))
    if choices.seldom():
        spec = {
            key: value and other_case(value) for key, value in spec.items()
        }
    return spec | _odd(choices, theme)


def _deal(choices: _Choices, pools: Sequence[dict[str, Any]]) -> list[str]:
    """The providers of all free devices in any order, then an unknown one."""
    free = [
        pool["rp_uuid"]
        for pool in pools
        for _ in range(pool["count"])
        if pool.get("rp_uuid")
    ]
    return [*choices.shuffled(free), "rp9"]


def _request(
    choices: _Choices,
    theme: str,
    request_id: str,
    pools: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    count = choices.one((1, 1, 1, 2, 1, 2, 3, 4, 0))
    specs = [_spec(choices, theme, pools), _spec(choices, theme, pools)]
    request = {
        "request_id": request_id,
        "alias_name": "a1" if choices.often() else None,
        "count": count,
        "spec": specs[: choices.one((1, 1, 2))],
    }
    request |= choices.one(
        (
            {},
            {"numa_policy": None},
            {"numa_policy": "legacy"},
            {"numa_policy": "preferred"},
            {"numa_policy": "required"},
            {"numa_policy": "socket"},
        )
    )
    allocated = ",".join(_deal(choices, pools)[: count or 1])
    if choices.seldom():
        specs[0]["rp_uuids"] = allocated
    return request


def _mapping(
    choices: _Choices,
    pools: Sequence[dict[str, Any]],
    requests: Sequence[dict[str, Any]],
) -> dict[str, list[str]] | None:
    """Map suffixes to providers as Placement does, or not at all."""
    kind = choices.one((*["dealt"] * 5, "overdrawn", "few", "empty", "none"))
    # "dealt" is what Placement answers: no device twice while there are
    # enough. The other kinds are what Nova must not trust.
    mapping = {"": ["root"]}
    dealt = _deal(choices, pools)
    for request in requests:
        again = _deal(choices, pools)
        if kind == "overdrawn":
            dealt = again
        for number in range(request["count"] - (kind == "few")):
            rp_uuid = dealt[0] if len(dealt) == 1 else dealt.pop(0)
            mapping[f"{request['request_id']}-{number}"] = [rp_uuid, "root"]
    return {"empty": {}, "none": None}.get(kind, mapping)


def _case(data: bytes) -> Case:
    choices = _Choices(data)
    theme = choices.one(tuple(_ODD_VALUES))
    pools = _pools(choices, theme)
    # r1 is a prefix of r11, and Nova compares suffixes by startswith.
    request_ids = choices.one(
        (
            ["r1"],
            ["r1"],
            ["r1"],
            ["r1", "r2"],
            ["r1", "r11"],
            ["r11", "r1"],
            ["r1", "r2", "r3"],
        )
    )
    requests = [
        _request(choices, theme, request_id, pools)
        for request_id in (*request_ids, "", "")[:3]
    ][: len(request_ids)]
    mappings = [_mapping(choices, pools, requests) for _ in range(3)]
    return Case(
        pools=pools,
        requests=requests,
        mappings=mappings[: choices.one((1, 2, 3))],
    )


_BYTES = 128
"""More than a case has choices."""


def cases() -> st.SearchStrategy[Case]:
    """Everything that ``PciDeviceStats.support_requests`` looks at."""
    return st.binary(min_size=_BYTES, max_size=_BYTES).map(_case)
