# SPDX-License-Identifier: Apache-2.0

"""Reads the fabric partitions that Fabric Manager lists: ``fmpm -l``.

The JSON is that of the sample program ``fmpm`` of Fabric Manager's
development package; its fields are those of fmFabricPartitionList_t in
nv_fm_types.h. A GPU is named by its ``physicalId``, which nvidia-smi calls
Module Id and which has nothing to do with the PCI order. Its PCI address is
there only while the GPU is bound to the driver ``nvidia``.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from nova_gpu_filter import exception
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links.host_links import Partition


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One GPU of a partition."""

    module_id: int
    address: PciAddress | None
    """None where Fabric Manager does not see the GPU's PCI address."""

    @classmethod
    def read(cls, module_id: int, bus_id: str) -> "Member":
        """Make one of what Fabric Manager says; zeros stand for no address."""
        address = address_lib.find(bus_id)
        if address is not None and not (address.domain or address.bus):
            address = None
        return cls(module_id, address)


@dataclasses.dataclass(frozen=True, slots=True)
class ListedPartition:
    """A set of GPUs that Fabric Manager can activate together."""

    id: int
    is_active: bool
    members: tuple[Member, ...]


def parse(source: str, text: str) -> tuple[ListedPartition, ...]:
    """Read the output of ``fmpm -l``, partitions by their ids.

    :param source: what error messages call it, for example its path.
    :raises BadInput: it is no such list.
    """
    with exception.name_source(source):
        partitions = [
            _read_partition(f"partitionInfo[{index}]", entry)
            for index, entry in enumerate(_list_entries(text))
        ]
        ids = [partition.id for partition in partitions]
        for id_ in ids:
            if ids.count(id_) > 1:
                raise exception.Malformed(f"partition {id_} is there twice")
    return tuple(sorted(partitions, key=lambda partition: partition.id))


def _list_entries(text: str) -> list[Any]:
    # fmpm may say first that it has connected.
    start = text.find("{")
    try:
        data = json.loads(text[max(start, 0) :])
    except (ValueError, RecursionError) as error:
        raise exception.Malformed(
            f"this is no output of 'fmpm -l': not JSON: {error}"
        ) from None
    listed = data.get("partitionInfo") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise exception.Malformed(
            "this is no output of 'fmpm -l': no list 'partitionInfo'"
        )
    return listed


def _read_partition(where: str, entry: Any) -> ListedPartition:
    id_ = _read_number(where, entry, "partitionId")
    where = f"partition {id_}"
    gpus = entry.get("gpuInfo")
    if not isinstance(gpus, list) or not gpus:
        raise exception.Malformed(f"{where} has no list 'gpuInfo'")
    members = []
    for gpu in gpus:
        module_id = _read_number(where, gpu, "physicalId")
        bus_id = gpu.get("pciBusId")
        members.append(
            Member.read(module_id, bus_id if isinstance(bus_id, str) else "")
        )
    if "numGpus" in entry:
        count = _read_number(where, entry, "numGpus")
        if count != len(members):
            raise exception.Malformed(
                f"{where}: numGpus is {count}, but {len(members)} GPUs"
                " are listed"
            )
    if len({member.module_id for member in members}) < len(members):
        raise exception.Malformed(f"{where} lists a GPU twice")
    return ListedPartition(id_, bool(entry.get("isActive")), tuple(members))


def _read_number(where: str, entry: Any, key: str) -> int:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise exception.Malformed(f"{where}: '{key}' is no number")
    return value


def locate(
    host: Inventory,
    listed: Sequence[ListedPartition],
    module_ids: dict[PciAddress, int],
) -> tuple[Partition, ...]:
    """Give the partitions PCI addresses: by Fabric Manager or Module Id.

    :param module_ids: what ``nvidia-smi -q`` says, keyed by address.
    :raises Malformed: they are of another host, or it is not known which GPU
        is meant.
    """
    address_by_module = {id_: address for address, id_ in module_ids.items()}
    gpus = {gpu.address for gpu in host.gpus}
    partitions = []
    for partition in listed:
        addresses = []
        for member in partition.members:
            by_module = address_by_module.get(member.module_id)
            address = member.address or by_module
            if address is None:
                raise exception.Malformed(
                    f"partition {partition.id} has Module Id"
                    f" {member.module_id}, and nothing says which GPU that is."
                    " Module Ids do not follow the PCI order, so it is not"
                    " guessed: save 'nvidia-smi -q' while all GPUs are bound"
                    " to the driver nvidia, and give it with --nvidia-smi-q"
                )
            if by_module not in (None, address):
                raise exception.Malformed(
                    f"Module Id {member.module_id} is {address}, but"
                    f" {by_module} in 'nvidia-smi -q'"
                )
            if address not in gpus:
                raise exception.Malformed(
                    f"{address} of partition {partition.id} is no GPU of"
                    f" {host.hostname}: this file is of another host"
                )
            addresses.append(address)
        if len(set(addresses)) < len(addresses):
            raise exception.Malformed(
                f"partition {partition.id} has one GPU twice"
            )
        partitions.append(
            Partition(
                id=partition.id,
                addresses=tuple(sorted(addresses)),
                module_ids=tuple(one.module_id for one in partition.members),
                is_active=partition.is_active,
            )
        )
    return tuple(partitions)
