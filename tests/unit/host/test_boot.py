# SPDX-License-Identifier: Apache-2.0

import os

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.host.boot import driver_overrides
from nova_gpu_filter.host.boot import kernel
from nova_gpu_filter.host.boot import outcome
from nova_gpu_filter.host.sysfs import tree
from tests import captures
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
    return outcome.Boot(tree.Tree(str(host.root)))


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
    assert kernel.split(text) == pairs


@given(st.text())
def test_any_command_line_is_split(text):
    for key, _ in kernel.split(text):
        assert "-" not in key


def test_modules_that_claim_a_device_are_those_of_its_alias(host, gpu):
    assert boot_of(host).list_candidates(gpu()) == ("nouveau", "nvidia")


def test_without_aliases_the_usual_modules_are_assumed(host, gpu):
    host.remove("/lib/modules/6.8.0-60-generic/modules.alias")
    assert "nouveau" in boot_of(host).list_candidates(gpu())


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
    assert boot_of(host).list_grabbers(gpu()) == grabbers


MKINITCPIO = "/etc/mkinitcpio.conf"
BUILTIN = "/lib/modules/6.8.0-60-generic/modules.builtin"
VFIO_KO = "kernel/drivers/vfio/pci/vfio-pci.ko"
BEFORE = "softdep nouveau pre: vfio-pci\nsoftdep nvidia pre: vfio-pci\n"
CMDLINE = "vfio-pci.ids=10de:11bf"
BOTH = ("nouveau", "nvidia")
UNIT = "/etc/systemd/system/gpu.service"
WANTS = "/etc/systemd/system/multi-user.target.wants/gpu.service"
RUN = "[Service]\nExecStart=/usr/local/sbin/bind-gpu\n"
BIND = (
    "echo vfio-pci > /sys/bus/pci/devices/0000:85:00.0/driver_override\n"
    "echo 0000:85:00.0 > /sys/bus/pci/devices/0000:85:00.0/driver/unbind\n"
)
OVERRIDE = BIND.splitlines()[0]


@pytest.mark.parametrize(
    ("files", "grabbers"),
    [
        # vfio-pci is built in: modprobe.d is nothing to it.
        (
            {BUILTIN: VFIO_KO, "/etc/modprobe.d/a.conf": f"{IDS}\n{BEFORE}"},
            BOTH,
        ),
        ({BUILTIN: VFIO_KO, "/proc/cmdline": CMDLINE}, ()),
        ({BUILTIN: VFIO_KO, "/proc/cmdline": "vfio_pci.ids=10de:11bf"}, ()),
        ({BUILTIN: VFIO_KO, "/proc/cmdline": "vfio-pci.ids=10de:11be"}, BOTH),
        (
            {
                BUILTIN: VFIO_KO,
                "/etc/modprobe.d/a.conf": "blacklist nouveau\n"
                "blacklist nvidia\n",
            },
            (),
        ),
        # The other driver is built in, too: the order of linking decides.
        (
            {
                BUILTIN: f"kernel/drivers/gpu/drm/nouveau.ko\n{VFIO_KO}",
                "/proc/cmdline": CMDLINE,
            },
            ("nouveau",),
        ),
        (
            {
                BUILTIN: f"{VFIO_KO}\nkernel/drivers/gpu/drm/nouveau.ko",
                "/proc/cmdline": CMDLINE,
            },
            (),
        ),
        # Only the other one is: no setting of modprobe or udev is in time.
        (
            {
                BUILTIN: "kernel/drivers/gpu/drm/nouveau.ko",
                "/etc/modprobe.d/a.conf": f"{IDS}\n{BEFORE}blacklist nouveau",
            },
            ("nouveau",),
        ),
        (
            {
                BUILTIN: "kernel/drivers/gpu/drm/nouveau.ko",
                "/etc/udev/rules.d/7.rules": 'KERNEL=="0000:85:00.0",'
                ' ATTR{driver_override}="vfio-pci"',
            },
            ("nouveau",),
        ),
        (
            {
                BUILTIN: "kernel/drivers/gpu/drm/nouveau.ko",
                "/etc/driverctl.d/pci-0000:85:00.0": "vfio-pci",
            },
            (),
        ),
        # On the command line of a module: the order is still open.
        ({"/proc/cmdline": CMDLINE}, BOTH),
        ({"/proc/cmdline": CMDLINE, "/etc/modprobe.d/a.conf": BEFORE}, ()),
        # rd.driver.pre is dracut's.
        (
            {
                "/proc/cmdline": f"{CMDLINE} rd.driver.pre=vfio-pci",
                "/etc/initramfs-tools/initramfs.conf": "MODULES=most",
            },
            BOTH,
        ),
        (
            {
                "/proc/cmdline": f"{CMDLINE} rd.driver.pre=vfio-pci",
                "/etc/dracut.conf": "",
            },
            (),
        ),
        # Class masks, as guides have them.
        *(
            (
                {
                    "/etc/modprobe.d/a.conf": f"options vfio-pci ids={ids}\n"
                    + BEFORE
                },
                grabbers,
            )
            for ids, grabbers in (
                ("10de:ffffffff:ffffffff:ffffffff:00030000:ffff00ff", ()),
                ("10de:ffffffff:ffffffff:ffffffff:00040300:ffffffff", BOTH),
                ("10de:11bf:10de:ffffffff", BOTH),
                ("10de:11bf:0000:0000", ()),
                ("ffffffff:ffffffff", ()),
                ("10de", BOTH),
                ("10de:11bf:x", BOTH),
            )
        ),
        # Files of what makes the initramfs.
        (
            {
                "/etc/initramfs-tools/modules": "nouveau\n"
                "vfio_pci ids=10de:11bf"
            },
            ("nouveau",),
        ),
        ({"/etc/initramfs-tools/modules": "vfio-pci ids=10de:11bf"}, ()),
        ({"/etc/initramfs-tools/modules": "# vfio-pci ids=10de:11bf"}, BOTH),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/dracut.conf.d/v.txt": 'force_drivers+=" vfio-pci "',
            },
            BOTH,
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/dracut.conf.d/v.conf": 'force_drivers+=" nouveau'
                ' vfio-pci "',
            },
            ("nouveau",),
        ),
        # The lists of all files are one, by the names of the files.
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/usr/lib/dracut/dracut.conf.d/a.conf": "force_drivers+="
                '" nouveau "',
                "/etc/dracut.conf.d/v.conf": 'force_drivers+=" vfio-pci "',
            },
            ("nouveau",),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/dracut.conf.d/a.conf": 'force_drivers+=" vfio-pci "',
                "/etc/dracut.conf.d/n.conf": 'force_drivers+=" nouveau "',
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/mkinitcpio.conf": "MODULES=(vfio_pci vfio nouveau)\n"
                "HOOKS=(base udev modconf kms)",
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/mkinitcpio.conf": "MODULES=(nouveau vfio_pci)",
            },
            ("nouveau",),
        ),
        # Without the hook modconf, vfio-pci does not know the ids.
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\n{BEFORE}",
                "/etc/mkinitcpio.conf": "MODULES=(vfio_pci)\n"
                "HOOKS=(base udev block)",
            },
            BOTH,
        ),
        (
            {
                "/proc/cmdline": CMDLINE,
                "/etc/mkinitcpio.conf": "MODULES=(vfio_pci)\n"
                "HOOKS=(base udev block)",
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/mkinitcpio.conf": "MODULES=()\nHOOKS=(modconf)",
                "/etc/mkinitcpio.conf.d/v.conf": "MODULES+=(vfio_pci)",
            },
            (),
        ),
        ({"/etc/modprobe.d/a.conf": IDS, "/etc/mkinitcpio.conf": "#"}, BOTH),
        # What the initramfs loads by name, before udev. A softdep helps where
        # vfio-pci gets into the image by it.
        *(
            (
                {
                    "/etc/modprobe.d/a.conf": f"{IDS}\n{BEFORE}",
                    path: content,
                },
                grabbers,
            )
            for path, content, grabbers in (
                ("/etc/initramfs-tools/modules", "nvidia\nnouveau", ()),
                ("/etc/dracut.conf", "force_drivers+=' nouveau '", ()),
                (MKINITCPIO, "MODULES=(nouveau)", ("nouveau",)),
                (MKINITCPIO, "MODULES=(nvidia nouveau)", BOTH),
                (MKINITCPIO, "MODULES=(nouveau vfio_pci)", ()),
                (
                    MKINITCPIO,
                    "MODULES=(nouveau vfio_pci)\nHOOKS=(base udev)",
                    BOTH,
                ),
                (MKINITCPIO, "MODULES=(vfio_pci nouveau)", ()),
                (MKINITCPIO, "HOOKS=(base udev modconf kms)", ("nouveau",)),
                (MKINITCPIO, "HOOKS=(base udev modconf)", ()),
                (
                    MKINITCPIO,
                    "MODULES=(vfio_pci)\nHOOKS=(base modconf kms)",
                    (),
                ),
            )
        ),
        # A blacklist is for aliases: mkinitcpio alone minds it for names.
        *(
            (
                {
                    "/etc/modprobe.d/a.conf": f"{IDS}\nblacklist nvidia\n"
                    f"{kept_off}",
                    path: content,
                },
                grabbers,
            )
            for kept_off, path, content, grabbers in (
                (
                    "blacklist nouveau",
                    "/etc/initramfs-tools/modules",
                    "nouveau",
                    ("nouveau",),
                ),
                (
                    "blacklist nouveau",
                    "/etc/dracut.conf.d/n.conf",
                    'force_drivers+=" nouveau "',
                    ("nouveau",),
                ),
                (
                    "install nouveau /bin/false",
                    "/etc/dracut.conf.d/n.conf",
                    'force_drivers+=" nouveau "',
                    (),
                ),
                ("blacklist nouveau", MKINITCPIO, "MODULES=(nouveau)", ()),
                (
                    "blacklist nouveau",
                    MKINITCPIO,
                    "MODULES=(nouveau)\nHOOKS=(base udev)",
                    ("nouveau",),
                ),
                (
                    "blacklist nouveau",
                    MKINITCPIO,
                    "HOOKS=(base udev modconf kms)",
                    (),
                ),
            )
        ),
        # rd.driver.pre comes after force_drivers.
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/proc/cmdline": "rd.driver.pre=vfio-pci",
                "/etc/dracut.conf.d/n.conf": 'force_drivers+=" nouveau "',
            },
            ("nouveau",),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/proc/cmdline": "rd.driver.pre=nouveau,vfio-pci",
                "/etc/dracut.conf": "",
            },
            ("nouveau",),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\nblacklist nouveau\n"
                "blacklist nvidia",
                "/proc/cmdline": "rd.driver.pre=nouveau module_blacklist="
                "nouveau",
                "/etc/dracut.conf": "",
            },
            (),
        ),
        # A rule of udev is too late for what is loaded by name.
        *(
            (
                {
                    "/etc/udev/rules.d/7.rules": 'KERNEL=="0000:85:00.0",'
                    ' ATTR{driver_override}="vfio-pci"',
                    path: content,
                },
                grabbers,
            )
            for path, content, grabbers in (
                ("/etc/initramfs-tools/modules", "nouveau", ("nouveau",)),
                (
                    "/etc/dracut.conf.d/n.conf",
                    'force_drivers+=" nouveau "',
                    ("nouveau",),
                ),
                (MKINITCPIO, "MODULES=(nouveau)", ("nouveau",)),
                (MKINITCPIO, "HOOKS=(base udev kms)", ("nouveau",)),
                ("/etc/modules-load.d/n.conf", "nouveau", ("nouveau",)),
                ("/etc/modules-load.d/n.conf", "# nouveau", ()),
                (MKINITCPIO, "MODULES=(vfio_pci vfio)", ()),
            )
        ),
        (
            {
                "/etc/driverctl.d/pci-0000:85:00.0": "vfio-pci",
                "/etc/initramfs-tools/modules": "nouveau",
            },
            (),
        ),
        # An alias of one's own is in the place of all others.
        *(
            ({"/etc/modprobe.d/a.conf": f"{IDS}\n{alias}"}, grabbers)
            for alias, grabbers in (
                ("alias pci:v000010DEd000011BFsv*sd*bc*sc*i* vfio-pci", ()),
                ("alias pci:v000010DEd*sv*sd*bc03sc*i* vfio_pci", ()),
                ("alias pci:v000010DEd000011C0sv*sd*bc*sc*i* vfio-pci", BOTH),
                (
                    "alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau",
                    ("nouveau",),
                ),
            )
        ),
        # A softdep in other words.
        *(
            (
                {
                    "/etc/modprobe.d/a.conf": f"{IDS}\n"
                    "blacklist nvidia\n"
                    f"install nouveau {command}"
                },
                grabbers,
            )
            for command, grabbers in (
                (
                    "/sbin/modprobe vfio-pci; /sbin/modprobe --ignore-install"
                    " nouveau",
                    (),
                ),
                ("modprobe -q vfio_pci && modprobe -i nouveau", ()),
                ("modprobe -i nouveau; modprobe vfio-pci", ("nouveau",)),
            )
        ),
        # At the end of booting.
        *(
            ({path: text}, grabbers)
            for path, text, grabbers in (
                ("/etc/rc.local", f"#!/bin/sh\n{BIND}", ()),
                ("/etc/rc.d/rc.local", f"#!/bin/sh\n{BIND}", ()),
                ("/etc/rc.local", f"#!/bin/sh\n{OVERRIDE}", BOTH),
                ("/etc/rc.local", "#!/bin/sh\n# unbind\nexit 0", BOTH),
                # It may not be run.
                ("/etc/rc.local", f"# mode 0644\n{BIND}", BOTH),
            )
        ),
        # What is built in is there, whatever aliases say.
        *(
            (
                {
                    "/etc/modprobe.d/a.conf": f"{IDS}\n"
                    f"alias pci:v000010DEd* {target}",
                    BUILTIN: "kernel/drivers/gpu/drm/nouveau/nouveau.ko",
                },
                ("nouveau",),
            )
            for target in ("vfio-pci", "off")
        ),
        ({"/etc/modprobe.d/a.conf": "alias pci:v000010DEd* off"}, ()),
        # A comment is none of the modules and hooks.
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/mkinitcpio.conf": "MODULES=(\n # vfio_pci\n nouveau)\n"
                "HOOKS=(modconf)",
            },
            BOTH,
        ),
        (
            {
                "/etc/modprobe.d/a.conf": IDS,
                "/etc/mkinitcpio.conf": "MODULES=(vfio_pci)\n"
                "HOOKS=(base # modconf\n)",
            },
            BOTH,
        ),
        # What all drivers of displays depend on.
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\nblacklist nvidia\n"
                "softdep drm pre: vfio-pci"
            },
            (),
        ),
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\nblacklist nvidia\n"
                "softdep drm pre: vfio-pci",
                BUILTIN: "kernel/drivers/gpu/drm/drm.ko",
            },
            ("nouveau",),
        ),
        # pci-stub, which libvirt takes a device from.
        (
            {
                "/proc/cmdline": "pci-stub.ids=10de:11bf",
                BUILTIN: "kernel/drivers/pci/pci-stub.ko\n",
            },
            (),
        ),
        (
            {
                "/proc/cmdline": "pci-stub.ids=10de:1180",
                BUILTIN: "kernel/drivers/pci/pci-stub.ko\n",
            },
            BOTH,
        ),
        # As a module, nothing loads it.
        ({"/proc/cmdline": "pci-stub.ids=10de:11bf", BUILTIN: ""}, BOTH),
        # Programs and units.
        ({"/etc/initramfs-tools/scripts/init-top/vfio": OVERRIDE}, ()),
        (
            {"/etc/initramfs-tools/scripts/init-top/vfio": f"# {OVERRIDE}"},
            BOTH,
        ),
        ({UNIT: RUN, WANTS: "", "/usr/local/sbin/bind-gpu": BIND}, ()),
        ({UNIT: RUN, "/usr/local/sbin/bind-gpu": BIND}, BOTH),
        # It comes after the driver, and does not take the device from it.
        ({UNIT: RUN, WANTS: "", "/usr/local/sbin/bind-gpu": OVERRIDE}, BOTH),
        (
            {
                UNIT: f"[Unit]\nBefore=systemd-udev-trigger.service\n{RUN}",
                WANTS: "",
                "/usr/local/sbin/bind-gpu": OVERRIDE,
            },
            (),
        ),
        (
            {
                UNIT: "[Service]\nExecStart=/usr/sbin/driverctl set-override"
                " 0000:85:00.0 vfio-pci\n",
                WANTS: "",
            },
            (),
        ),
        (
            {
                UNIT: RUN,
                WANTS: "",
                "/usr/local/sbin/bind-gpu": BIND.replace("85", "86"),
            },
            BOTH,
        ),
        # Rules by class.
        (
            {
                "/etc/udev/rules.d/7.rules": 'ATTR{vendor}=="0x10de",'
                ' ATTR{class}=="0x03*", ATTR{driver_override}="vfio-pci"'
            },
            (),
        ),
        (
            {
                "/etc/udev/rules.d/7.rules": 'ATTR{vendor}=="0x10de",'
                ' ATTR{class}=="0x0403*", ATTR{driver_override}="vfio-pci"'
            },
            BOTH,
        ),
        # Drivers that are switched off.
        ({"/proc/cmdline": "nouveau.modeset=0"}, ("nvidia",)),
        ({"/proc/cmdline": "nomodeset"}, ("nvidia",)),
        ({"/etc/modprobe.d/a.conf": "options nouveau modeset=0"}, ("nvidia",)),
        ({"/etc/modprobe.d/a.conf": "options nouveau modeset=1"}, BOTH),
    ],
)
def test_what_works_is_told_from_what_does_nothing(
    host, gpu, files, grabbers, tmp_path_factory
):
    for path, content in files.items():
        host.write(path, content)
        if path in driver_overrides.RC_LOCAL and "0644" not in content:
            host.path(path).chmod(0o755)
    assert boot_of(host).list_grabbers(gpu()) == grabbers
    place = tmp_path_factory.mktemp("capture")
    top = captures.take(host.root, place)
    assert outcome.Boot(tree.Tree(str(top))).list_grabbers(gpu()) == grabbers


def test_ids_are_read_with_their_source(host):
    host.write("/etc/modprobe.d/a.conf", IDS)
    settings = boot_of(host).id_settings
    assert [setting.ids for setting in settings] == [
        (
            kernel.VfioId(0x10DE, 0x11BF),
            kernel.VfioId(0x10DE, 0x0FBB),
        )
    ]
    assert str(settings[0].evidence) == f"/etc/modprobe.d/a.conf: {IDS}"


OTHERS = "options vfio-pci ids=144d:a80a"
AFTER = "softdep nouveau pre: vfio-pci\n"


@pytest.mark.parametrize(
    ("files", "is_bound"),
    [
        ({"/etc/modprobe.d/a.conf": f"{OTHERS}\n{IDS}\n{AFTER}"}, True),
        ({"/etc/modprobe.d/a.conf": f"{IDS}\n{OTHERS}\n{AFTER}"}, False),
        # By the names of files, whichever directory they are in.
        (
            {
                "/etc/modprobe.d/b.conf": f"{IDS}\n{AFTER}",
                "/usr/lib/modprobe.d/a.conf": OTHERS,
            },
            True,
        ),
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\n{AFTER}",
                "/usr/lib/modprobe.d/b.conf": OTHERS,
            },
            False,
        ),
        # The command line comes after them.
        (
            {
                "/etc/modprobe.d/a.conf": f"{OTHERS}\n{AFTER}",
                "/proc/cmdline": "vfio-pci.ids=10de:11bf",
            },
            True,
        ),
        (
            {
                "/etc/modprobe.d/a.conf": f"{IDS}\n{AFTER}",
                "/proc/cmdline": "vfio_pci.ids=144d:a80a",
            },
            False,
        ),
        (
            {
                "/etc/modprobe.d/a.conf": AFTER,
                "/proc/cmdline": "vfio-pci.ids=10de:11bf vfio-pci.ids=1:2",
            },
            False,
        ),
    ],
)
def test_the_last_ids_count(host, gpu, files, is_bound):
    for path, content in files.items():
        host.write(path, content)
    boot = boot_of(host)
    assert ("nouveau" not in boot.list_grabbers(gpu())) is is_bound
    assert (boot.find_vfio_setting(gpu()) is not None) is is_bound
    if not is_bound:
        text = boot.explain(gpu(), ("nouveau",))
        assert "given ids more than once" in text


PROGRAM = "/usr/local/sbin/vfio-pci-override.sh"
LOOP = (
    "for i in /sys/bus/pci/devices/*/boot_vga; do\n"
    'if [ $(cat "$i") -eq 0 ]; then\n'
    'echo vfio-pci > "${i%/boot_vga}/driver_override"\nfi\ndone\n'
    "modprobe -i vfio-pci\n"
)


@pytest.mark.parametrize(
    ("text", "conf", "is_bound"),
    [
        (LOOP, f"install vfio-pci {PROGRAM}\n{AFTER}", True),
        (LOOP, f"install vfio_pci {PROGRAM}\n{AFTER}", True),
        # Nothing loads vfio-pci before nouveau.
        (LOOP, f"install vfio-pci {PROGRAM}\n", False),
        (LOOP, AFTER, False),
        ("modprobe -i vfio-pci\n", f"install vfio-pci {PROGRAM}\n", False),
    ],
)
def test_a_program_in_the_place_of_vfio_pci_binds(
    host, gpu, text, conf, is_bound
):
    host.write(PROGRAM, text)
    host.write("/etc/modprobe.d/a.conf", conf)
    found = boot_of(host).list_grabbers(gpu())
    assert ("nouveau" not in found) is is_bound


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
