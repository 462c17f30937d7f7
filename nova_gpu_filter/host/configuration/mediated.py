# SPDX-License-Identifier: Apache-2.0

"""Writes the part of nova.conf that offers mediated devices (vGPUs).

Source: Nova's nova/conf/devices.py (``[devices]enabled_mdev_types`` and the
groups ``[mdev_TYPE]``) and ``_get_supported_vgpu_types`` of
nova/virt/libvirt/driver.py: with several types, one without
``device_addresses`` takes all devices that no other names, and a second one
such is not used; an address in two groups stops nova-compute. Addresses are
therefore written for each type.
"""

from collections.abc import Collection
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import re

from nova_gpu_filter import exception
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import our_traits
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules import resource_groups

OPTION = "--mdev-type"
CLASS_OPTION = "--mdev-class"
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Group:
    """One type, and the devices that carry it."""

    type_id: str
    """As sysfs has it, ``nvidia-35``: the name of the group in nova.conf."""
    name: str
    parents: tuple[Function, ...]
    resource_class: str = resource_groups.VGPU


def choose(
    host: Inventory, types: Sequence[str], classes: Sequence[str]
) -> tuple[Group, ...]:
    """Find the devices that carry the types that an operator named.

    :param types: each ``TYPE`` or ``TYPE=ADDRESS,ADDRESS``, with the id of a
        type or its name; without addresses, all that offer it and are in no
        other.
    :param classes: each ``TYPE=CLASS``.
    :raises BadInput: a type is not offered, or the text makes no sense.
    """
    wanted: dict[str, tuple[str, list[PciAddress] | None]] = {}
    owner: dict[PciAddress, str] = {}
    for text in types:
        with exception.name_source(f"{OPTION} {text}"):
            named, equals, listed = text.partition("=")
            type_id = _find_type_id(host, named)
            if type_id in wanted:
                raise exception.Malformed(f"{type_id} is given twice")
            addresses = _list_addresses(listed) if equals else None
            wanted[type_id] = text, addresses
            for address in addresses or ():
                if address in owner:
                    raise exception.Malformed(
                        f"{address} carries {owner[address]} already, and a"
                        " device carries one type"
                    )
                owner[address] = type_id
    named_classes = _list_classes(host, classes, wanted)
    groups = []
    for type_id, (text, addresses) in wanted.items():
        with exception.name_source(f"{OPTION} {text}"):
            parents = _choose_parents(host, type_id, addresses, owner)
        owner.update((parent.address, type_id) for parent in parents)
        (name,) = {
            one.name for one in parents[0].mdev_types if one.type_id == type_id
        }
        resource_class = named_classes.get(type_id, resource_groups.VGPU)
        groups.append(Group(type_id, name, parents, resource_class))
    return tuple(groups)


def _choose_parents(
    host: Inventory,
    type_id: str,
    addresses: Collection[PciAddress] | None,
    owner: Container[PciAddress],
) -> tuple[Function, ...]:
    """Choose the devices that carry a type, in address order.

    :param addresses: those that were named; None: all that are free.
    """
    offering = {
        function.address: function
        for function in host.functions
        if any(one.type_id == type_id for one in function.mdev_types)
    }
    if addresses is None:
        addresses = [address for address in offering if address not in owner]
    for address in addresses:
        if address not in offering:
            raise exception.Malformed(
                f"{address} does not offer {type_id}; these do:"
                f" {' '.join(map(str, offering))}"
            )
    if not addresses:
        raise exception.Malformed(
            "every device that offers it carries another type"
        )
    return tuple(offering[address] for address in sorted(addresses))


def _find_type_id(host: Inventory, named: str) -> str:
    """Find a type by its id or its name."""
    known = {
        one.type_id: one.name
        for function in host.functions
        for one in function.mdev_types
    }
    found = sorted(
        type_id for type_id, name in known.items() if named in (type_id, name)
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise exception.Malformed(
            f"the name is that of several types, {', '.join(found)}"
        )
    shown = ", ".join(
        f"{type_id} ({name})"
        for type_id, name in sorted(known.items())[:_SHOWN]
    )
    raise exception.Malformed(
        "no device of this host offers a type of mediated devices of this id"
        f" or name; there are: {shown or 'none'}"
    )


def _list_addresses(text: str) -> list[PciAddress]:
    found = []
    for one in text.split(","):
        address = address_lib.find(one.strip())
        if address is None:
            raise exception.Malformed(
                f"'{one}' is no PCI address, such as 0000:84:00.0"
            )
        found.append(address)
    return found


def _list_classes(
    host: Inventory, classes: Sequence[str], wanted: Iterable[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in classes:
        with exception.name_source(f"{CLASS_OPTION} {text}"):
            named, _, name = text.rpartition("=")
            if (
                not named
                or not re.fullmatch(pci_options.MDEV_CLASS, name)
                or len(name) > names.MAX_LENGTH
            ):
                raise exception.Malformed(
                    "give TYPE=CLASS, with VGPU or a class that begins with"
                    " CUSTOM_ and has A-Z, 0-9 and _ only"
                )
            type_id = _find_type_id(host, named)
            if type_id not in wanted:
                raise exception.Malformed(f"{OPTION} {named} is missing")
            if type_id in found:
                raise exception.Malformed(
                    f"{type_id} has the class {found[type_id]} already"
                )
            found[type_id] = name
    return found


def list_full(groups: Iterable[Group]) -> Iterator[str]:
    """Yield what to say of devices that can have no more of their type."""
    for group in groups:
        full = [
            str(parent.address)
            for parent in group.parents
            for one in parent.mdev_types
            if one.type_id == group.type_id
            and one.available == 0
            and not one.made
        ]
        if full:
            yield (
                f"no {group.type_id} left now on {' '.join(full)}:"
                " nova-gpu-host check --nova-conf says what is in the way"
            )


def write(groups: Sequence[Group]) -> Iterator[str]:
    """Yield the lines of the fragment."""
    yield ""
    yield "[devices]"
    yield (
        f"enabled_mdev_types = {', '.join(group.type_id for group in groups)}"
    )
    for group in groups:
        yield ""
        yield f"# {group.name}"
        yield f"[mdev_{group.type_id}]"
        yield (
            "device_addresses = "
            + ",".join(str(parent.address) for parent in group.parents)
        )
        if group.resource_class != resource_groups.VGPU:
            yield f"mdev_class = {group.resource_class}"


def make_provider_config(
    hostname: str, groups: Sequence[Group]
) -> dict[str, object]:
    """Make a file for /etc/nova/provider_config: a trait for each type.

    Source: Nova's admin/managing-resource-providers (schema 1.0), and
    nova/virt/libvirt/driver.py for the names of providers.

    :param hostname: the name of the compute node's resource provider.
    """
    return {
        "meta": {"schema_version": "1.0"},
        "providers": [
            {
                "identification": {
                    "name": f"{hostname}_pci_"
                    + re.sub("[:.]", "_", str(parent.address))
                },
                "traits": {
                    "additional": [
                        our_traits.VGPU_TYPE + naming.make_symbol(group.name)
                    ]
                },
            }
            for group in groups
            for parent in group.parents
        ],
    }
