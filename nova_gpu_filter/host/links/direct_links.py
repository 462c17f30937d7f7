# SPDX-License-Identifier: Apache-2.0

"""The links between devices that a vendor's tool numbers in its own way.

Tools print them as a square of cells, with the numbers on both sides.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import re
from typing import TypeAlias

from nova_gpu_filter import exception
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.topology.links import Link

Pair: TypeAlias = tuple[int, int]
"""Two devices by the tool's numbers, the lower first."""

_MOST_DEVICES = 256


@dataclasses.dataclass(frozen=True)
class DirectLinks:
    """The devices that a tool saw, and which pairs have a link of their own.

    Devices are named by the numbers that the tool gives them.
    """

    devices: tuple[int, ...]
    link_by_pair: Mapping[Pair, Link | None]
    """All pairs; None: only the way over PCIe."""
    addresses: Mapping[int, PciAddress]
    """Of those whose address was printed."""
    numa: Mapping[int, int]
    """NUMA node of those where it was printed."""


def format_matrix(
    found: DirectLinks, name: str, diagonal: str, far: str, direct: str
) -> list[str]:
    """Write a square of cells, as :func:`parse_matrix` reads it."""

    def format_cell(a: int, b: int) -> str:
        if a == b:
            return diagonal
        link = found.link_by_pair[min(a, b), max(a, b)]
        return far if link is None else direct

    lines = [" ".join(f"{name}{device}" for device in found.devices)]
    for a in found.devices:
        cells = [format_cell(a, b) for b in found.devices]
        lines.append(" ".join([f"{name}{a}", *cells]))
    return lines


def parse_matrix(
    lines: Sequence[str], name: re.Pattern[str]
) -> tuple[tuple[int, ...], dict[Pair, str]]:
    """Read a square of cells under a heading of names.

    :returns: the devices, and the cells of all pairs, in upper case; nothing
        if there is no heading.
    :raises Malformed: rows and columns do not fit together.
    """
    columns: list[int] = []
    rows: dict[int, list[str]] = {}
    for line in lines:
        words = line.split()
        if not words:
            continue
        if not columns:
            # What follows the names is about CPUs.
            named = itertools.takewhile(bool, map(name.fullmatch, words))
            columns = [int(match[1]) for match in named if match]
        elif match := name.fullmatch(words[0]):
            device = int(match[1])
            if device in rows or device not in columns:
                raise exception.Malformed(
                    f"the row of {words[0]} is there twice, or has no column"
                )
            rows[device] = [word.upper() for word in words[1:]]
    if len(columns) > _MOST_DEVICES or len(set(columns)) < len(columns):
        raise exception.Malformed(
            f"the heading names {len(columns)} devices, some of them"
            f" twice, or more than {_MOST_DEVICES}"
        )
    for device in columns:
        if len(rows.get(device, ())) < len(columns):
            raise exception.Malformed(
                f"the row of device {device} is missing or too short:"
                " save all of the output"
            )
    cells = {}
    for (a, one), (b, other) in itertools.combinations(enumerate(columns), 2):
        cell, opposite = rows[one][b], rows[other][a]
        if cell != opposite:
            raise exception.Malformed(
                f"{one} to {other} is {cell}, but {other} to {one} is"
                f" {opposite}"
            )
        cells[min(one, other), max(one, other)] = cell
    return tuple(sorted(columns)), cells


def parse_addresses(found: Sequence[tuple[str, str]]) -> dict[int, PciAddress]:
    """Read the addresses of devices, given as (number, address).

    :raises Malformed: one is no address, or two devices have the same.
    """
    addresses: dict[int, PciAddress] = {}
    for number, text in found:
        address = address_lib.find(text)
        if address is None:
            raise exception.Malformed(f"'{text}' is no PCI address")
        addresses[int(number)] = address
    if len(set(addresses.values())) < len(addresses):
        raise exception.Malformed(
            "two devices have one PCI address: GPUs that are divided"
            " into partitions cannot be passed through one by one"
        )
    return addresses
