# SPDX-License-Identifier: Apache-2.0

"""Why a host was refused: data first, text last."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import enum
from typing import NamedTuple

from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.topology import Topology


class Drop(enum.Enum):
    """Why free devices of a host could not serve a request.

    The order is the order in which devices are dropped, that of
    ``PciDeviceStats._filter_pools`` in nova/pci/stats.py. The value completes
    the sentence "n devices <value>".
    """

    __hash__ = object.__hash__  # That of Enum is slow.

    PROPERTIES = "with other ids or tags"
    UNREQUESTED_PF = "are physical functions, which were not requested"
    UNREQUESTED_VDPA = "are vDPA devices, which were not requested"
    REMOTE_MANAGED = "are remote-managed, which was not requested"
    NOT_ALLOCATED = "not in the allocation candidate"
    LIVE_MIGRATABLE = "with another live_migratable"


class Cause(enum.Enum):
    """The one thing to tell an operator about a refused host.

    The value is the words of the summary, after a number of hosts.
    """

    __hash__ = object.__hash__  # That of Enum is slow.

    NO_PCI_DEVICES = "no PCI devices"
    NO_CANDIDATE = "no allocation candidate left by earlier filters"
    TOO_FEW_DEVICES = "too few free devices"
    UNREQUESTED_PF = "free devices are unrequested physical functions"
    UNREQUESTED_VDPA = "free devices are unrequested vDPA devices"
    REMOTE_MANAGED = "free devices are remote-managed"
    NOT_ALLOCATED = "Placement offers devices that Nova has not free"
    LIVE_MIGRATABLE = "free devices differ in live_migratable"
    LINK = "no free set with the links asked for"
    MOVE = "a move would end on devices without the links asked for"
    BAD_EXTRA_SPEC = (
        "flavor with a bad gpu:link, gpu:link_policy or gpu:spread"
    )
    SPLIT_PROVIDER = "one resource provider is split over several pools"
    UNEXPLAINED = "no fitting devices, without a reason given"


CAUSE_BY_DROP = {
    Drop.PROPERTIES: Cause.TOO_FEW_DEVICES,
    Drop.UNREQUESTED_PF: Cause.UNREQUESTED_PF,
    Drop.UNREQUESTED_VDPA: Cause.UNREQUESTED_VDPA,
    Drop.REMOTE_MANAGED: Cause.REMOTE_MANAGED,
    Drop.NOT_ALLOCATED: Cause.NOT_ALLOCATED,
    Drop.LIVE_MIGRATABLE: Cause.LIVE_MIGRATABLE,
}
"""What to report when this drop left fewer devices than were asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class LinkShortage:
    """Which links the free devices of a host do not have."""

    asked: str
    """The value of ``gpu:link``."""
    largest: tuple[str, ...]
    """PCI addresses of a largest set of free devices that has them."""
    would_fit: tuple[str, ...]
    """Values of ``gpu:link`` that the free devices could meet now.

    If ``asked`` is among them, the host has such a set, but no candidate of
    Placement is one.
    """


def find_link_shortage(
    topology: Topology,
    free: int,
    list_addresses: Callable[[int], Iterable[str]],
    k: int,
    asked: Requirement,
) -> LinkShortage:
    """Find out what to tell of k devices that cannot be had as asked.

    :param free: mask of the free devices.
    :param list_addresses: lists the PCI addresses of a set.
    """
    largest = satisfaction.find_largest_set(topology, free, asked)
    met = satisfaction.list_met_requirements(topology, free, k)
    return LinkShortage(
        asked=asked.value,
        largest=tuple(list_addresses(largest)),
        would_fit=tuple(requirement.value for requirement in met),
    )


# Made for every host that is refused: see HostPools.
class Refusal(NamedTuple):
    """Why one host cannot serve one instance.

    The fields after ``cause`` are set when one request could not be met.
    """

    cause: Cause
    request: str | None = None
    """The alias, or the Neutron port request, that could not be met."""
    asked: int = 0
    """Devices that this request asks for."""
    specs: tuple[tuple[tuple[str, str | None], ...], ...] = ()
    """What the devices must be: alternatives of (property, value)."""
    free: int = 0
    """Free devices of the host when this request's turn came."""
    dropped: tuple[tuple[Drop, int], ...] = ()
    """(why, number of devices), in the order in which they were dropped."""
    candidates: int = 0
    """Allocation candidates of the host, none of which was accepted."""
    links: LinkShortage | None = None
    """Set when the devices would do, but not their links."""
    detail: str | None = None
    """More words, for causes that are no matter of numbers."""

    @property
    def left(self) -> int:
        """Devices that could have served the request."""
        return self.free - sum(count for _, count in self.dropped)


def describe(refusal: Refusal) -> str:
    """Say in one line why a host was refused, for the log and for people."""
    if refusal.links is not None:
        return _describe_links(refusal, refusal.links)
    if refusal.detail is not None:
        return f"{refusal.cause.value}: {refusal.detail}"
    if refusal.request is None:
        return refusal.cause.value
    wanted = " or ".join(
        " ".join(f"{key}={value}" for key, value in spec)
        for spec in refusal.specs
    )
    dropped = "".join(
        f", {count} {drop.value}" for drop, count in refusal.dropped
    )
    return (
        f"{refusal.cause.value}: {refusal.request} asks for {refusal.asked}"
        f" ({wanted or 'any device'}); {refusal.free} free{dropped};"
        f" {refusal.left} left"
    )


def _describe_links(refusal: Refusal, links: LinkShortage) -> str:
    asked = f"gpu:link={links.asked}"
    if links.asked in links.would_fit:
        cure = (
            f"a free set with {asked} exists, but none of the"
            f" {refusal.candidates} allocation candidates is one"
        )
    else:
        largest = f"{len(links.largest)}: {' '.join(links.largest) or 'none'}"
        fits = ", ".join(f"gpu:link={value}" for value in links.would_fit)
        cure = (
            f"largest {links.asked} set {largest}; would fit"
            f" {f'with {fits}' if fits else 'without gpu:link'}"
        )
    return (
        f"{refusal.cause.value}: {refusal.request} asks for {refusal.asked}"
        f" with {asked}; {refusal.free} free, {cure}"
    )


def summarize(refusals: Iterable[Refusal], hosts: int) -> str:
    """Say in one line how many of ``hosts`` were refused, and why.

    For example ``0 of 40 hosts: 31 too few free devices, 9 no PCI devices``:
    the most frequent cause first. What is wrong with the request itself is
    the same on all hosts, and is said here.
    """
    tally = collections.Counter(
        (
            refusal.cause.value,
            refusal.detail if refusal.cause is Cause.BAD_EXTRA_SPEC else None,
        )
        for refusal in refusals
    )
    passed = f"{hosts - tally.total()} of {hosts} hosts"
    causes = ", ".join(
        f"{count} {cause}" + (f" ({detail})" if detail else "")
        for (cause, detail), count in sorted(
            tally.items(), key=lambda item: (-item[1], item[0][0])
        )
    )
    return f"{passed}: {causes}" if causes else passed
