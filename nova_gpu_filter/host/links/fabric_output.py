# SPDX-License-Identifier: Apache-2.0

"""Reads the fabric partitions that Fabric Manager lists: ``fmpm -l``.

The JSON is that of the sample program ``fmpm`` of Fabric Manager's
development package; its fields are those of fmFabricPartitionList_t in
nv_fm_types.h. A GPU is named by its ``physicalId``, which nvidia-smi calls
Module Id and which has nothing to do with the PCI order. Its PCI address is
there only while the GPU is bound to the driver ``nvidia``.
"""

from collections.abc import Mapping
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
    # fmpm may say first that it has connected.
    start = text.find("{")
    try:
        data = json.loads(text[max(start, 0) :])
    except (ValueError, RecursionError) as error:
        raise exception.BadInput(
            source=source,
            reason=f"this is no output of 'fmpm -l': not JSON: {error}",
        ) from None
    listed = data.get("partitionInfo") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise exception.BadInput(
            source=source,
            reason="this is no output of 'fmpm -l': no list 'partitionInfo'",
        )
    partitions = [
        _read_partition(source, index, entry)
        for index, entry in enumerate(listed)
    ]
    ids = [partition.id for partition in partitions]
    for id_ in ids:
        if ids.count(id_) > 1:
            raise exception.BadInput(
                source=source, reason=f"partition {id_} is there twice"
            )
    return tuple(sorted(partitions, key=lambda partition: partition.id))


def _read_partition(source: str, index: int, entry: Any) -> ListedPartition:
    where = f"partitionInfo[{index}]"
    id_ = _read_number(source, where, entry, "partitionId")
    where = f"partition {id_}"
    gpus = entry.get("gpuInfo")
    if not isinstance(gpus, list) or not gpus:
        raise exception.BadInput(
            source=source, reason=f"{where} has no list 'gpuInfo'"
        )
    members = tuple(_read_member(source, where, gpu) for gpu in gpus)
    if "numGpus" in entry:
        count = _read_number(source, where, entry, "numGpus")
        if count != len(members):
            raise exception.BadInput(
                source=source,
                reason=f"{where}: numGpus is {count}, but {len(members)} GPUs"
                " are listed",
            )
    if len({member.module_id for member in members}) < len(members):
        raise exception.BadInput(
            source=source, reason=f"{where} lists a GPU twice"
        )
    return ListedPartition(id_, bool(entry.get("isActive")), members)


def _read_member(source: str, where: str, gpu: Any) -> Member:
    module_id = _read_number(source, where, gpu, "physicalId")
    bus_id = gpu.get("pciBusId")
    return Member.read(module_id, bus_id if isinstance(bus_id, str) else "")


def _read_number(source: str, where: str, entry: Any, key: str) -> int:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise exception.BadInput(
            source=source, reason=f"{where}: '{key}' is no number"
        )
    return value


def locate(
    host: Inventory,
    source: tuple[str, str],
    module_ids: dict[PciAddress, int],
) -> tuple[Partition, ...]:
    """Give the partitions PCI addresses: by Fabric Manager or Module Id."""
    address_by_module = {id_: address for address, id_ in module_ids.items()}
    gpus = {gpu.address for gpu in host.gpus}
    partitions = []
    for listed in parse(*source):
        addresses = []
        for member in listed.members:
            by_module = address_by_module.get(member.module_id)
            if None not in (by_module, member.address) and (
                by_module != member.address
            ):
                raise exception.BadInput(
                    source=source[0],
                    reason=f"Module Id {member.module_id} is"
                    f" {member.address}, but {by_module} in 'nvidia-smi -q'",
                )
            address = member.address or by_module
            if address is None:
                raise exception.BadInput(
                    source=source[0],
                    reason=f"partition {listed.id} has Module Id"
                    f" {member.module_id}, and nothing says which GPU that"
                    " is. Module Ids do not follow the PCI order, so it is"
                    " not guessed: save 'nvidia-smi -q' while all GPUs are"
                    " bound to the driver nvidia, and give it with"
                    " --nvidia-smi-q",
                )
            if address not in gpus:
                raise exception.BadInput(
                    source=source[0],
                    reason=f"{address} of partition {listed.id} is no GPU of"
                    f" {host.hostname}: this file is of another host",
                )
            addresses.append(address)
        if len(set(addresses)) < len(addresses):
            raise exception.BadInput(
                source=source[0],
                reason=f"partition {listed.id} has one GPU twice",
            )
        partitions.append(
            Partition(
                id=listed.id,
                addresses=tuple(sorted(addresses)),
                module_ids=tuple(
                    member.module_id for member in listed.members
                ),
                is_active=listed.is_active,
            )
        )
    return tuple(partitions)
