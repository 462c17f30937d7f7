# SPDX-License-Identifier: Apache-2.0

"""Links of devices as text: the tag ``gpu_links`` and Placement traits.

One device, both ways::

    nv18:0,pix:3,fabric:0/8,fabric:2/4

    CUSTOM_GPU_LINK_NV18_0, CUSTOM_GPU_LINK_PIX_3,
    CUSTOM_GPU_FABRIC_0_8, CUSTOM_GPU_FABRIC_2_4

All devices of a host that name the same link group have at least that link
with each other; ``fabric:<id>/<size>`` names a fabric partition and how many
devices it has. Both numbers are local to a host.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import re
from typing import Final

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

TAG: Final = "gpu_links"
"""The tag of a device spec that has the text."""

LINK_TRAIT_PREFIX: Final = "CUSTOM_GPU_LINK_"
FABRIC_TRAIT_PREFIX: Final = "CUSTOM_GPU_FABRIC_"
TRAIT_PREFIXES: Final = (LINK_TRAIT_PREFIX, FABRIC_TRAIT_PREFIX)
"""What traits that say links begin with."""

_ALLOWED: Final = (
    f"allowed are <type>:<group> with a type of {links.TYPES.lower()} or node,"
    " and fabric:<id>/<size>; group, id and size are numbers"
)
_ALLOWED_TRAITS: Final = (
    f"allowed are {LINK_TRAIT_PREFIX}<type>_<group> with a type of"
    f" {links.TYPES} or NODE, and {FABRIC_TRAIT_PREFIX}<id>_<size>; group, id"
    " and size are numbers"
)
# One way to write each number, and a trait that stays far below the 255
# characters that Placement allows.
_NUMBER: Final = r"(0|[1-9][0-9]{0,8})"
# nvidia-smi's SYS and X are left out: they say nothing of a group.
_TYPE: Final = "({})".format(
    "|".join(
        kind.lower() + ("[1-9][0-9]?" if most else "")
        for kind, most in links.DIRECT_KINDS
    )
    + "|pix|pxb|phb|node"
)
_LINK_TOKEN: Final = re.compile(f"{_TYPE}:{_NUMBER}")
_FABRIC_TOKEN: Final = re.compile(f"fabric:{_NUMBER}/{_NUMBER}")
_LINK_TRAIT: Final = re.compile(
    f"{LINK_TRAIT_PREFIX}{_TYPE.upper()}_{_NUMBER}"
)
_FABRIC_TRAIT: Final = re.compile(f"{FABRIC_TRAIT_PREFIX}{_NUMBER}_{_NUMBER}")


class LinkTextError(ValueError):
    """A device's links cannot be read; the message is for an operator."""

    def __init__(self, device: str, token: str, problem: str) -> None:
        super().__init__(f"{device}: gpu_links {token!r}: {problem}")
        self.device = device
        self.token = token


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceLinks:
    """What the text of one device says."""

    groups: tuple[tuple[Link, int], ...] = ()
    """(link, group): it has at least that link with all of the group."""
    partitions: tuple[tuple[int, int], ...] = ()
    """(id, size) of the fabric partitions it belongs to."""


def parse_text(device: str, text: str) -> DeviceLinks:
    """Read the tag ``gpu_links`` of one device, in any case.

    :param device: what messages call it, for example its PCI address.
    :raises LinkTextError: a token is unknown, empty or there twice.
    """
    groups: list[tuple[Link, int]] = []
    partitions: list[tuple[int, int]] = []
    tokens = [token.strip() for token in text.lower().split(",")]
    _refuse_duplicates(device, tokens)
    for token in tokens:
        if fabric := _FABRIC_TOKEN.fullmatch(token):
            partitions.append(
                _parse_partition(device, token, *fabric.groups())
            )
        elif link := _LINK_TOKEN.fullmatch(token):
            groups.append((links.parse(link[1]), int(link[2])))
        else:
            raise LinkTextError(device, token, _ALLOWED)
    return _sort(device, groups, partitions)


def parse_traits(device: str, traits: Iterable[str]) -> DeviceLinks:
    """Read the traits of one device; those of others are passed over.

    :raises LinkTextError: a trait with one of our prefixes cannot be read.
    """
    groups: list[tuple[Link, int]] = []
    partitions: list[tuple[int, int]] = []
    for trait in sorted(set(traits)):
        if trait.startswith(LINK_TRAIT_PREFIX):
            link = _LINK_TRAIT.fullmatch(trait)
            if not link:
                raise LinkTextError(device, trait, _ALLOWED_TRAITS)
            groups.append((links.parse(link[1]), int(link[2])))
        elif trait.startswith(FABRIC_TRAIT_PREFIX):
            fabric = _FABRIC_TRAIT.fullmatch(trait)
            if not fabric:
                raise LinkTextError(device, trait, _ALLOWED_TRAITS)
            partitions.append(
                _parse_partition(device, trait, *fabric.groups())
            )
    return _sort(device, groups, partitions)


def format_text(device_links: DeviceLinks) -> str:
    """Write the tag of one device; empty when it has no links."""
    return ",".join(
        [
            f"{links.name(link).lower()}:{group}"
            for link, group in device_links.groups
        ]
        + [f"fabric:{id_}/{size}" for id_, size in device_links.partitions]
    )


def format_traits(device_links: DeviceLinks) -> tuple[str, ...]:
    """Write the traits of one device, in the order of the text."""
    return (
        *(
            f"{LINK_TRAIT_PREFIX}{links.name(link)}_{group}"
            for link, group in device_links.groups
        ),
        *(
            f"{FABRIC_TRAIT_PREFIX}{id_}_{size}"
            for id_, size in device_links.partitions
        ),
    )


def _parse_partition(
    device: str, token: str, id_: str, size: str
) -> tuple[int, int]:
    if size == "0":
        raise LinkTextError(
            device, token, "a fabric partition has at least one device"
        )
    return int(id_), int(size)


def _refuse_duplicates(device: str, tokens: Sequence[str]) -> None:
    seen = set()
    for token in tokens:
        if token in seen:
            raise LinkTextError(device, token, "stands there twice")
        seen.add(token)


def _sort(
    device: str,
    groups: list[tuple[Link, int]],
    partitions: list[tuple[int, int]],
) -> DeviceLinks:
    """Bring to one order, best link first, then partitions by id."""
    groups.sort(key=lambda group: (-group[0], group[1]))
    partitions.sort()
    size_by_id: dict[int, int] = {}
    for id_, size in partitions:
        if size_by_id.setdefault(id_, size) != size:
            raise LinkTextError(
                device,
                f"fabric:{id_}/{size}",
                f"the same partition has {size_by_id[id_]} devices elsewhere",
            )
    return DeviceLinks(tuple(groups), tuple(partitions))
