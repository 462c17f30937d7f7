# SPDX-License-Identifier: Apache-2.0

"""What the tag live_migratable demands of the host, whatever its value.

Sources: nova/virt/libvirt/driver.py, _check_pci_whitelist with
MIN_VFIO_PCI_VARIANT_LIBVIRT_VERSION and MIN_VFIO_PCI_VARIANT_QEMU_VERSION;
Nova's admin/pci-passthrough, "Post-copy limitation".
"""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Minimum:
    """The least version of a program."""

    name: str
    attribute: str
    """Of Packages."""
    numbers: tuple[int, ...]
    source: str

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.numbers))}"

    def find(self, installed: packages.Packages) -> packages.Version | None:
        """Find the version that is installed; None: it cannot be read."""
        version: packages.Version | None = getattr(installed, self.attribute)
        return version


_MINIMA = (
    Minimum(
        "libvirt",
        "libvirt",
        (10, 0, 0),
        "nova 34, MIN_VFIO_PCI_VARIANT_LIBVIRT_VERSION",
    ),
    Minimum(
        "QEMU",
        "qemu",
        (8, 2, 2),
        "nova 34, MIN_VFIO_PCI_VARIANT_QEMU_VERSION",
    ),
)


def check(
    context: Context, options: pci_options.PciOptions
) -> Iterator[Finding]:
    """Compare the tag with what is installed, and with post-copy."""
    tagged = list(_list_tagged(options))
    if not tagged:
        return
    yield from _check_versions(context, options, tagged[0])
    movable = [spec for spec in tagged if spec.read_tag("live_migratable")]
    if movable and options.permits_post_copy:
        yield Finding(
            Severity.WARNING,
            CHECK,
            "[libvirt]live_migration_permit_post_copy is true, with which QEMU"
            " refuses to live-migrate a server that has such a device",
            evidence=(
                Evidence(
                    options.source, "live_migration_permit_post_copy = true"
                ),
                Evidence(options.source, movable[0].text),
            ),
            cures=(
                "# write [libvirt]live_migration_permit_post_copy = false, and"
                " restart nova-compute",
            ),
        )


def _list_tagged(options: pci_options.PciOptions) -> Iterator[DeviceSpec]:
    for text in options.device_specs:
        try:
            specs = list(device_spec.parse(text))
        except device_spec.SpecError:
            # It is told where device specs are checked.
            continue
        yield from (spec for spec in specs if "live_migratable" in spec.tags)


def _check_versions(
    context: Context, options: pci_options.PciOptions, spec: DeviceSpec
) -> Iterator[Finding]:
    minima = " and ".join(map(str, _MINIMA))
    found = [(one, one.find(context.packages)) for one in _MINIMA]
    old = [
        (one, version)
        for one, version in found
        if version is not None and version.numbers < one.numbers
    ]
    shown = Evidence(options.source, spec.text)
    if old:
        yield Finding(
            Severity.ERROR,
            CHECK,
            "with the tag live_migratable, whatever its value, nova-compute"
            f" starts only with {minima} or newer, and this host has "
            + " and ".join(f"{one.name} {version}" for one, version in old),
            evidence=(
                shown,
                *(Evidence(one.path, one.content) for _, one in old),
            ),
            cures=(
                "# take the tag out of the device_spec, or install newer ones",
            ),
        )
    elif any(version is None for _, version in found):
        yield Finding(
            Severity.NOTE,
            CHECK,
            "with the tag live_migratable, whatever its value, nova-compute"
            f" starts only with {minima} or newer",
            evidence=(shown, Evidence(packages.DPKG, None)),
            cures=(
                "virsh version",
                "# with older ones, take the tag out of the device_spec",
            ),
        )
