# SPDX-License-Identifier: Apache-2.0

import os

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.host import boot
from nova_gpu_filter.host import tree
from tests import sysfs_trees

MODALIAS = """\
# Aliases extracted from modules themselves.
alias pci:v000010DEd*sv*sd*bc03sc00i00* nvidia
alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia
alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau
alias pci:v*d*sv*sd*bc04sc03i00* snd_hda_intel
alias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci
alias usb:v000010DEp* other
"""


@pytest.fixture
def host(tmp_path):
    """A host with one K2 GPU and nothing set up."""
    host = sysfs_trees.Host(tmp_path)
    host.add(
        sysfs_trees.Pci("0000:85:00.0", "pci0000:80", "10de:11bf", 0x030000)
    )
    host.write("/lib/modules/6.8.0-60-generic/modules.alias", MODALIAS)
    return host


@pytest.fixture
def gpu(host, read):
    return lambda: read(host).gpus[0]


def boot_of(host):
    return boot.Boot(tree.Tree(str(host.root)))


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", ()),
        ("quiet a=b", (("quiet", None), ("a", "b"))),
        ("a=b=c", (("a", "b=c"),)),
        ('dyndbg="file x +p" q', (("dyndbg", "file x +p"), ("q", None))),
        ("vfio-pci.ids=10de:11bf", (("vfio_pci.ids", "10de:11bf"),)),
        ("a -- b=c", (("a", None),)),
    ],
)
def test_the_kernel_command_line_is_split(text, pairs):
    assert boot.split_cmdline(text) == pairs


@given(st.text())
def test_any_command_line_is_split(text):
    for key, _ in boot.split_cmdline(text):
        assert "-" not in key


def test_modules_that_claim_a_device_are_those_of_its_alias(host, gpu):
    assert boot_of(host).candidates(gpu()) == ("nouveau", "nvidia")


def test_without_aliases_the_usual_modules_are_assumed(host, gpu):
    host.remove("/lib/modules/6.8.0-60-generic/modules.alias")
    assert "nouveau" in boot_of(host).candidates(gpu())


IDS = "options vfio-pci ids=10de:11bf,10de:0fbb disable_vga=1"


@pytest.mark.parametrize(
    ("files", "grabbers"),
    [
        ({}, ("nouveau", "nvidia")),
        ({"/etc/modprobe.d/a.conf": "blacklist nouveau"}, ("nvidia",)),
        (
            {
                "/etc/modprobe.d/a.conf": "blacklist nouveau\n"
                "install nvidia /bin/false\n"
            },
            (),
        ),
        ({"/etc/modprobe.d/a.conf": IDS}, ("nouveau", "nvidia")),
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\n"
                "softdep nouveau pre: vfio-pci\n"
                "softdep nvidia pre: vfio vfio-pci post: x\n"
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\n"
                "softdep nouveau post: vfio-pci\n"
                "softdep nvidia pre: vfio-pci\n"
            },
            ("nouveau",),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/initramfs-tools/modules": "vfio_pci\n",
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/dracut.conf.d/v.conf": 'force_drivers+=" vfio-pci "',
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/dracut.conf.d/v.conf": 'add_drivers+=" vfio-pci "',
            },
            ("nouveau", "nvidia"),
        ),
        (
            {"/proc/cmdline": "vfio-pci.ids=10de:11bf rd.driver.pre=vfio-pci"},
            (),
        ),
        (
            {"/proc/cmdline": "modprobe.blacklist=nouveau,nvidia"},
            (),
        ),
        ({"/etc/driverctl.d/pci-0000:85:00.0": "vfio-pci"}, ()),
        (
            {
                "/etc/udev/rules.d/70-vfio.rules": 'KERNEL=="0000:85:00.0",'
                ' ATTR{driver_override}="vfio-pci"'
            },
            (),
        ),
        (
            {
                "/etc/udev/rules.d/70-vfio.rules": 'SUBSYSTEM=="pci",'
                ' ATTR{[pci/0000:85:00.0]driver_override}="vfio-pci"'
            },
            (),
        ),
        (
            {
                "/etc/udev/rules.d/70-vfio.rules": 'ATTR{vendor}=="0x10de",'
                ' ATTR{device}=="0x11bf", ATTR{driver_override}="vfio-pci"'
            },
            (),
        ),
        (
            {
                "/etc/udev/rules.d/70-vfio.rules": '# KERNEL=="0000:85:00.0",'
                ' ATTR{driver_override}="vfio-pci"'
            },
            ("nouveau", "nvidia"),
        ),
        (
            {"/etc/modprobe.d/a.conf": "# blacklist nouveau"},
            ("nouveau", "nvidia"),
        ),
        (
            {"/etc/modprobe.d/a.txt": "blacklist nouveau"},
            ("nouveau", "nvidia"),
        ),
        (
            {
                "/usr/lib/modprobe.d/a.conf": "blacklist nouveau",
                "/etc/modprobe.d/a.conf": "blacklist other",
            },
            ("nouveau", "nvidia"),
        ),
        (
            {"/etc/modprobe.d/a.conf": "options vfio-pci \\\n ids=10de:11bf"},
            ("nouveau", "nvidia"),
        ),
    ],
)
def test_who_takes_the_device_at_boot_follows_from_the_settings(
    host, gpu, files, grabbers
):
    for path, content in files.items():
        host.write(path, content)
    assert boot_of(host).grabbers(gpu()) == grabbers


def test_ids_are_read_with_their_source(host):
    host.write("/etc/modprobe.d/a.conf", IDS)
    ids = boot_of(host).vfio_ids
    assert set(ids) == {(0x10DE, 0x11BF), (0x10DE, 0x0FBB)}
    assert str(ids[0x10DE, 0x11BF]) == f"/etc/modprobe.d/a.conf: {IDS}"


@pytest.mark.parametrize(
    ("image_age", "settings", "is_stale"),
    [
        (100, "blacklist nouveau", True),
        (0, "blacklist nouveau", False),
        (100, "options kvm nested=1", False),
    ],
)
def test_an_initramfs_older_than_the_settings_is_stale(
    host, image_age, settings, is_stale
):
    host.write("/etc/modprobe.d/a.conf", settings)
    image = "/boot/initrd.img-6.8.0-60-generic"
    host.write(image, b"")
    changed = host.path("/etc/modprobe.d/a.conf").stat().st_mtime
    os.utime(host.path(image), (changed - image_age, changed - image_age))
    assert (boot_of(host).stale_initramfs is not None) == is_stale
