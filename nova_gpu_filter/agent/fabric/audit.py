# SPDX-License-Identifier: Apache-2.0

"""Compares what libvirt, Placement, the ledger and Fabric Manager say."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum

from nova_gpu_filter import exception
from nova_gpu_filter.agent.fabric import partition_of_guest
from nova_gpu_filter.agent.fabric.owning import Ownership
from nova_gpu_filter.agent.fabric.owning import Phase


class Problem(enum.StrEnum):
    """What can be wrong with a partition."""

    LEAKED = "leaked"
    """It is active, and is of no guest that runs."""
    MISSING = "missing"
    """A guest runs, and its partition is not active."""
    CROSSING = "crossing"
    """A guest has a GPU of a partition that is active for another."""
    UNALLOCATED = "unallocated"
    """A guest has it, and Placement gives its GPUs to nobody."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One problem."""

    problem: Problem
    partition: int | None
    server: str | None
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Truths:
    """What is said at one moment."""

    partitions: partition_of_guest.Partitions
    rows: Mapping[int, Ownership]
    """Of the ledger."""
    active: Collection[int]
    """Partitions, by Fabric Manager."""
    running: Mapping[str, frozenset[str]]
    """UUID of a running domain -> GPUs of the fabric that it has, or the GPUs
    of its VFs."""
    consumers: Mapping[str, tuple[str, ...]] | None
    """Address -> who has it allocated; None: Placement cannot be read."""


def compare(truths: Truths) -> Iterator[Found]:
    """Find what does not agree."""
    holders = {
        device: uuid
        for uuid, devices in truths.running.items()
        for device in devices
    }
    for id_ in sorted(truths.active):
        row = truths.rows.get(id_)
        owner = None if row is None else row.owner
        if owner not in truths.running:
            whose = (
                "no guest owns it in the ledger"
                if owner is None
                else f"its owner {owner} does not run"
            )
            yield Found(
                Problem.LEAKED, id_, owner, f"it is active, and {whose}"
            )
        for device in sorted(truths.partitions.get(id_, ())):
            other = holders.get(device)
            if other is not None and other != owner:
                text = (
                    f"{device} is of {other}, and the partition is active for"
                    f" {owner or 'nobody that is known'}"
                )
                yield Found(Problem.CROSSING, id_, other, text)
            for consumer in (truths.consumers or {}).get(device, ()):
                # A migration has the allocation of its source.
                is_known = consumer in (owner, other)
                if consumer in truths.running and not is_known:
                    text = (
                        f"{device} is allocated to {consumer} in Placement,"
                        f" and active for {owner}"
                    )
                    yield Found(Problem.CROSSING, id_, consumer, text)
    yield from _compare_guests(truths)


def _compare_guests(truths: Truths) -> Iterator[Found]:
    for uuid, devices in sorted(truths.running.items()):
        try:
            id_ = partition_of_guest.choose(truths.partitions, devices)
        except exception.GpuFilterError as error:
            yield Found(Problem.MISSING, None, uuid, str(error))
            continue
        if id_ is None:
            continue
        row = truths.rows.get(id_)
        text = None
        if id_ not in truths.active:
            text = "its partition is not active"
        elif row is not None and row.phase is Phase.LEAVING:
            text = "it is running, and its partition is to be deactivated"
        if text is not None:
            yield Found(Problem.MISSING, id_, uuid, text)
        if truths.consumers is not None and not any(
            truths.consumers.get(device) for device in devices
        ):
            text = "nobody has its GPUs allocated in Placement"
            yield Found(Problem.UNALLOCATED, id_, uuid, text)
