# SPDX-License-Identifier: Apache-2.0

"""Nothing that somebody would rather keep for themselves is in a capture."""

import io
import itertools
import os
import re
import tarfile

import pytest

from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import kept
from nova_gpu_filter.host.saved import outputs
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import captures
from tests import smi_files
from tests import sysfs_trees
from tests.unit.host import test_linking

GPU = "0000:85:00.0"
UUID = "4c4c4544-0042-3510-8051-b4c04f4d3332"
MAC = "78e7d1ea46da"
SERIAL = "1653922012345"

# Files of a host that has everything that the checks read, each with what a
# healthy host has in it. {0} is where secrets are planted.
FILES = {
    "/proc/cmdline": "BOOT_IMAGE=/vmlinuz-{0} root=UUID={0} ro {0} {0}=1"
    " http://user:{0}@host/ks.cfg intel_iommu=on,{0} iommu=pt pci={0}"
    " pci=realloc,{0} rd.luks.key={0} vfio-pci.ids=10de:11bf,{0}"
    ' nvidia.key={0} modprobe.blacklist=nouveau,{0} x="a {0}"'
    " nouveau.modeset={0} hugepagesz={0} video={0} vfio_pci.{0}=1"
    " -- init={0}",
    "/proc/cpuinfo": "processor : 0\nvendor_id : GenuineIntel\n"
    "model name : {0}\nserial : {0}\nflags : fpu {0} vmx\n",
    "/proc/interrupts": " CPU0\n 24: 11 IR-PCI-MSI-0000:00:1c.0 0-edge {0}\n"
    " 25: 0 IR-PCI-MSI {0}\n",
    "/proc/meminfo": "MemTotal: 1024 kB {0}\nHugePages_Total: 0\n{0}: 1 kB\n",
    "/proc/net/route": "Iface\tDestination\tGateway {0}\n"
    "ens9\t00000000\t{0}\nens9\t{0}\t00000000\n",
    "/proc/net/ipv6_route": "{0} 40 {0} 00 {0} 0 0 0 {0} ens9\n",
    "/proc/net/if_inet6": "{0} 02 40 00 80 ens9\n{0} {0} {0} {0} {0} ens9\n",
    "/proc/self/mountinfo": "30 1 259:2 /{0} /mnt/{0} rw - xfs /dev/{0}"
    " pw={0}\n31 1 0:44 / /srv/x rw - cifs //host/{0} password={0}\n",
    "/proc/swaps": "Filename\tType\n/dev/sda2 partition\n/home/{0} file\n"
    "/dev/mapper/{0} partition\n",
    "/proc/iomem": "0-0 : PCI Bus {0}\n  0-0 : 0000:85:00.0\n"
    "    0-0 : BOOTFB {0}\n    0-0 : {0}\n",
    "/etc/modprobe.d/site.conf": "options cifs password={0}\n# {0}\n"
    "blacklist nouveau # {0}\nblacklist {0}\n"
    "install nouveau /bin/false {0}\ninstall nvidia curl http://u:{0}@x\n"
    "softdep nvidia pre: vfio-pci {0}\nsoftdep {0} pre: vfio-pci\n"
    "options vfio-pci ids=10de:11bf \\\n  token={0}\n"
    "options nvidia NVreg_Key={0} {0}\noptions vfio-pci ids={0}\n"
    "alias {0} nouveau\nremove nouveau echo {0}\n",
    "/usr/lib/modprobe.d/other.conf": "blacklist nouveau {0}\n",
    "/etc/modules-load.d/site.conf": "vfio-pci\n# {0}\n{0}\nvfio_{0}\n",
    "/etc/udev/rules.d/99-site.rules": 'ATTR{{vendor}}=="0x10de", '
    'ATTR{{device}}=="0x11bf", ATTR{{serial}}=="{0}", ENV{{KEY}}="{0}", '
    'ATTR{{driver_override}}="vfio-pci", RUN+="/bin/x {0}" # {0}\n'
    'ATTR{{address}}=="{0}", NAME="{0}"\n'
    'RUN+="/bin/sh -c \'echo vfio-pci > driver_override; curl {0}\'", \\\n'
    ' ENV{{X}}="{0}"\n'
    'ATTR{{vendor}}=="{0}", ATTR{{driver_override}}="{0}"\n',
    f"/etc/driverctl.d/pci-{GPU}": "vfio-pci\n{0}\n",
    "/etc/driverctl.d/pci-0000:86:00.0": "{0}",
    "/etc/driverctl.d/site-{0}": "{0}",
    "/etc/dracut.conf": 'key="{0}"\nforce_drivers+=" vfio-pci {0} " # {0}\n',
    "/etc/dracut.conf.d/site.conf": "ssh_key={0}\n"
    'force_drivers+=" vfio-pci {0} "\nomit_drivers+=" {0} "\n',
    "/etc/initramfs-tools/modules": "vfio-pci ids=10de:11bf key={0} # {0}\n"
    "{0} x={0}\nnouveau {0}\n",
    "/etc/initramfs-tools/scripts/init-top/site": "curl -u x:{0} http://x\n"
    "echo vfio-pci > /sys/bus/pci/devices/0000:85:00.0/driver_override\n"
    "# {0}\necho 10de 11bf {0} > /sys/bus/pci/drivers/vfio-pci/new_id {0}\n",
    "/etc/mkinitcpio.conf": "MODULES=(vfio-pci\n nvidia {0})\n"
    'HOOKS="base {0} modconf"\nKEY={0}\n',
    "/etc/mkinitcpio.conf.d/site.conf": "MODULES+=({0})\n# {0}\n",
    "/etc/systemd/system/site.service": "[Unit]\nBefore=systemd-udevd.service"
    " {0}.service\n[Service]\nEnvironment=PASSWORD={0}\n"
    "ExecStart=/opt/bind.sh --key {0} /opt/{0}\n"
    "ExecStart=/bin/sh -c 'driverctl set-override 0000:85:00.0 vfio-pci'\n",
    "/opt/bind.sh": "KEY={0}\ndriverctl set-override 0000:85:00.0 {0}\n",
    "/etc/systemd/system/multi-user.target.wants/site.service": "{0}",
    "/etc/systemd/system/multi-user.target.wants/{0}.service": "{0}",
    "/usr/share/nvidia/nvswitch/fabricmanager.cfg": "FABRIC_MODE=1 {0}\n"
    "KEY={0}\n# {0}\n",
    "/run/udev/data/b259:2": "E:ID_FS_TYPE=zfs_member\nE:ID_FS_USAGE=raid\n"
    "E:ID_FS_UUID={0}\nE:ID_SERIAL={0}\nE:ID_FS_TYPE={0}\n",
    "/lib/modules/6.8.0-60-generic/modules.dep": "kernel/vfio-pci.ko.zst:"
    " kernel/{0}.ko\nkernel/{0}.ko:\n",
    "/lib/modules/6.8.0-60-generic/modules.builtin": "kernel/{0}.ko\n"
    "kernel/vfio-pci.ko\n",
    "/lib/modules/6.8.0-60-generic/modules.alias": "# {0}\n"
    "alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\nalias {0} x\n"
    "alias pci:v{0}* y\n",
    "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "N\n{0}\n",
    "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "{0}",
    "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "65535 {0}",
    "/sys/devices/system/node/online": "0-1\n{0}\n",
    "/var/lib/dpkg/status": "Package: libvirt0\nStatus: install ok installed\n"
    "Maintainer: {0}\nVersion: 1:10.0.0-2ubuntu8 {0}\nDescription: {0}\n {0}"
    "\n\nPackage: {0}\nStatus: install ok installed\nVersion: {0}\n\n"
    "Package: qemu-system-x86\nStatus: install ok installed\n"
    "Version: 1:8.2.2+ds-0ubuntu1\n\n",
    "/var/cache/libvirt/qemu/capabilities/site.xml": "<qemuCaps>{0}"
    "<selfvers>10000000</selfvers><version>8002002</version>"
    "<hostCPU name='{0}'/></qemuCaps>",
    "/var/log/fabricmanager.log": "{0}\nFabric Manager version is : {0}\n"
    "Fabric Manager version 550.54.15 {0}\n",
    "/sys/module/nvidia/version": "550.54.15\n{0}\n",
    "/boot/config-6.8.0-60-generic": "# {0}\nCONFIG_ARM64_64K_PAGES=y\n"
    "CONFIG_VFIO_GROUP=y\nCONFIG_IOMMUFD_VFIO_CONTAINER={0}\n"
    'CONFIG_VFIO_X="{0}"\n# CONFIG_{0} is not set\n',
    "/lib/modules/6.8.0-60-generic/config": "CONFIG_X={0}\n",
    "/sys/devices/system/node/has_cpu": "0-1\n",
    "/sys/devices/system/node/has_memory": "0-1,2\n",
    "/sys/kernel/iommu_groups/35/reserved_regions": "0x0 0x1 msi {0}\n{0}\n",
    "/sys/class/tty/console/active": "tty0 {0}",
    "/etc/nova/nova.conf": "[database]\nconnection = mysql://{0}\n",
    "/etc/default/grub": "GRUB_CMDLINE_LINUX={0}\n",
    "/sys/firmware/acpi/tables/DMAR": "{0}",
    "/boot/initrd.img-6.8.0-60-generic": "{0}",
    f"/sys/bus/pci/devices/{GPU}/vpd": "SMDL {0} SN {0}",
    f"/sys/bus/pci/devices/{GPU}/serial_number": "{0}",
    f"/sys/bus/pci/devices/{GPU}/label": "{0}",
    f"/sys/bus/pci/devices/{GPU}/power/runtime_status": "active\n{0}",
    f"/sys/bus/pci/devices/{GPU}/nvidia/current_vgpu_type": "1{0}",
    f"/sys/bus/pci/devices/{GPU}/nvidia/creatable_vgpu_types": "{0}\n"
    "563 : NVIDIA A40-8Q\n564 : {0}\n565 : NVIDIA {0}\n",
    "/usr/share/nvidia/vgpu/vgpuConfig.xml": "<x>{0}</x>\n"
    '  <vgpuType id="0x233" name="NVIDIA A40-8Q" class="{0}">\n'
    '  <vgpuType id="0x234" name="{0}" class="Quadro">\n',
    f"/sys/bus/pci/devices/{GPU}/mdev_supported_types/nvidia-1/name": "{0}",
    f"/sys/bus/pci/devices/{GPU}/mdev_supported_types/nvidia-1/description": (
        "{0}"
    ),
    f"/sys/bus/pci/devices/{GPU}/mdev_supported_types/nvidia-1/"
    "available_instances": "4 {0}",
    **{
        f"/sys/bus/pci/devices/{GPU}/net/ens9/{name}": content
        for name, content in {
            "address": "{0}",
            "operstate": "up {0}",
            "flags": "0x1003 {0}",
            "carrier": "1 {0}",
            "phys_port_id": "{0}",
            "ifalias": "{0}",
        }.items()
    },
    # The serial number of a device is a capability behind the header.
    f"/sys/bus/pci/devices/{GPU}/config": "\x00" * 64 + "{0}",
}
# What administrators and the kernel name: of these, only identifiers go.
NAMES = {
    "/sys/class/block/dm-0/dm/name": "luks-{0}",
}
TOPO = test_linking.NV18 + "\nGPU0 UUID: {0} ({0})\nx {0}\n\nLegend:\n {0}\n"
QUERY = test_linking.QUERY[1] + (
    "    Serial Number : {0}\n    GPU UUID : GPU-{0}\nGPU {0}\n"
    "    Module Id : {0}\n"
)


def fabric(secret):
    """A list of partitions with a secret in every text."""
    text = re.sub(
        r'("(?:uuid|\w*[gG]uid\w*)"): "[^"]*"',
        rf'\1: "{secret}"',
        smi_files.fmpm({0: (1, 2)}),
    )
    more = f'"clusterUuid": "{secret}", "{secret}": 1, "partitionId"'
    return text.replace('"partitionId"', more, 1) + " "


class Secrets:
    """A secret of its own for every place."""

    def __init__(self, form):
        self._form = form
        self._numbers = itertools.count(10)
        self.planted = {}

    def plant(self, path, content):
        """Put another secret in each of the places of a text."""
        parts = content.replace("{{", "{").replace("}}", "}").split("{0}")
        text = parts[0]
        for part in parts[1:]:
            secret = self._form.format(next(self._numbers))
            self.planted[secret] = path
            text += secret + part
        return text


def texts(data):
    """All that stands in an archive: names, targets of links, contents."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            yield member.name
            yield member.linkname
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield file.read().decode("utf-8", "replace")


FORMS = (
    "Tr0ub4dor{}x",
    "GPU-4c4c4544-0042-3510-8051-b4c04f4d33{}",
    "78e7d1ea46{}",
    "78:e7:d1:ea:46:{}",
    "16539220123{}",
    "0x506b4b0300a1b2{}",
)


@pytest.mark.parametrize("form", FORMS)
def test_no_secret_is_in_a_capture(build, form):
    host = build("k2_host")
    secrets = Secrets(form)
    for path, content in FILES.items():
        if path.startswith("/sys/") and not os.path.lexists(
            host.path(path).parent
        ):
            host.mkdir(os.path.dirname(path))
        host.write(
            secrets.plant(path, path),
            secrets.plant(path, content),
        )
    # And once more, behind what every other file of the host has.
    for folder, _, names in os.walk(host.root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and path.removeprefix(
                str(host.root)
            ) not in {*FILES, "/usr/share/hwdata/pci.ids"} | {
                "/proc/sys/kernel/hostname",
                "/proc/sys/kernel/osrelease",
            }:
                with open(path, "a") as file:
                    file.write(secrets.plant(path, "{0}\n{0}=1 {0}\n"))
    sources = linking.Sources(
        topo=("t", secrets.plant("topo", TOPO)),
        query=("q", secrets.plant("query", QUERY)),
        fabric=("f", fabric(secrets.plant("fabric", "{0}"))),
    )
    found = {
        secret: place
        for text in texts(captures.write(host.root, sources))
        for secret, place in secrets.planted.items()
        if secret in text
    }
    assert not found


@pytest.mark.parametrize("form", FORMS[1:3])
def test_identifiers_in_names_have_stand_ins(build, tmp_path, form):
    host = build("k2_host")
    secret = form.format("da")
    interface = f"enx{secret}"[:40]
    place = f"/sys/bus/pci/devices/{GPU}/net/{interface}"
    host.mkdir(place)
    host.write(f"{place}/operstate", "up")
    host.link(f"/sys/class/net/{interface}", place)
    host.link(f"{place}/master", f"/sys/devices/virtual/net/br-{secret}")
    host.write("/proc/net/route", f"Iface\tD\n{interface}\t00000000\n")
    host.write("/etc/modprobe.d/{secret}.conf", "blacklist nouveau")
    for path, content in NAMES.items():
        host.write(path, content.format(secret))
    data = captures.write(host.root)
    assert not [text for text in texts(data) if secret in text]
    top = captures.take(host.root, tmp_path)
    (name,) = os.listdir(f"{top}/sys/bus/pci/devices/{GPU}/net")
    # It is the same one wherever it occurs.
    assert name in (top / "proc/net/route").read_text()
    assert os.path.lexists(f"{top}/sys/class/net/{name}")


class RecordingTree(tree.Tree):
    """Notes which files were read."""

    def __init__(self, root):
        super().__init__(root)
        self.read_paths = set()

    def read_bytes(self, path, *limit):
        data = super().read_bytes(path, *limit)
        if data is not None:
            self.read_paths.add(path)
        return data


# What is not a text of its own form: registers, product data, names, and the
# programs of units, whose words stand in the captured unit.
OTHERS = re.compile(r".*/(config|vpd)|.*/pci\.ids(\.gz)?|.*\.hwdb|/opt/.*")


def with_every_file(host):
    """Give a host the files that the checks read beside those of devices."""
    for path, content in FILES.items():
        if "{0}" not in path and not path.startswith("/sys/bus"):
            text = content.replace("{0}", "x")
            host.write(path, text.replace("{{", "{").replace("}}", "}"))
    return host


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_all_that_checks_read_is_captured(build, tmp_path, machine, is_full):
    host = build(machine)
    if is_full:
        with_every_file(host)
    told = []
    trees = []
    for root in (host.root, captures.take(host.root, tmp_path)):
        files = RecordingTree(str(root))
        found = reader.read(files, pci_ids.load(files), everything=True)
        context = Context(files, found)
        told.append(
            [
                (one.severity, one.check, one.device, one.summary, one.cures)
                for one in readiness.check(context)
            ]
        )
        trees.append(files)
    assert told[0] == told[1]
    on_host, captured = trees
    read = {one for one in on_host.read_paths if not OTHERS.fullmatch(one)}
    assert read
    assert {one for one in read if kept.find(one) is None} == set()
    # A file of which nothing is kept need not be there.
    empty = {
        one
        for one in read - captured.read_paths
        if captured.read_bytes(one) is None
    }
    for path in empty:
        text = on_host.read(path)
        assert not kept.find(path)(kept.Tokens(), text), path


def test_outputs_without_a_form_are_not_kept():
    sources = linking.Sources(fabric=("f", "no JSON"))
    (entry,) = outputs.list_entries(kept.Tokens(), sources)
    assert entry.content == b""


def test_modes_of_confidential_computing_are_kept():
    text = (
        "GPU 0000:18:00.0 H100 0x2330 serial 16539220123\n"
        "0000:18:00.0 CC mode is on\n0000:2a:00.0 CC mode is devtools\n"
        "0000:3a:00.0 CC mode is off\n0000:3a:00.0 PPCIe mode is on\n"
        "    CC status : ON SECRET\n"
    )
    modes = cc_mode.parse("x", text)
    sources = linking.Sources()
    (entry,) = outputs.list_entries(kept.Tokens(), sources, modes)
    kept_text = entry.content.decode()
    assert cc_mode.parse("x", kept_text) == modes
    assert "165" not in kept_text
