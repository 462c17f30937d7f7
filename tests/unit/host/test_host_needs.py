# SPDX-License-Identifier: Apache-2.0

"""What vfio-pci would take of the host's own devices at the next boot."""

import pytest

from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests.sysfs_trees import Host
from tests.sysfs_trees import Pci

GPU, CONSOLE = "0000:41:00.0", "0000:42:00.0"
DISK, SPARE, UPLINK = "0000:3d:00.0", "0000:3e:00.0", "0000:3f:00.0"
CONF = "/etc/modprobe.d/vfio.conf"
RULES = "/etc/udev/rules.d/70-vfio.rules"


@pytest.fixture
def host(tmp_path):
    """Two GPUs, one with the console; two NVMe, one mounted; an uplink."""
    host = Host(tmp_path / "host")
    host.nodes(1)
    host.iommu()
    for address, ids, code, driver, net in (
        (GPU, "10de:26b9", 0x030200, "vfio-pci", None),
        (CONSOLE, "10de:1e07", 0x030000, "vfio-pci", None),
        (DISK, "144d:a80a", 0x010802, "nvme", None),
        (SPARE, "144d:a80b", 0x010802, "vfio-pci", None),
        (UPLINK, "8086:1572", 0x020000, "i40e", "ens7"),
    ):
        host.add(
            Pci(
                address,
                "pci0000:40",
                ids,
                code,
                group=int(address[5:7], 16),
                driver=driver,
                bars=(1 << 24,),
                net=net,
            )
        )
    host.write(f"/sys/bus/pci/devices/{CONSOLE}/boot_vga", 1)
    place = f"/sys/devices/pci0000:40/{DISK}/nvme/nvme0/nvme0n1"
    host.write(f"{place}/dev", "259:0")
    host.link("/sys/class/block/nvme0n1", place)
    host.write(
        "/proc/self/mountinfo", "30 1 259:0 / / rw - xfs /dev/nvme0n1 rw\n"
    )
    host.write(
        "/proc/net/route",
        "Iface\tDestination\tGateway\nens7\t00000000\t0100000A\n",
    )
    host.vfio_at_boot("10de:26b9")
    return host


def taken(host):
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    return [
        one
        for one in readiness.check(context)
        if "takes it at the next boot" in one.summary
    ]


def test_devices_of_the_host_are_left_alone_by_ids_of_guests(host):
    assert taken(host) == []


@pytest.mark.parametrize(
    ("path", "text", "device"),
    [
        (CONF, "options vfio-pci ids=10de:26b9,144d:a80a", DISK),
        (CONF, "options vfio_pci ids=8086:1572", UPLINK),
        (CONF, "options vfio-pci ids=10de:1e07", CONSOLE),
        # Every display: by the class and its mask.
        (
            CONF,
            "options vfio-pci ids=ffffffff:ffffffff:ffffffff:ffffffff:"
            "00030000:ffff0000",
            CONSOLE,
        ),
        # Every NVMe.
        (
            CONF,
            "options vfio-pci ids=ffffffff:ffffffff:ffffffff:ffffffff:"
            "010802:ffffff",
            DISK,
        ),
        ("/proc/cmdline", "vfio-pci.ids=144d:a80a", DISK),
        (f"/etc/driverctl.d/pci-{DISK}", "vfio-pci", DISK),
        (
            RULES,
            'ACTION=="add", SUBSYSTEM=="pci", ATTR{vendor}=="0x144d",'
            ' ATTR{device}=="0xa80a", ATTR{driver_override}="vfio-pci"',
            DISK,
        ),
        (
            RULES,
            f'KERNEL=="{UPLINK}", ATTR{{driver_override}}="vfio-pci"',
            UPLINK,
        ),
    ],
)
def test_what_takes_a_device_of_the_host_is_told(host, path, text, device):
    host.write(path, text)
    (finding,) = taken(host)
    assert (finding.severity, finding.device) == (Severity.WARNING, device)
    assert finding.evidence[-1].path == path


def test_ids_of_a_spare_disk_are_for_guests(host):
    host.write(CONF, "options vfio-pci ids=10de:26b9,144d:a80b")
    assert taken(host) == []


def test_a_driver_that_is_built_in_keeps_the_disk(host):
    host.write(CONF, "options vfio-pci ids=144d:a80a")
    release = "/lib/modules/6.8.0-60-generic"
    host.write(f"{release}/modules.builtin", "kernel/drivers/nvme/nvme.ko\n")
    host.write(
        f"{release}/modules.alias",
        "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n",
    )
    assert taken(host) == []


@pytest.mark.parametrize(
    ("kind", "number"), [("type-PF", 0), ("type-PCI", 1), (None, 2)]
)
def test_the_type_of_a_pf_is_said_once(host, tmp_path, capsys, kind, number):
    host.write(f"/sys/bus/pci/devices/{GPU}/sriov_totalvfs", 32)
    host.write(f"/sys/bus/pci/devices/{GPU}/sriov_numvfs", 0)
    conf = tmp_path / "nova.conf"
    conf.write_text(
        '[pci]\ndevice_spec = {"vendor_id": "10de", "product_id": "26b9"}\n'
        + (
            'alias = {"name": "a", "vendor_id": "10de", "product_id": "26b9",'
            f' "device_type": "{kind}"}}\n'
            if kind
            else ""
        )
    )
    app.main(
        ["check", "--sysfs-root", str(host.root), "--nova-conf", str(conf)]
    )
    output = capsys.readouterr().out
    assert ("sr-iov" in output, "no server gets one" in output) == {
        0: (False, False),
        1: (False, True),
        2: (True, False),
    }[number]
