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
import dataclasses
import re
from typing import Final

from nova_gpu_filter.topology import links

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


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceLinks:
    """What the text of one device says."""

    groups: tuple[tuple[links.Link, int], ...] = ()
    """(link, group): it has at least that link with all of the group."""
    partitions: tuple[tuple[int, int], ...] = ()
    """(id, size) of the fabric partitions it belongs to."""


def parse_text(device: str, text: str) -> DeviceLinks:
    """Read the tag ``gpu_links`` of one device, in any case.

    :param device: what messages call it, for example its PCI address.
    :raises LinkTextError: a token is unknown, empty or there twice.
    """
    tokens = [token.strip() for token in text.lower().split(",")]
    for place, token in enumerate(tokens):
        if token in tokens[:place]:
            raise LinkTextError(device, token, "stands there twice")
    return _parse(device, tokens, _LINK_TOKEN, _FABRIC_TOKEN, _ALLOWED)


def parse_traits(device: str, traits: Iterable[str]) -> DeviceLinks:
    """Read the traits of one device; those of others are passed over.

    :raises LinkTextError: a trait with one of our prefixes cannot be read.
    """
    ours = sorted({t for t in traits if t.startswith(TRAIT_PREFIXES)})
    return _parse(device, ours, _LINK_TRAIT, _FABRIC_TRAIT, _ALLOWED_TRAITS)


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


def _parse(
    device: str,
    tokens: Iterable[str],
    link_form: re.Pattern[str],
    fabric_form: re.Pattern[str],
    allowed: str,
) -> DeviceLinks:
    """Read tokens or traits, and sort them: best link first, then
    partitions by id."""
    groups: list[tuple[links.Link, int]] = []
    partitions: list[tuple[int, int]] = []
    for token in tokens:
        if fabric := fabric_form.fullmatch(token):
            if fabric[2] == "0":
                raise LinkTextError(
                    device, token, "a fabric partition has at least one device"
                )
            partitions.append((int(fabric[1]), int(fabric[2])))
        elif link := link_form.fullmatch(token):
            groups.append((links.parse(link[1]), int(link[2])))
        else:
            raise LinkTextError(device, token, allowed)
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
