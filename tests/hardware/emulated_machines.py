# SPDX-License-Identifier: Apache-2.0

"""Machines as data: what is plugged where, and what must be seen of it.

What must be seen (links, IOMMU groups, NUMA nodes) is written down beside the
hardware and not computed from it, so that no mistake can be in both.
"""

from collections.abc import Mapping
import dataclasses
import itertools

MIB = 1 << 20
GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Model:
    """A kind of device, and the device of QEMU that plays it."""

    ids: str
    class_code: int
    player: str = "ivshmem-plain"
    """``ivshmem-plain`` has a BAR of any size and no ports, ``edu`` does DMA,
    ``intel-hda`` is what snd_hda_intel drives."""
    bar: int = 0
    """Size in bytes of its large BAR, which only ivshmem-plain has."""
    driver: str | None = None
    """What takes it at boot, when nobody has done anything."""

    @property
    def kind(self) -> str | None:
        """What nova-gpu-host must call it by itself."""
        return {3: "gpu", 0x12: "gpu", 2: "nic"}.get(self.class_code >> 8)


@dataclasses.dataclass(frozen=True)
class Device:
    """One function of a card."""

    name: str
    model: Model
    node: int = 0
    """The NUMA node that must be seen, if the machine has several."""


@dataclasses.dataclass(frozen=True)
class Card:
    """The functions of one slot, from 0 on."""

    functions: tuple[Device, ...]


@dataclasses.dataclass(frozen=True)
class Switch:
    """A PCIe switch with one downstream port for each thing below."""

    below: tuple["Card | Switch", ...]


@dataclasses.dataclass(frozen=True)
class Ports:
    """Root ports in one slot, one for each thing below."""

    below: tuple[Card | Switch, ...]
    acs: bool = True


@dataclasses.dataclass(frozen=True)
class Root:
    """A root bus; the first of a machine is the chipset's."""

    below: tuple[Ports | Card, ...]
    node: int | None = None
    """The NUMA node that the firmware says; None for the chipset's."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A compute node."""

    name: str
    roots: tuple[Root, ...]
    links: tuple[tuple[str, str], ...]
    """(link, devices): each two of the devices have it; the first line that
    names both counts, and without one it is SYS."""
    shared_groups: tuple[str, ...] = ()
    """Devices that share an IOMMU group; all others have one of their own."""
    console: str | None = None
    """The GPU that is the display of the host's console."""
    nodes: int = 1
    cores: int = 1
    """At least; each node has one."""
    cpu: str = "intel"
    iommu: str | None = "intel"
    """``intel``, ``amd``, or None: the firmware announces none."""
    is_virtual: bool = False
    """Whether the CPU says that there is a hypervisor."""
    cmdline: str = "intel_iommu=on iommu=pt"
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Files of /etc at first boot."""
    memory_mib: int = 900
    more: tuple[str, ...] = ()
    """Further devices, as QEMU names them, that are no cards to look at."""
    is_networked: bool = False
    """Whether it has a network card, by which it reaches 127.0.0.1 of the
    machine that emulates it as 10.0.2.2."""
    forwarded: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """Port of 127.0.0.1 of the machine that emulates it -> its own port."""

    @property
    def devices(self) -> tuple[Device, ...]:
        """All functions of cards."""
        return tuple(
            device for card in self.cards for device in card.functions
        )

    @property
    def cards(self) -> tuple[Card, ...]:
        """All cards, from the first root bus on."""
        return tuple(
            card
            for root in self.roots
            for place in root.below
            for card in _cards(place)
        )

    @property
    def has_groups(self) -> bool:
        """Tell whether the kernel uses the IOMMU after the first boot."""
        return self.iommu is not None and "iommu=off" not in self.cmdline

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs."""
        return tuple(one for one in self.devices if one.model.kind == "gpu")

    @property
    def linked(self) -> tuple[Device, ...]:
        """The devices that have links: GPUs and NICs."""
        return tuple(one for one in self.devices if one.model.kind)

    def link(self, one: str, other: str) -> str:
        """Tell the link that two devices must have."""
        for name, devices in self.links:
            if {one, other} <= {*devices.split()}:
                return name
        return "SYS"

    def group(self, name: str) -> frozenset[str]:
        """Tell which devices must be in the IOMMU group of a device."""
        for devices in self.shared_groups:
            if name in devices.split():
                return frozenset(devices.split())
        return frozenset({name})


def _cards(place: Ports | Switch | Card) -> tuple[Card, ...]:
    if isinstance(place, Card):
        return (place,)
    return tuple(
        itertools.chain.from_iterable(_cards(one) for one in place.below)
    )


K2 = Model("10de:11bf", 0x0300, bar=128 * MIB, driver="nvidia")
K2_DMA = Model("10de:11bf", 0x0300, player="edu", driver="nvidia")
A100 = Model("10de:20f1", 0x0302, bar=4 * GIB, driver="nvidia")
H100 = Model("10de:2330", 0x0302, bar=8 * GIB, driver="nvidia")
H100_DMA = Model("10de:2330", 0x0302, player="edu", driver="nvidia")
NVSWITCH = Model("10de:22a3", 0x0680, bar=32 * MIB)
RTX = Model("10de:1e07", 0x0300, player="edu", driver="nvidia")
RTX_AUDIO = Model(
    "10de:10f7", 0x0403, player="intel-hda", driver="snd_hda_intel"
)
MI300X = Model("1002:74a1", 0x1200, bar=16 * GIB)
MI300X_MEMORY = Model("1002:74a1", 0x1200, bar=MIB)
FLEX = Model("8086:56c0", 0x0380, bar=2 * GIB)
T4 = Model("10de:1eb8", 0x0302, bar=16 * MIB, driver="nvidia")
CONSOLE = Model("1a03:2000", 0x0300, bar=16 * MIB)
CONNECTX = Model("15b3:1021", 0x0207, bar=32 * MIB)
SOUND = Model("8086:2668", 0x0403, player="intel-hda", driver="snd_hda_intel")


def _one(name: str, model: Model, node: int = 0) -> Card:
    return Card((Device(name, model, node),))


def _k2_board(first: int) -> Switch:
    return Switch((_one(f"gpu{first}", K2), _one(f"gpu{first + 1}", K2)))


K2_WORKSTATION = Machine(
    "k2-workstation",
    # Two boards, each with a switch and two GPUs, and the board's own display.
    roots=(
        Root(
            (
                _one("console", CONSOLE),
                Ports((_k2_board(0),)),
                Ports((_k2_board(2),)),
            )
        ),
    ),
    links=(
        ("PIX", "gpu0 gpu1"),
        ("PIX", "gpu2 gpu3"),
        ("PHB", "console gpu0 gpu1 gpu2 gpu3"),
    ),
    console="console",
)


def _hgx_switch(number: int) -> Root:
    node = number // 2
    return Root(
        (
            Ports(
                (
                    Switch(
                        tuple(
                            _one(f"{name}{one}", model, node)
                            for one in (2 * number, 2 * number + 1)
                            for name, model in (
                                ("gpu", H100),
                                ("nic", CONNECTX),
                            )
                        )
                    ),
                )
            ),
        ),
        node,
    )


_HGX_SWITCHES = tuple(
    f"gpu{a} nic{a} gpu{a + 1} nic{a + 1}" for a in (0, 2, 4, 6)
)

HGX = Machine(
    "hgx-8gpu",
    roots=(Root(()), *(_hgx_switch(number) for number in range(4))),
    links=(
        *(("PIX", devices) for devices in _HGX_SWITCHES),
        ("NODE", " ".join(_HGX_SWITCHES[:2])),
        ("NODE", " ".join(_HGX_SWITCHES[2:])),
    ),
    nodes=2,
    memory_mib=1100,
)

CASCADE = Machine(
    "cascade",
    # Two switches and a NIC below a third, and a GPU at the same root.
    roots=(
        Root(
            (
                Ports(
                    (
                        Switch(
                            (
                                Switch(
                                    (_one("gpu0", A100), _one("gpu1", A100))
                                ),
                                Switch(
                                    (
                                        _one("gpu2", A100),
                                        _one("nic0", CONNECTX),
                                    )
                                ),
                                _one("nic1", CONNECTX),
                            )
                        ),
                    )
                ),
                Ports((_one("gpu3", FLEX),)),
            )
        ),
    ),
    links=(
        ("PIX", "gpu0 gpu1"),
        ("PIX", "gpu2 nic0"),
        ("PXB", "gpu0 gpu1 gpu2 nic0 nic1"),
        ("PHB", "gpu0 gpu1 gpu2 gpu3 nic0 nic1"),
    ),
    # QEMU's switches have no ACS. What is below one of them and a root port
    # that has is apart for the kernel all the same; below two it is not.
    shared_groups=("gpu0 gpu1", "gpu2 nic0"),
)


def _rtx_card(number: int) -> Card:
    return Card(
        (
            Device(f"gpu{number}", RTX),
            Device(f"audio{number}", RTX_AUDIO),
        )
    )


AUDIO = Machine(
    "audio",
    # The desktop cards as they come up when nobody has done anything.
    roots=(Root((Ports((_rtx_card(0),)), Ports((_rtx_card(1),)))),),
    links=(("PHB", "gpu0 gpu1"),),
    shared_groups=("gpu0 audio0", "gpu1 audio1"),
    console="gpu0",
)

NO_ACS = Machine(
    "no-acs",
    roots=(
        Root(
            (
                Ports(
                    (
                        _one("gpu0", FLEX),
                        _one("gpu1", FLEX),
                        _one("sound", SOUND),
                    ),
                    acs=False,
                ),
                Ports((_one("gpu2", FLEX),)),
            )
        ),
    ),
    links=(("PHB", "gpu0 gpu1 gpu2"),),
    shared_groups=("gpu0 gpu1 sound",),
)

IOMMU_OFF = Machine(
    "iommu-off",
    roots=(
        Root((Ports((_one("gpu0", FLEX),)), Ports((_one("gpu1", A100),)))),
    ),
    links=(("PHB", "gpu0 gpu1"),),
    cmdline="intel_iommu=off",
)

AMD = Machine(
    "amd",
    roots=(
        Root(()),
        Root((Ports((_one("gpu0", MI300X),)),), node=0),
        Root((Ports((_one("gpu1", MI300X, 1),)),), node=1),
    ),
    links=(),
    nodes=2,
    cpu="amd",
    iommu="amd",
    cmdline="iommu=pt",
)

PASSING = Machine(
    "passing",
    # Two GPUs that do DMA, one for a guest and one to stay free.
    roots=(
        Root(
            (
                _one("console", CONSOLE),
                Ports((_one("gpu0", RTX),)),
                Ports((_one("gpu1", RTX),)),
            )
        ),
    ),
    links=(("PHB", "console gpu0 gpu1"),),
    console="console",
    memory_mib=1200,
)

MEDIATED = Machine(
    "mediated",
    # Two GPUs of which a module of ours makes mediated devices.
    roots=(
        Root(
            (
                _one("console", CONSOLE),
                Ports((_one("gpu0", T4),)),
                Ports((_one("gpu1", T4),)),
            )
        ),
    ),
    links=(("PHB", "console gpu0 gpu1"),),
    console="console",
    memory_mib=1400,
)

K2_NODE = Machine(
    "k2-node",
    # A GRID K2 whose two GPUs do DMA, and a network: a compute host.
    roots=(
        Root(
            (
                _one("console", CONSOLE),
                Ports((Switch((_one("gpu0", K2_DMA), _one("gpu1", K2_DMA))),)),
            )
        ),
    ),
    links=(("PIX", "gpu0 gpu1"), ("PHB", "console gpu0 gpu1")),
    console="console",
    memory_mib=1800,
    is_networked=True,
)

SRIOV = Machine(
    "sriov",
    # The one device of QEMU with a driver in Linux that makes VFs of it.
    roots=(Root((_one("console", CONSOLE),)),),
    links=(),
    console="console",
    memory_mib=1200,
    more=(
        "pcie-root-port,id=sriov,bus=pcie.0,chassis=90,addr=1e",
        "nvme-subsys,id=subsystem",
        "nvme,serial=1,subsys=subsystem,bus=sriov,sriov_max_vfs=4"
        ",sriov_vq_flexible=8,sriov_vi_flexible=4",
    ),
)

BUS_ERRORS = Machine(
    "bus-errors",
    # A GPU that can report errors of its link.
    roots=(Root((_one("console", CONSOLE),)),),
    links=(),
    console="console",
    memory_mib=1200,
    more=(
        "pcie-root-port,id=card,bus=pcie.0,chassis=90,addr=1e",
        "virtio-gpu-pci,id=gpu,bus=card,aer=on",
    ),
    is_networked=True,
)

HGX_NODE = Machine(
    "hgx-node",
    # Eight GPUs of an NVSwitch board that can be given to guests, each in an
    # IOMMU group of its own, and a network.
    roots=(
        Root((Ports(tuple(_one(f"gpu{n}", H100_DMA) for n in range(8))),)),
    ),
    links=(("PHB", " ".join(f"gpu{n}" for n in range(8))),),
    memory_mib=2000,
    is_networked=True,
)

HGX_BOARD = dataclasses.replace(
    HGX_NODE,
    # With the NVSwitches of such a board, which nova-gpu-host looks for,
    # memory for guests, which have theirs pinned, and the two cores that the
    # flavor of the tutorial asks for.
    roots=(
        Root(
            (
                *HGX_NODE.roots[0].below,
                Ports(tuple(_one(f"nvswitch{n}", NVSWITCH) for n in range(4))),
            )
        ),
    ),
    memory_mib=3000,
    cores=2,
)

MEMORY = Machine(
    "memory",
    # Two GPUs with memory that outlives guests: one of NVIDIA, and one that
    # its tool does not know.
    roots=(
        Root(
            (
                Ports(
                    (_one("gpu0", H100_DMA), _one("gpu1", MI300X_MEMORY)),
                ),
            )
        ),
    ),
    links=(("PHB", "gpu0 gpu1"),),
    memory_mib=1200,
    is_networked=True,
)

MACHINES = (K2_WORKSTATION, HGX, CASCADE, AUDIO, NO_ACS, IOMMU_OFF, AMD)
