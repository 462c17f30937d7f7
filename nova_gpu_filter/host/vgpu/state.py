# SPDX-License-Identifier: Apache-2.0

"""Reads the PFs of a host, their VFs, and who uses them.

Sources: the kernel's Documentation/ABI/testing/sysfs-bus-pci (``sriov_*``,
``virtfn*``, ``physfn``, slots), Documentation/driver-api/vfio.rst (a guest
that has a device holds /dev/vfio/GROUP, or /dev/vfio/devices/vfioN, open);
``nvidia-smi --help-query-gpu`` (``mig.mode.current`` is Enabled, Disabled or
[N/A]; ``pci.bus_id`` has a domain of 8 digits).
"""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import os
import re

from nova_gpu_filter import printable
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.sysfs import host_use
from nova_gpu_filter.host.sysfs import tree as tree_lib
from nova_gpu_filter.host.vgpu import types

SLOTS = "/sys/bus/pci/slots"
MDEVS = "/sys/bus/mdev/devices"
SRIOV_MANAGE = "/usr/lib/nvidia/sriov-manage"
"""NVIDIA's Virtual GPU Software User Guide: "do not try to enable the virtual
function for the GPU by any other means". It makes all VFs of a GPU."""

MIG_QUERY = (
    "--query-gpu=pci.bus_id,mig.mode.current",
    "--format=csv,noheader",
)
_MIG_MODES = {"enabled": True, "disabled": False}


@dataclasses.dataclass(frozen=True)
class Vf(printable.OneLineTexts):
    """A VF. None: the driver has no such thing."""

    address: PciAddress
    driver: str | None = None
    type: int | None = None
    """The number of its vGPU type; 0: it has none yet."""
    creatable: tuple[types.VgpuType, ...] = ()
    """The types that it can become as things are."""
    users: tuple[str, ...] = ()
    """Who uses it, in words."""


@dataclasses.dataclass(frozen=True)
class Pf(printable.OneLineTexts):
    """A function that can have VFs."""

    address: PciAddress
    ids: str
    driver: str | None
    totalvfs: int
    numvfs: int
    autoprobe: bool | None = None
    vfs: tuple[Vf, ...] = ()
    """In the order of their addresses."""
    users: tuple[str, ...] = ()
    """Who uses it through VFIO: it has been given away itself."""
    slot: str | None = None
    has_sriov_manage: bool = False

    @property
    def is_managed(self) -> bool:
        """Whether NVIDIA's script, and not the kernel, makes its VFs."""
        return self.driver == "nvidia"

    def count_types(self, names: Mapping[int, str]) -> Iterator[str]:
        """Yield how many VFs it has of which type: ``4 of NVIDIA A40-8Q``.

        :param names: of the types, keyed by number.
        """
        counts = collections.Counter(vf.type for vf in self.vfs)
        for number in sorted(one for one in counts if one is not None):
            yield f"{counts[number]} " + (
                f"of {names.get(number, f'type {number}')}"
                if number
                else "without a type"
            )


@dataclasses.dataclass(frozen=True)
class Host:
    """The PFs of a host, in address order."""

    pfs: tuple[Pf, ...]
    known_types: tuple[types.VgpuType, ...] = ()
    """What the driver knows, or offers for one of the VFs."""
    has_every_type: bool = False
    """Whether a file of the driver lists the types, so that there are no more;
    VFs offer what still fits on their own GPU."""
    unseen: bool = False
    """Whether there are processes of which it cannot be seen what they use."""
    mediated: tuple[Pf, ...] = ()
    """What can have no VFs, and makes mediated devices."""

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """The names of vGPU types, keyed by number."""
        return {one.number: one.name for one in self.known_types}


def read(tree: tree_lib.Tree) -> Host:
    """Read the PFs.

    :param tree: a new one for each reading: it remembers links.
    """
    users = _Users(tree)
    slots = {
        text: name
        for name in tree.list_entries(SLOTS)
        if (text := tree.read(f"{SLOTS}/{name}/address"))
    }
    pfs, mediated = [], []
    names = tree.list_entries(address_lib.DEVICES)
    for address in sorted(filter(None, map(address_lib.find, names))):
        files = frozenset(tree.list_entries(address.path))
        if "physfn" in files:
            continue
        if "sriov_totalvfs" in files:
            pfs.append(_read_pf(tree, address, files, users, slots))
        elif "mdev_supported_types" in files:
            mediated.append(_read_pf(tree, address, files, users, slots))
    offered = {one for pf in pfs for vf in pf.vfs for one in vf.creatable}
    typed = any(pf.is_managed for pf in pfs)
    listed = types.read_known(tree) if typed else ()
    return Host(
        tuple(pfs),
        tuple(sorted(offered.union(listed))),
        bool(listed),
        users.unseen,
        tuple(mediated),
    )


def _read_pf(
    tree: tree_lib.Tree,
    address: PciAddress,
    files: frozenset[str],
    users: "_Users",
    slots: dict[str, str],
) -> Pf:
    path = address.path
    vendor, product = (
        tree.read_number(f"{path}/{name}") or 0
        for name in ("vendor", "device")
    )
    autoprobe = tree.read(f"{path}/sriov_drivers_autoprobe")
    vfs = [
        _read_vf(tree, found, users)
        for name in files
        if re.fullmatch("virtfn[0-9]+", name)
        and (
            found := address_lib.find(
                tree.read_link_name(f"{path}/{name}") or ""
            )
        )
    ]
    return Pf(
        address,
        f"{vendor:04x}:{product:04x}",
        tree.read_link_name(f"{path}/driver"),
        tree.read_number(f"{path}/sriov_totalvfs") or 0,
        tree.read_number(f"{path}/sriov_numvfs") or 0,
        None if autoprobe is None else autoprobe not in ("0", "N"),
        tuple(sorted(vfs, key=lambda vf: vf.address)),
        tuple(users.list_processes(address)),
        slots.get(address.card_text),
        tree.exists(SRIOV_MANAGE),
    )


def _read_vf(tree: tree_lib.Tree, address: PciAddress, users: "_Users") -> Vf:
    path = address.path
    number = None
    creatable: tuple[types.VgpuType, ...] = ()
    if tree.is_directory(f"{path}/nvidia"):
        number = tree.read_number(f"{path}/nvidia/current_vgpu_type") or 0
        text = tree.read(f"{path}/{types.CREATABLE}") or ""
        creatable = types.parse_creatable(text)
    return Vf(
        address,
        tree.read_link_name(f"{path}/driver"),
        number,
        creatable,
        tuple(users.find(address)),
    )


def parse_mig_modes(text: str) -> dict[PciAddress, bool | None]:
    """Read what nvidia-smi answers to :data:`MIG_QUERY`.

    :returns: the modes, keyed by GPU; None: it has no MIG mode.
    """
    modes = {}
    for line in text.splitlines():
        name, _, mode = line.partition(",")
        address = address_lib.find(name.strip())
        if address is not None:
            modes[address] = _MIG_MODES.get(mode.strip().lower())
    return modes


class _Users:
    """Who uses a device, read when it is first asked for."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree
        self._host_uses = host_use.HostUses(tree)

    @functools.cached_property
    def _openers(self) -> dict[str, list[str]]:
        """The processes that hold a file of VFIO open, keyed by the file."""
        found: dict[str, list[str]] = {}
        for pid in filter(str.isdecimal, self._tree.list_entries("/proc")):
            for number in self._tree.list_entries(f"/proc/{pid}/fd"):
                target = self._tree.read_link_target(
                    f"/proc/{pid}/fd/{number}"
                )
                if target and target.startswith("/dev/vfio/"):
                    name = self._tree.read(f"/proc/{pid}/comm") or "process"
                    words = f"{name} ({pid})"
                    if words not in found.setdefault(target, []):
                        found[target].append(words)
        return found

    @property
    def unseen(self) -> bool:
        """Whether files of a process could not be listed."""
        # What is open is looked up before that can be said.
        _ = self._openers
        return any(
            re.fullmatch("/proc/[0-9]+/fd", path)
            for path in self._tree.problems
        )

    @functools.cached_property
    def _mediated(self) -> dict[PciAddress, list[str]]:
        """The mediated devices that there are, keyed by what has them."""
        found: dict[PciAddress, list[str]] = {}
        for name in self._tree.list_entries(MDEVS):
            place = self._tree.resolve(f"{MDEVS}/{name}") or ""
            for part in place.split("/"):
                if (address := address_lib.find(part)) is not None:
                    found.setdefault(address, []).append(name)
        return found

    def list_processes(self, address: PciAddress) -> Iterator[str]:
        """Yield the processes that have a device through VFIO."""
        path = address.path
        group = self._tree.read_link_name(f"{path}/iommu_group")
        nodes = [
            f"/dev/vfio/devices/{name}"
            for name in self._tree.list_entries(f"{path}/vfio-dev")
        ]
        if group:
            nodes += [f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}"]
        for node in nodes:
            for opener in self._openers.get(node, ()):
                yield f"{opener} has {os.path.basename(node)} of it open"

    def find(self, address: PciAddress) -> Iterator[str]:
        """Yield every use of a VF."""
        yield from self.list_processes(address)
        for name in self._mediated.get(address, ()):
            yield f"it carries the mediated device {name}"
        path = address.path
        vendor, product, code = (
            self._tree.read_number(f"{path}/{name}") or 0
            for name in ("vendor", "device", "class")
        )
        for use in self._host_uses.find(
            address, vendor, product, code, is_vf=True
        ):
            yield use.text
