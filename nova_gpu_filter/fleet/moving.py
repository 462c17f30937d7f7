# SPDX-License-Identifier: Apache-2.0

"""What keeps a server from moving to another host, whatever is free there.

The rules are those of ``live_migrate`` and ``resize`` in nova/compute/api.py,
of ``_check_can_migrate_pci`` in nova/conductor/tasks/live_migrate.py, and for
vGPUs of ``check_source_migrate_data_at_dest`` and
``_host_can_support_mdev_live_migration`` in nova/virt/libvirt/driver.py.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
from typing import Final

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import memory_encryption
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict
from nova_gpu_filter.nova_rules import resource_groups


class Way(enum.Enum):
    """How a server moves; the value is what operators type."""

    LIVE = "live"
    """While it runs."""
    COLD = "cold"
    """Stopped, and to be confirmed, as a resize is."""


_STATUSES: Final[Mapping[Way, tuple[str, ...]]] = {
    Way.LIVE: ("ACTIVE", "PAUSED"),
    Way.COLD: ("ACTIVE", "SHUTOFF"),
}
"""In which Nova's API takes the request; others are refused."""
_OTHER_WAY: Final = "with a cold migration"
_EVACUATION: Final = (
    "with an evacuation (openstack --os-compute-api-version 2.94 server"
    " evacuate)"
)
"""From 2.95 on the server arrives stopped. One with PCI devices cannot be
started then before its old host is back: ``get_pci_devices`` in
nova/objects/instance.py fails at those that it has there."""
_CYBORG_KEY: Final = "accel:device_profile"
"""Extra spec by which a flavor asks Cyborg for devices; ``block_accelerators``
refuses both ways."""

_TPM_KEY: Final = "hw:tpm_version"
_TPM_IMAGE_KEY: Final = "hw_tpm_version"
_TPM_SECURITY_KEY: Final = "hw:tpm_secret_security"
"""Who can read the secret of a virtual TPM; ``user`` by default. With
``host`` Nova 34 moves it (``reject_legacy_vtpm_live_migration``)."""


@dataclasses.dataclass(frozen=True)
class Move:
    """A server that shall go to another host."""

    server: model.Server
    wanted: demand.Demand
    way: Way
    source: model.Host | None
    """Where it is; None where the host has no devices or is not known."""

    @property
    def has_mediated_devices(self) -> bool:
        """Whether the server asks for vGPUs of mediated devices."""
        classes = {resource_groups.VGPU}
        if self.source is not None:
            classes |= self.source.mediated_classes
        return not classes.isdisjoint(self.wanted.classes_without_alias)


def find_gates(move: Move) -> Iterator[verdict.Gate]:
    """Find what keeps a server where it is, whichever the other host."""
    server, way = move.server, move.way
    statuses = _STATUSES[way]
    if server.status not in statuses:
        yield verdict.Gate(
            f"a {way.value} migration needs status {' or '.join(statuses)};"
            f" {server.name} is {server.status}",
            f"with {server.name} {' or '.join(statuses)}",
        )
    if move.source is not None and move.source.is_down:
        yield verdict.Gate(
            f"nova-compute of {move.source.name}, where it is, is"
            f" {move.source.status}",
            _EVACUATION,
        )
    profile = server.flavor.extra_specs.get(_CYBORG_KEY)
    if profile:
        yield verdict.Gate(
            f"Nova moves no server with devices of Cyborg ({_CYBORG_KEY} ="
            f" {profile})",
            "with a new server there",
        )
    if way is Way.LIVE:
        yield from _find_live_gates(move)


def _find_live_gates(move: Move) -> Iterator[verdict.Gate]:
    """Find what Nova cannot do while the guest runs."""
    for asked in move.wanted.devices:
        if not asked.alias.live_migratable:
            yield verdict.Gate(
                f"alias {asked.alias.name} does not ask for devices that are"
                " live_migratable",
                _OTHER_WAY,
            )
    specs = move.server.flavor.extra_specs
    image = move.server.image_properties
    if key := memory_encryption.find_request(specs, image):
        yield verdict.Gate(f"its memory is encrypted ({key})", _OTHER_WAY)
    has_tpm = _TPM_KEY in specs or _TPM_IMAGE_KEY in image
    if has_tpm and specs.get(_TPM_SECURITY_KEY) != "host":
        yield verdict.Gate(
            "the secret of its virtual TPM cannot move with it"
            f" ({_TPM_KEY if _TPM_KEY in specs else _TPM_IMAGE_KEY})",
            _OTHER_WAY,
        )


def describe_limits(move: Move) -> str:
    """Say what no API has, and what to look at before a server moves."""
    if not move.wanted.devices and not move.has_mediated_devices:
        return ""
    if move.way is Way.COLD:
        return (
            "the server keeps its devices on the source until it is confirmed,"
            " and gets others"
        )
    unknown = []
    if move.wanted.devices:
        unknown.append(
            "whether [pci]device_spec of both hosts has live_migratable, and"
            " whether driver, libvirt and QEMU can move the state of the"
            " devices"
        )
    if move.has_mediated_devices:
        unknown.append(
            "whether both hosts have libvirt 8.6.0 and QEMU 8.1.0, whether"
            " [devices]enabled_mdev_types of the other has the types of its"
            " vGPUs, and whether their driver can move them"
        )
    return f"not known from any API: {'; '.join(unknown)}"
