# SPDX-License-Identifier: Apache-2.0

"""Writes the command line of QEMU for a machine."""

from collections.abc import Iterator
import dataclasses

from tests.hardware.emulated_machines import Card
from tests.hardware.emulated_machines import Device
from tests.hardware.emulated_machines import Machine
from tests.hardware.emulated_machines import Ports
from tests.hardware.emulated_machines import Root
from tests.hardware.emulated_machines import Switch

BINARY = "qemu-system-x86_64"
SUBSYSTEM_VENDOR = 0x1AF4
# Tells the emulated devices of a machine apart, in its sysfs.
FIRST_SUBSYSTEM = 0x1000

# Virtio devices take the low slots of the chipset's root bus.
_FIRST_SLOT = 8
_FIRST_BUS = 0x20
_BUSES = 0x18
_FIRST_PORT = 1

_VENDORS = {"intel": "GenuineIntel", "amd": "AuthenticAMD"}
_IOMMUS = {
    "intel": "intel-iommu,intremap=on,caching-mode=on",
    "amd": "amd-iommu,intremap=on",
}


@dataclasses.dataclass(frozen=True)
class Share:
    """A directory of this machine that the guest sees."""

    tag: str
    path: str
    writable: bool = False


def subsystem(machine: Machine, device: Device) -> int:
    """Tell the subsystem id by which a device is known."""
    return FIRST_SUBSYSTEM + machine.devices.index(device)


def name_place(machine: Machine, device: Device) -> str:
    """Write what ``device_add`` needs to put a device back that was pulled."""
    [found] = (
        word
        for word in _Tree(machine).arguments()
        if f",id={device.name}," in word
    )
    return found


def environment(machine: Machine, library: str) -> dict[str, str]:
    """What QEMU's environment needs for the devices of a machine."""
    return {
        "LD_PRELOAD": library,
        "EMULATED_DEVICES": " ".join(
            f"emulated-{device.name}={device.model.player}"
            f":{device.model.ids}:{device.model.class_code:04x}"
            f":{SUBSYSTEM_VENDOR:04x}:{subsystem(machine, device):04x}"
            for device in machine.devices
        ),
    }


# A processor that is emulated on a busy machine may miss the ten ticks by
# which the kernel finds out whether its timer works. It leaks nothing, and to
# keep the kernel's memory apart costs it a third of its time.
_CMDLINE = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off"


def arguments(
    machine: Machine,
    kernel: str,
    initrd: str,
    cmdline: str,
    shares: tuple[Share, ...],
    channel: str,
    monitor: str,
    console: str,
) -> list[str]:
    """Write the command line.

    :param channel: path of the socket on which the guest's agent answers.
    :param monitor: path of the socket on which QEMU takes commands.
    :param console: path of a file for what the kernel says.
    """
    virtual = "on" if machine.is_virtual else "off"
    found = [
        BINARY,
        # KVM is not used where it is there: a runner's may hang, and what is
        # emulated is the same everywhere.
        *("-accel", "tcg,thread=multi"),
        *("-machine", "q35,kernel-irqchip=off"),
        "-cpu",
        f"qemu64,vendor={_VENDORS[machine.cpu]},hypervisor={virtual}",
        # More would wait for each other where there are less here.
        *("-smp", str(max(machine.cores, machine.nodes))),
        *("-m", f"{machine.memory_mib}M"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        "-no-reboot",
        *("-kernel", kernel, "-initrd", initrd),
        *("-append", f"{_CMDLINE} {cmdline}".strip()),
        *("-serial", f"file:{console}"),
        *("-chardev", f"socket,id=channel,path={channel}"),
        *("-qmp", f"unix:{monitor},server=on,wait=off"),
        *("-device", "virtio-serial-pci,bus=pcie.0,addr=2"),
        *("-device", "virtserialport,chardev=channel,name=agent"),
    ]
    if machine.iommu is not None:
        found += ["-device", _IOMMUS[machine.iommu]]
    for number, share in enumerate(shares):
        mode = "" if share.writable else ",readonly=on"
        found += [
            "-fsdev",
            f"local,id={share.tag},path={share.path},security_model=none"
            f",multidevs=remap{mode}",
            "-device",
            f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}"
            f",bus=pcie.0,addr={3 + number // 8}.{number % 8}"
            f"{',multifunction=on' if number % 8 == 0 else ''}",
        ]
    if machine.is_networked:
        found += [
            "-netdev",
            "user,id=network"
            + "".join(
                f",hostfwd=tcp:127.0.0.1:{here}-:{there}"
                for here, there in machine.forwarded.items()
            ),
            *("-device", "virtio-net-pci,netdev=network,bus=pcie.0,addr=7"),
        ]
    if machine.nodes > 1:
        found += _nodes(machine)
    for device in machine.devices:
        if device.model.bar:
            # Nobody touches the memory of a GPU here, so it costs nothing.
            found += [
                "-object",
                f"memory-backend-ram,id=bar-{device.name},reserve=off"
                f",size={device.model.bar}",
            ]
    found += _Tree(machine).arguments()
    for device in machine.more:
        found += ["-device", device]
    return found


def _nodes(machine: Machine) -> Iterator[str]:
    part = machine.memory_mib // machine.nodes
    for node in range(machine.nodes):
        size = (
            part if node else machine.memory_mib - part * (machine.nodes - 1)
        )
        yield "-object"
        yield f"memory-backend-ram,id=node{node},size={size}M"
        yield "-numa"
        yield f"node,nodeid={node},memdev=node{node},cpus={node}"


class _Tree:
    """Hands out bus names, slots and chassis numbers."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ports = 0
        self._roots = 0

    def arguments(self) -> list[str]:
        devices = [
            device
            for root in self._machine.roots
            for device in self._root(root)
        ]
        return [word for device in devices for word in ("-device", device)]

    def _root(self, root: Root) -> Iterator[str]:
        bus, slot = "pcie.0", _FIRST_SLOT
        if root.node is not None:
            number = _FIRST_BUS + _BUSES * self._roots
            self._roots += 1
            bus, slot = f"root{self._roots}", 0
            yield (
                f"pxb-pcie,id={bus},bus=pcie.0,bus_nr={number}"
                f",numa_node={root.node}"
            )
        for place in root.below:
            if isinstance(place, Card):
                yield from self._card(place, bus, slot)
            else:
                yield from self._root_ports(place, bus, slot)
            slot += 1

    def _port(self) -> tuple[str, int]:
        self._ports += 1
        return f"port{self._ports}", self._ports

    def _root_ports(self, ports: Ports, bus: str, slot: int) -> Iterator[str]:
        several = ",multifunction=on" if len(ports.below) > 1 else ""
        acs = "" if ports.acs else ",disable-acs=on"
        for function, below in enumerate(ports.below):
            name, number = self._port()
            yield (
                f"pcie-root-port,id={name},bus={bus},chassis={number}"
                f",addr={slot:x}.{function}{several if not function else ''}"
                f"{acs}"
            )
            yield from self._below(below, name)

    def _below(self, place: Card | Switch, bus: str) -> Iterator[str]:
        if isinstance(place, Card):
            yield from self._card(place, bus, 0)
            return
        upstream, _ = self._port()
        yield f"x3130-upstream,id={upstream},bus={bus}"
        for slot, below in enumerate(place.below):
            name, number = self._port()
            yield (
                f"xio3130-downstream,id={name},bus={upstream}"
                f",chassis={number},addr={slot:x}"
            )
            yield from self._below(below, name)

    def _card(self, card: Card, bus: str, slot: int) -> Iterator[str]:
        for function, device in enumerate(card.functions):
            bar = f",memdev=bar-{device.name}" if device.model.bar else ""
            several = (
                ",multifunction=on"
                if len(card.functions) > 1 and not function
                else ""
            )
            yield (
                f"emulated-{device.name},id={device.name},bus={bus}"
                f",addr={slot:x}.{function}{several}{bar}"
            )
