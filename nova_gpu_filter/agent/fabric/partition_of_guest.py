# SPDX-License-Identifier: Apache-2.0

"""Which partition a guest's GPUs are.

A partition is known by the PCI addresses of its GPUs: from the tags
``gpu_links`` of ``[pci]device_spec``, as ``nova-gpu-host config`` writes them,
or from a saved output of ``nova-gpu-host inventory``. Both were made while the
driver nvidia had the GPUs, with their Module Ids, which do not follow the PCI
order; nothing is asked of NVML when a guest starts.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from typing import TypeAlias

from nova_gpu_filter import exception
from nova_gpu_filter.agent import errors
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.links import fabric_output
from nova_gpu_filter.host.saved import inventory_json
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.topology import codec

Partitions: TypeAlias = Mapping[int, frozenset[str]]
"""Id of a partition -> PCI addresses of its GPUs."""


class NoPartition(errors.AgentError):
    """A guest has GPUs of the fabric that are no partition together."""

    message = (
        "%(devices)s are no fabric partition together, so that they cannot"
        " have NVLinks; partitions of them are %(known)s. Give the flavor"
        " gpu:link=fabric"
    )


class OtherPartition(errors.AgentError):
    """What is known of a partition is not what Fabric Manager says."""

    message = (
        "partition %(partition)s has %(ours)s here, and %(theirs)s in Fabric"
        " Manager: write the tags gpu_links again with 'nova-gpu-host config"
        " --fabric'"
    )


def read_tags(options: pci_options.PciOptions) -> Partitions:
    """Read the partitions in the tags of device specs.

    One of which not all GPUs are given to guests is left out.

    :raises AgentError: a tag cannot be read.
    """
    found: dict[int, set[str]] = {}
    sizes: dict[int, int] = {}
    for text in options.device_specs:
        try:
            for spec in device_spec.parse(text):
                tag, numbers = spec.tags.get(codec.TAG), spec.exact_address
                if not isinstance(tag, str) or numbers is None:
                    continue
                address = str(address_lib.PciAddress(*numbers))
                for id_, size in codec.parse_text(address, tag).partitions:
                    found.setdefault(id_, set()).add(address)
                    sizes[id_] = size
        except (codec.LinkTextError, device_spec.SpecError) as error:
            raise errors.AgentError(
                reason=f"{options.source}: {error}"
            ) from error
    return {
        id_: frozenset(addresses)
        for id_, addresses in found.items()
        if len(addresses) == sizes[id_]
    }


def read_inventory(path: str) -> Partitions:
    """Read the partitions in a saved output of ``nova-gpu-host inventory``.

    :raises AgentError: it cannot be read, or has no partitions.
    """
    source = f"[gpu_agent]fabric_inventory = {path}"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        _host, host_links = inventory_json.read(path, text)
    except OSError as error:
        raise errors.CannotRead(
            source=source, error=error.strerror or error
        ) from error
    except (ValueError, exception.BadInput) as error:
        raise errors.CannotRead(source=source, error=error) from error
    if not host_links.partitions:
        raise errors.CannotRead(
            source=source,
            error="it has no fabric partitions; save 'nova-gpu-host inventory"
            " --fabric FILE -f json' again",
        )
    return {
        partition.id: frozenset(map(str, partition.addresses))
        for partition in host_links.partitions
    }


def choose(partitions: Partitions, devices: Collection[str]) -> int | None:
    """Find the partition of a guest.

    :param devices: PCI addresses of all its devices; those that are in no
        partition do not count.
    :returns: its id; None: the guest has no GPU of the fabric.
    :raises NoPartition: its GPUs are none.
    """
    of_fabric = frozenset().union(*partitions.values())
    wanted = of_fabric & frozenset(devices)
    if not wanted:
        return None
    for id_, addresses in sorted(partitions.items()):
        if addresses == wanted:
            return id_
    near = [
        f"{id_} ({' '.join(sorted(addresses))})"
        for id_, addresses in sorted(partitions.items())
        if addresses < wanted
    ]
    raise NoPartition(
        devices=" ".join(sorted(wanted)), known=", ".join(near) or "none"
    )


def check(
    id_: int,
    devices: Collection[str],
    listed: Collection[fabric_output.ListedPartition],
) -> fabric_output.ListedPartition:
    """Hold a partition against Fabric Manager's own list.

    :param listed: what Fabric Manager lists; it knows the PCI address of a
        GPU only where the driver nvidia has it.
    :raises OtherPartition: it is another one there.
    """
    theirs = "is not listed"
    for one in listed:
        if one.id != id_:
            continue
        known = {str(m.address) for m in one.members if m.address is not None}
        if len(one.members) == len(devices) and known <= set(devices):
            return one
        theirs = " ".join(sorted(known)) or f"{len(one.members)} GPUs"
        # Of a list that has it twice nothing else is believed.
        break
    raise OtherPartition(
        partition=id_, ours=" ".join(sorted(devices)), theirs=theirs
    )


def find_vfs(
    partitions: Partitions,
    devices: Collection[str],
    find_parent: Callable[[str], str | None],
) -> dict[str, str]:
    """Find the VFs among devices: GPU of a partition -> VF."""
    gpus = frozenset().union(*partitions.values())
    parents = {find_parent(one): one for one in devices if one not in gpus}
    return {gpu: parents[gpu] for gpu in gpus & parents.keys()}


def order_vfs(
    partition: int,
    vfs: Collection[str],
    listed: fabric_output.ListedPartition,
    find_parent: Callable[[str], str | None],
) -> list[address_lib.PciAddress]:
    """Order the VFs of a guest as Fabric Manager orders the GPUs.

    :param listed: the partition, as Fabric Manager lists it.
    :raises NoOrder: it does not list the PCI addresses of the GPUs.
    """
    by_gpu = {find_parent(vf): vf for vf in vfs}
    if not by_gpu:
        return []
    try:
        ordered = [by_gpu[str(member.address)] for member in listed.members]
    except KeyError:
        raise errors.NoOrder(partition=partition, vfs=" ".join(vfs)) from None
    return list(map(address_lib.PciAddress.parse, ordered))
