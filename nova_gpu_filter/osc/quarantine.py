# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu device quarantine`` and ``release``."""

import abc
import argparse
import logging

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import reserving
from nova_gpu_filter.osc import base
from nova_gpu_filter.osc import device as device_commands

LOG = logging.getLogger(__name__)


class _ChangeDevice(base.GpuCommand):
    """Finds the device that a command changes."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        base.add_name(
            parser,
            "device",
            "its resource provider: <host>_<address> or UUID",
            nargs="+",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Change the devices, after all of them were found.

        :raises NotKept: one of them is divided into mediated devices.
        """
        found = [
            device_commands.find_device(self, name)[1]
            for name in parsed_args.device
        ]
        for device in found:
            if device.is_mediated:
                raise errors.NotKept(device=device.label)
        for device in found:
            self.change(device)

    @abc.abstractmethod
    def change(self, device: model.Device) -> None:
        """Change one device."""


class QuarantineDevice(_ChangeDevice):
    """Give devices to no server any more, until they are released.

    What is said in Placement: everything of the provider is reserved, and the
    provider is in an aggregate that marks it. Servers that have the devices go
    on; with Placement 13 (2025.1) they cannot be migrated or resized. Of a PF
    whose VFs are given away all VFs are quarantined. To say it twice changes
    nothing.
    """

    def change(self, device: model.Device) -> None:
        reserving.quarantine(
            self.services.placement,
            self.services.write_placement,
            device.uuid,
        )


class ReleaseDevice(_ChangeDevice):
    """End the quarantine of devices.

    Where nova-gpu-agent runs, it is asked to clean and to check the device
    first; elsewhere servers can get it at once. To say it twice changes
    nothing.
    """

    def change(self, device: model.Device) -> None:
        if reserving.release(
            self.services.placement,
            self.services.write_placement,
            device.uuid,
        ):
            LOG.warning(
                "%s: the agent on its host cleans it first", device.name
            )
