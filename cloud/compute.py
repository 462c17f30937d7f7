# SPDX-License-Identifier: Apache-2.0

"""nova-compute with the libvirt driver, on a libvirt that is not there.

``python -m cloud.compute INVENTORY HOSTNAME DIRECTORY --config-file ...``:
the devices are those of the inventory (``nova-gpu-host inventory -f json``),
guests are kept in the directory. All of nova-compute is Nova's own; what would
touch this machine is replaced as in ``nova/tests/functional/libvirt/base.py``.
"""

import io
import os
import pathlib
import sys
from unittest import mock

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"

# isort: split

# First: it chooses the threading model, and Nova's fixtures would choose
# eventlet (nova/monkey_patch.py).
from nova.cmd import compute

# isort: split

import fixtures
from nova.tests import fixtures as nova_fixtures

from cloud import guests
from nova_gpu_filter.host.saved import inventory_json

_DRIVER = "nova.virt.libvirt.driver.LibvirtDriver"


def main() -> None:
    """Run the service until it is told to end."""
    inventory, hostname, directory = sys.argv[1:4]
    del sys.argv[1:4]
    sys.argv[0] = "nova-compute"
    host, _links = inventory_json.read(
        inventory, pathlib.Path(inventory).read_text()
    )
    connection = guests.Connection(host, hostname, pathlib.Path(directory))
    with fixtures.Fixture() as all_fixtures:
        _replace(all_fixtures, connection)
        compute.main()


def _replace(
    all_fixtures: fixtures.Fixture, connection: guests.Connection
) -> None:
    """Put stand-ins in the place of what a hypervisor host would have."""
    for fixture in (
        nova_fixtures.LibvirtImageBackendFixture(),
        nova_fixtures.CGroupsFixture(),
        nova_fixtures.LibvirtFixture(),
        nova_fixtures.OSBrickFixture(),
        # The methods of a privileged daemon run in this process.
        nova_fixtures.PrivsepFixture(),
    ):
        all_fixtures.useFixture(fixture)
    for name, replacement in {
        "nova.virt.libvirt.host.Host.get_connection": mock.Mock(
            return_value=connection
        ),
        "nova.virt.libvirt.host.Host.get_online_cpus": mock.Mock(
            return_value=set(range(connection.host_info.cpus))
        ),
        f"{_DRIVER}._create_image": mock.Mock(return_value=(False, False)),
        f"{_DRIVER}._get_local_gb_info": mock.Mock(
            return_value={"total": 1024, "used": 24, "free": 1000}
        ),
        f"{_DRIVER}.migrate_disk_and_power_off": _power_off,
        # Consoles.
        "nova.virt.libvirt.driver.libvirt_utils.file_open": mock.Mock(
            side_effect=lambda *args, **kwargs: io.BytesIO()
        ),
        "nova.virt.libvirt.driver.libvirt_utils.is_valid_hostname": mock.Mock(
            return_value=True
        ),
        "nova.privsep.utils.supports_direct_io": mock.Mock(return_value=True),
        # Nova would look in the sysfs of this machine.
        "nova.pci.utils.is_physical_function": mock.Mock(return_value=False),
        "nova.pci.utils.get_function_by_ifname": mock.Mock(
            return_value=(None, False)
        ),
    }.items():
        all_fixtures.useFixture(fixtures.MockPatch(name, replacement))


def _power_off(
    driver, context, instance, dest, flavor, network_info, *args, **kwargs
) -> str:
    """Leave the source host of a migration; there are no disks to copy."""
    driver.power_off(instance)
    return "{}"


if __name__ == "__main__":
    main()
