# SPDX-License-Identifier: Apache-2.0

"""What a host has, as plain data. All texts are of one line."""

from collections.abc import Iterator
import dataclasses
import enum
import functools
from typing import NamedTuple

from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.nova_rules import device_types

_BRIDGES = (0x0600, 0x0604)
"""Classes of bridges: to the host, and from PCI to PCI (pci.ids)."""


class Kind(enum.Enum):
    """What a PCI function is to us."""

    GPU = "gpu"
    NVSWITCH = "nvswitch"
    NIC = "nic"
    """A network card with RDMA, or one of its VFs."""
    FUNCTION = "function"
    """Another function of a card with one of the above: audio, USB."""


class Use(enum.Enum):
    """What the host itself uses a function for."""

    BMC = "bmc"
    """It is the graphics of the BMC."""
    DISPLAY = "display"
    """It is a display adapter of the board or of a virtual machine."""
    PROCESSOR = "processor"
    """It is the graphics of a processor, and a display of the host."""
    MANAGEMENT = "management"
    CONSOLE = "console"
    NETWORK = "network"
    DISK = "disk"


@dataclasses.dataclass(frozen=True, slots=True)
class HostUse:
    """One use that the host makes of a function, and where it was seen."""

    use: Use
    text: str
    """``ens9f0np0 is in bond0``."""
    path: str
    content: str | None

    def __post_init__(self) -> None:
        # The content is shown by findings, which write it in one line.
        for name in ("text", "path"):
            value = printable.shorten(getattr(self, name))
            object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A base address register: memory, or ports, that the device asks for."""

    index: int
    size: int
    """Bytes."""
    is_64bit: bool
    is_prefetchable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class PcieLink(printable.OneLineTexts):
    """The PCIe link above a device, as the kernel words it."""

    speed: str | None
    """``32.0 GT/s PCIe``."""
    width: int | None
    max_speed: str | None
    max_width: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class MdevType(printable.OneLineTexts):
    """A kind of mediated device that a driver offers."""

    type_id: str
    name: str
    available: int | None
    """How many more can be made."""
    made: tuple[str, ...] = ()
    """UUIDs of those that there are, used or not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """One PCI function. None means that sysfs does not say."""

    address: PciAddress
    kind: Kind | None
    """None for what is neither of interest nor on a card that is."""
    class_code: int
    """Class, subclass and programming interface: ``0x030000``."""
    vendor_id: int
    product_id: int
    subvendor_id: int | None = None
    subproduct_id: int | None = None
    revision: int | None = None
    class_name: str | None = None
    vendor_name: str | None = None
    product_name: str | None = None
    subsystem_name: str | None = None
    chip: chips.Chip | None = None
    numa_node: int | None = None
    iommu_group: int | None = None
    driver: str | None = None
    driver_override: str | None = None
    sriov_totalvfs: int | None = None
    """VFs that the device can have; None or 0: it is no PF."""
    sriov_numvfs: int | None = None
    """VFs that it has now."""
    vf_product_id: int | None = None
    physfn: PciAddress | None = None
    """The PF, for a VF."""
    vfs: tuple[PciAddress, ...] = ()
    mdev_types: tuple[MdevType, ...] = ()
    vgpu_type: int | None = None
    """The vGPU type of a VF of NVIDIA's vendor-specific VFIO; 0: it has none
    yet; None: the driver has no such types."""
    vgpu_type_name: str | None = None
    """``NVIDIA A40-8Q``; None: it has none, or no file names it."""
    bars: tuple[Bar, ...] = ()
    reset_methods: tuple[str, ...] | None = None
    """As the kernel would try them; empty: there is none."""
    pcie_link: PcieLink | None = None
    root: str | None = None
    """The root bus: ``pci0000:3f``."""
    bridges: tuple[PciAddress, ...] = ()
    """From the root bus down: root port, then ports of switches."""
    interfaces: tuple[str, ...] = ()
    """Network interfaces: ``ens1f0np0``."""
    rdma_devices: tuple[str, ...] = ()
    """``mlx5_0``."""
    modalias: str | None = None
    power_state: str | None = None
    is_boot_display: bool = False
    """Whether the host's console is on it."""
    host_uses: tuple[HostUse, ...] = ()
    """What the host itself uses it for: not to be given away."""

    def __post_init__(self) -> None:
        printable.escape_fields(self)
        if self.chip is not None:
            printable.escape_fields(self.chip)

    @property
    def is_pf(self) -> bool:
        """Whether Nova sees a type-PF: the device can have VFs.

        libvirt reports the capability ``virt_functions``, by which Nova tells
        (nova/virt/libvirt/host.py), as soon as ``sriov_totalvfs`` is not 0.
        """
        return bool(self.sriov_totalvfs)

    @property
    def is_needed_by_host(self) -> bool:
        """Whether the host itself uses it, so that no guest should get it."""
        return self.is_boot_display or bool(self.host_uses)

    @property
    def is_display_only(self) -> bool:
        """Whether it is no GPU for guests: one for a console and no more."""
        return any(one.use in (Use.BMC, Use.DISPLAY) for one in self.host_uses)

    @property
    def why_needed(self) -> str:
        """What the host uses it for, in words."""
        return "; ".join(
            dict.fromkeys(one.text for one in self.host_uses)
        ) or ("the host's console is on it" if self.is_boot_display else "")

    @property
    def nova_type(self) -> str:
        """The device type of Nova: ``type-PCI``, ``type-PF``, ``type-VF``."""
        if self.physfn is not None:
            return device_types.VF
        return device_types.PF if self.is_pf else device_types.PCI

    @property
    def ids(self) -> str:
        """Vendor and product id: ``10de:11bf``."""
        return f"{self.vendor_id:04x}:{self.product_id:04x}"

    @property
    def bar_bytes(self) -> int:
        """All the memory that a guest needs address space for."""
        return sum(bar.size for bar in self.bars)

    @property
    def base_class(self) -> int:
        """Class and subclass: ``0x0300``."""
        return self.class_code >> 8

    @property
    def is_bridge(self) -> bool:
        """Whether it is a PCI bridge or a host bridge."""
        return self.base_class in _BRIDGES

    @property
    def product(self) -> str | None:
        """The product without its chip: ``GRID K2``; None if not known."""
        if self.product_name is None:
            return None
        return chips.extract_product(self.product_name)

    def format_lspci(self, with_domain: bool = False) -> str:
        """Describe the function in the words of ``lspci -nn``."""
        address = str(self.address) if with_domain else self.address.short
        class_name = self.class_name or "Class"
        names = [
            name for name in (self.vendor_name, self.product_name) if name
        ]
        if self.product_name is None:
            names.append("Device")
        revision = f" (rev {self.revision:02x})" if self.revision else ""
        return (
            f"{address} {class_name} [{self.base_class:04x}]:"
            f" {' '.join(names)} [{self.ids}]{revision}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class GroupMember(printable.OneLineTexts):
    """A function in an IOMMU group, bridges included."""

    address: PciAddress
    class_code: int
    ids: str
    driver: str | None
    class_name: str | None = None

    @property
    def is_bridge(self) -> bool:
        """Whether it is a PCI bridge or a host bridge."""
        return self.class_code >> 8 in _BRIDGES


class IommuGroup(NamedTuple):
    """An IOMMU group; the kernel numbers them."""

    number: int
    members: tuple[GroupMember, ...]


@dataclasses.dataclass(frozen=True)
class Inventory(printable.OneLineTexts):
    """Everything about one host that the rest of the tool asks for."""

    hostname: str
    functions: tuple[Function, ...]
    """In the order of their addresses; VFs and the other functions of cards
    included."""
    groups: tuple[IommuGroup, ...] = ()
    """Those that ``functions`` are in."""
    numa_nodes: tuple[int, ...] = ()
    """The NUMA nodes of the host that are online."""
    kernel: str | None = None
    names_from: str | None = None
    """The database of names; None if none was found."""
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each."""

    @functools.cached_property
    def by_address(self) -> dict[PciAddress, Function]:
        """Every function, keyed by address."""
        return {function.address: function for function in self.functions}

    @functools.cached_property
    def members_by_group(self) -> dict[int, tuple[GroupMember, ...]]:
        """The members of each IOMMU group, keyed by its number."""
        return dict(self.groups)

    @functools.cached_property
    def with_domain(self) -> bool:
        """Whether addresses need their domain, as lspci decides it."""
        return any(function.address.domain for function in self.functions)

    def list_physical(self, *kinds: Kind) -> tuple[Function, ...]:
        """Functions of these kinds that are no VFs, in address order."""
        return tuple(
            function
            for function in self.functions
            if function.physfn is None and function.kind in kinds
        )

    @property
    def gpus(self) -> tuple[Function, ...]:
        """GPUs that are no VFs."""
        return self.list_physical(Kind.GPU)

    @property
    def nics(self) -> tuple[Function, ...]:
        """RDMA NICs that are no VFs."""
        return self.list_physical(Kind.NIC)

    @property
    def nvswitches(self) -> tuple[Function, ...]:
        """NVSwitches."""
        return self.list_physical(Kind.NVSWITCH)

    @property
    def devices(self) -> tuple[Function, ...]:
        """GPUs, NVSwitches and NICs that are no VFs."""
        return self.list_physical(Kind.GPU, Kind.NVSWITCH, Kind.NIC)

    def list_vfs(self, parent: Function) -> Iterator[Function]:
        """Yield the VFs of a PF that sysfs shows."""
        for address in parent.vfs:
            if address in self.by_address:
                yield self.by_address[address]

    def list_card_functions(self, function: Function) -> tuple[Function, ...]:
        """All functions of the card (slot) of a function, itself included.

        VFs take the numbers of further functions, and are no part of it.
        """
        if function.physfn is not None:
            return (function,)
        return tuple(
            other
            for other in self.functions
            if other.physfn is None
            and other.address.card == function.address.card
        )
