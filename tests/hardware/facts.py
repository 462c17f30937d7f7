# SPDX-License-Identifier: Apache-2.0

"""What a machine says of itself, right after its first boot."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

from tests import captures
from tests.hardware import guest as guest_lib
from tests.hardware import qemu
from tests.hardware.emulated_machines import Machine

_LIST = (
    "cd /sys/bus/pci/devices && grep '' */subsystem_vendor */subsystem_device"
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Outputs of nova-gpu-host, and where the described devices are."""

    machine: Machine
    addresses: Mapping[str, str]
    """Name of a device -> PCI address."""
    inventory: Mapping[str, Any]
    check: guest_lib.Answer
    config: Mapping[str, str]
    """Output of config, by its option; that of none is ``compute``."""
    capture: pathlib.Path
    """The unpacked capture: a root directory."""

    @property
    def names(self) -> dict[str, str]:
        """PCI address -> name of a device."""
        return {address: name for name, address in self.addresses.items()}

    @property
    def entries(self) -> dict[str, Mapping[str, Any]]:
        """Name of a device -> what the inventory says of it."""
        names = self.names
        return {
            names[entry["address"]]: entry
            for entry in self.inventory["devices"]
            if entry["address"] in names
        }

    @property
    def members(self) -> list[frozenset[str]]:
        """Names of the described devices in each IOMMU group."""
        names = self.names
        found = []
        for group in self.inventory["iommu_groups"]:
            addresses = {member["address"] for member in group["members"]}
            found.append(
                frozenset(names[one] for one in addresses & names.keys())
            )
        return found


def addresses(guest: guest_lib.Guest) -> dict[str, str]:
    """Find the devices by the subsystem ids that they were given."""
    ids: dict[str, dict[str, int]] = {}
    for line in guest.shell(_LIST).splitlines():
        path, _, value = line.rpartition(":")
        address, _, name = path.partition("/")
        ids.setdefault(address, {})[name] = int(value, 16)
    found = {
        one["subsystem_device"]: address
        for address, one in ids.items()
        if one["subsystem_vendor"] == qemu.SUBSYSTEM_VENDOR
    }
    return {
        device.name: found[qemu.subsystem(guest.machine, device)]
        for device in guest.machine.devices
    }


def take(guest: guest_lib.Guest, directory: pathlib.Path) -> Facts:
    """Ask a machine that has just booted.

    :param directory: where to unpack its capture.
    """
    inventory = guest.host("inventory", "-f", "json")
    assert inventory.code == 0, inventory.err
    config = {}
    for option in ("compute", "modprobe", "udev", "cmdline"):
        arguments = () if option == "compute" else (f"--{option}",)
        answer = guest.host("config", *arguments)
        assert answer.code == 0, answer.err
        config[option] = answer.out
    captured = guest.host("capture", "/state/capture.tar.gz")
    assert captured.code == 0, captured.err
    return Facts(
        guest.machine,
        addresses(guest),
        json.loads(inventory.out),
        guest.host("check", "-f", "json", "--all"),
        config,
        captures.unpack(guest.state / "capture.tar.gz", directory),
    )
