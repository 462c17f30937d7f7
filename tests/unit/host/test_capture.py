# SPDX-License-Identifier: Apache-2.0

import io

import pytest

from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import capture
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import captures
from tests import smi_files
from tests import sysfs_trees
from tests.unit.host import test_linking

NAMES = pci_ids.parse("pci.ids", sysfs_trees.PCI_IDS.encode())


def captured(root, tmp_path, sources=None, name="x.tar"):
    """Capture the files below ``root`` and unpack them elsewhere."""
    path = tmp_path / "capture"
    with path.open("wb") as file:
        capture.write(
            tree.Tree(str(root)), sources or linking.Sources(), file, name
        )
    return captures.unpack(path, tmp_path / "unpacked")


def examine(root):
    files = tree.Tree(str(root))
    host = reader.read(files, NAMES)
    context = Context(files, host, linking.join(host))
    # The command line has lost values, so evidence may differ.
    told = [
        (one.severity, one.check, one.device, one.summary, one.cures)
        for one in readiness.check(context)
    ]
    return host, told


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_a_capture_says_what_the_host_says(build, tmp_path, machine):
    host = build(machine)
    assert examine(captured(host.root, tmp_path)) == examine(host.root)


def test_the_real_machine_can_be_captured(tmp_path):
    top = captured("/", tmp_path)
    host, _ = examine(top)
    assert host.functions == reader.read(tree.Tree(), NAMES).functions


SECRETS = {
    "/proc/cmdline": "intel_iommu=on rd.luks.key=SECRET iscsi_password=SECRET"
    " vfio-pci.ids=10de:11bf -- init=SECRET",
    "/etc/modprobe.d/site.conf": "options cifs password=SECRET\n"
    "# SECRET\nblacklist nouveau\n",
    "/etc/udev/rules.d/99-site.rules": 'RUN+="/bin/x SECRET"\n',
    "/etc/nova/nova.conf": "[database]\nconnection = mysql://SECRET\n",
    "/etc/dracut.conf.d/site.conf": "ssh_key=SECRET\n"
    'force_drivers+=" vfio-pci "\n',
    "/sys/bus/pci/devices/0000:85:00.0/vpd": "SECRET",
    "/sys/bus/pci/devices/0000:85:00.0/serial_number": "SECRET",
    # The serial number of a device is a capability behind the header.
    "/sys/bus/pci/devices/0000:85:00.0/config": b"\xde\x10\xbf\x11"
    + bytes(60)
    + b"SECRET",
    "/proc/cpuinfo": "vendor_id : GenuineIntel\nserial : SECRET\n",
    "/usr/share/nvidia/nvswitch/fabricmanager.cfg": "FABRIC_MODE=1\n"
    "KEY=SECRET\n",
}


def test_no_secret_is_in_a_capture(build, tmp_path):
    host = build("k2_host")
    for path, content in SECRETS.items():
        host.write(path, content)
    query = test_linking.QUERY[1] + "    Serial Number : SECRET\n"
    query += "    GPU UUID : GPU-SECRET\n"
    fabric = smi_files.fmpm({0: (1,)}).replace(
        '"uuid": ""', '"uuid": "GPU-SECRET"'
    )
    sources = linking.Sources(query=("q", query), fabric=("f", fabric))
    file = io.BytesIO()
    capture.write(tree.Tree(str(host.root)), sources, file, "x.tar")
    data = file.getvalue()
    assert b"SECRET" not in data
    # What matters is there.
    assert b"vfio-pci.ids=10de:11bf" in data
    assert b"rd.luks.key=REMOVED" in data
    assert b"blacklist nouveau" in data
    assert b"force_drivers" in data
    assert b"FABRIC_MODE=1" in data


def test_outputs_of_programs_are_kept_where_they_are_looked_for(
    build, tmp_path
):
    sources = linking.Sources(
        topo=("topo.txt", test_linking.NV18),
        query=test_linking.QUERY,
        fabric=test_linking.FABRIC,
    )
    host = build("hgx_h100")
    top = captured(host.root, tmp_path, sources)
    files = tree.Tree(str(top))
    again = linking.Sources(
        topo=("t", files.read(capture.TOPO)),
        query=("q", files.read(capture.QUERY)),
        fabric=("f", files.read(capture.FABRIC)),
    )
    inventory = reader.read(files, NAMES)
    joined = linking.join(inventory, again)
    assert joined.matrix == linking.join(inventory, sources).matrix
    assert len(joined.partitions) == 15
    assert dict(joined.module_ids)


@pytest.mark.parametrize(
    ("hostname", "top"),
    [
        ("gpu-1.example.org", "gpu-1.example.org"),
        ("../../etc", "_.._etc"),
        ("", "host"),
        ("a b", "a_b"),
    ],
)
def test_the_top_directory_is_a_plain_name(build, tmp_path, hostname, top):
    host = build("k2_host")
    host.write("/proc/sys/kernel/hostname", hostname)
    assert captured(host.root, tmp_path).name == top


def test_a_packed_capture_is_smaller(build):
    host = build("hgx_h100")
    sizes = []
    for name in ("x.tar", "x.tar.gz"):
        file = io.BytesIO()
        capture.write(tree.Tree(str(host.root)), linking.Sources(), file, name)
        sizes.append(len(file.getvalue()))
    assert sizes[1] * 10 < sizes[0]
