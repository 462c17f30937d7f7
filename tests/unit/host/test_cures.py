# SPDX-License-Identifier: Apache-2.0

"""Cures of boot settings, typed on the files of a host."""

import contextlib
import io
import json
import re
import shlex
import subprocess

import pytest

from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests.sysfs_trees import Host
from tests.sysfs_trees import Pci

VFIO_KO = "kernel/drivers/vfio/pci/vfio-pci.ko\n"
RELEASE = "/lib/modules/6.8.0-60-generic"
FIRST, SECOND, NIC = "0000:41:00.0", "0000:42:00.0", "0000:43:00.0"


@pytest.fixture
def host(tmp_path):
    """Two cards of several functions and a NIC, all on vfio-pci now."""
    host = Host(tmp_path / "host")
    host.nodes(1)
    host.iommu()
    for group, bus in enumerate(("41", "42")):
        for number, ids, code, driver in (
            (0, "10de:1e07", 0x030000, "vfio-pci"),
            (1, "10de:10f7", 0x040300, "vfio-pci"),
            (2, "10de:1ad6", 0x0C0330, "vfio-pci"),
        ):
            host.add(
                Pci(
                    f"0000:{bus}:00.{number}",
                    "pci0000:40",
                    ids,
                    code,
                    group=group,
                    driver=driver,
                    bars=(1 << 24,),
                )
            )
    host.add(
        Pci(
            NIC,
            "pci0000:40",
            "15b3:1021",
            0x020700,
            group=9,
            driver="vfio-pci",
            bars=(1 << 24,),
        )
    )
    host.write("/etc/default/grub", 'GRUB_CMDLINE_LINUX=""')
    host.write("/usr/sbin/update-grub", "")
    return host


def check(host, asked=()):
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    only = tuple(map(PciAddress.parse, asked))
    context = Context(files, inventory, only)
    return [
        one
        for one in readiness.check(context)
        if one.severity in (Severity.ERROR, Severity.WARNING)
    ]


def ask(host, command):
    """Run ``nova-gpu-host ...`` on the files of the host."""
    words = shlex.split(command)
    assert words[0] == "nova-gpu-host"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = app.main([*words[1:], "--sysfs-root", str(host.root)])
    assert code == 0
    return output.getvalue()


def type_command(host, command):
    """Do what a cure says, on the files of the host."""
    line, _, path = command.partition(" > ")
    if " >> " in command:
        line, _, path = command.partition(" >> ")
        with host.path(path).open("a") as file:
            file.write(shlex.split(line)[1] + "\n")
    elif path:
        host.write(
            path,
            shlex.split(line)[1]
            if line.startswith("echo ")
            else ask(host, line),
        )
    elif command.startswith("sed -i"):
        command = re.sub(
            r"\$\((.*?)\)", lambda found: ask(host, found[1]).strip(), command
        )
        *words, path = shlex.split(command)
        before = host.path(path).read_text()
        subprocess.run([*words, str(host.path(path))], check=True)
        assert host.path(path).read_text() != before
    elif command.startswith("mkdir -p "):
        host.mkdir(command.split()[-1])
    elif command.startswith("driverctl set-override"):
        _, _, address, driver = command.split()
        host.write(f"/etc/driverctl.d/pci-{address}", driver)
    elif command == "reboot":
        grub = host.path("/etc/default/grub").read_text()
        line = re.search('^GRUB_CMDLINE_LINUX="(.*)"', grub, re.M)[1]
        host.write("/proc/cmdline", f"root=/dev/sda1 {line}")
    else:
        assert command in (
            "update-grub",
            "update-initramfs -u -k all",
            "mkinitcpio -P",
            "dracut -f --regenerate-all",
        ) or command.startswith("#")


SETUPS = {
    "modprobe.d": {},
    "initramfs-tools": {"/etc/initramfs-tools/initramfs.conf": "MODULES=most"},
    "vfio-pci built in": {f"{RELEASE}/modules.builtin": VFIO_KO},
    "xhci built in": {
        f"{RELEASE}/modules.builtin": "kernel/drivers/usb/host/xhci-pci.ko\n"
    },
    "both built in, xhci later": {
        f"{RELEASE}/modules.builtin": VFIO_KO
        + "kernel/drivers/usb/host/xhci-pci.ko\n"
    },
    "mkinitcpio without modconf": {
        "/etc/mkinitcpio.conf": "MODULES=(vfio_pci)\nHOOKS=(base udev)\n"
    },
    **{
        f"{path} {content}": {path: content}
        for path, content in (
            ("/etc/initramfs-tools/modules", "nouveau\n"),
            ("/etc/dracut.conf", 'force_drivers+=" nouveau "\n'),
            ("/etc/dracut.conf.d/n.conf", 'force_drivers+=" nouveau "\n'),
            ("/etc/mkinitcpio.conf", "MODULES=(nouveau)\nHOOKS=(modconf)\n"),
            ("/etc/mkinitcpio.conf", 'MODULES="nouveau"\nHOOKS="base"\n'),
            ("/etc/mkinitcpio.conf", "HOOKS=(base udev modconf kms)\n"),
            ("/etc/modules-load.d/n.conf", "nouveau\n"),
            (
                "/usr/lib/dracut/dracut.conf.d/n.conf",
                'force_drivers+=" nouveau "\n',
            ),
        )
    },
    # The last file that sets an array counts.
    "arrays of mkinitcpio in a directory": {
        "/etc/mkinitcpio.conf": "MODULES=()\nHOOKS=(base modconf)\n",
        "/etc/mkinitcpio.conf.d/n.conf": "MODULES=(nouveau)\nHOOKS=(base)\n",
    },
    "modules that are added": {
        "/etc/mkinitcpio.conf": "MODULES+=(nouveau)\nHOOKS=(modconf)\n",
    },
    "udev and an early driver": {
        "/etc/udev/rules.d/7.rules": 'SUBSYSTEM=="pci", ATTR{vendor}=='
        '"0x10de", ATTR{driver_override}="vfio-pci"',
        "/etc/dracut.conf.d/n.conf": 'force_drivers+=" nouveau "\n',
    },
    "an early driver that is blacklisted": {
        "/etc/modprobe.d/b.conf": "blacklist nouveau",
        "/etc/initramfs-tools/modules": "nouveau\n",
    },
    "ids of others in modprobe.d": {
        "/etc/modprobe.d/vfio.conf": "options vfio-pci ids=144d:a80a",
    },
    "ids of others on the command line": {
        "/proc/cmdline": "intel_iommu=on iommu=pt vfio-pci.ids=144d:a80a",
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="vfio-pci.ids=144d:a80a"',
    },
    "ids twice": {
        "/etc/modprobe.d/a.conf": "options vfio-pci ids=10de:1e07,10de:10f7",
        "/etc/modprobe.d/z.conf": "options vfio-pci ids=144d:a80a",
    },
    "the console is on one": {
        f"/sys/bus/pci/devices/{FIRST}/boot_vga": "1",
    },
}


@pytest.mark.parametrize("asked", [(), (SECOND,), (FIRST, SECOND)])
@pytest.mark.parametrize("setup", SETUPS)
def test_cures_of_boot_settings_lead_to_ready(host, setup, asked):
    for path, content in SETUPS[setup].items():
        host.write(path, content)
    found = [one for one in check(host, asked) if one.check == "boot"]
    assert found
    for one in found:
        assert one.cures
        for command in one.cures:
            if "nova-gpu-host config" in command:
                assert all(f"--device {each}" in command for each in asked)
    for command in dict.fromkeys(
        command for one in found for command in one.cures
    ):
        type_command(host, command)
    assert [one for one in check(host, asked) if one.check == "boot"] == []


def test_a_cure_for_one_device_leaves_the_others_as_they_are(host):
    ids = "options vfio-pci ids=10de:1e07,10de:10f7,10de:1ad6"
    softdeps = (
        f"softdep {one} pre: vfio-pci\n"
        for one in ("nouveau", "nvidia", "nvidiafb", "snd_hda_intel")
    )
    host.write(
        "/etc/modprobe.d/nova-gpu-host.conf", f"{ids}\n{''.join(softdeps)}"
    )
    # xhci_pci may come first, on both cards.
    for asked in (FIRST, SECOND):
        for one in check(host, (asked,)):
            for command in one.cures if one.check == "boot" else ():
                type_command(host, command)
    assert [one for one in check(host) if one.check == "boot"] == []


def test_commands_repeat_what_was_asked(host, capsys):
    root = str(host.root)
    code = app.main(
        ["check", "--sysfs-root", root, "--device", SECOND, "-f", "json"]
    )
    assert code == 1
    commands = [
        command
        for row in json.loads(capsys.readouterr().out)
        for command in row["Cure"]
        if command.startswith("nova-gpu-host config")
    ]
    assert commands
    for command in commands:
        assert command.startswith(
            f"nova-gpu-host config --sysfs-root {root} --device {SECOND} --"
        )


def test_commands_about_a_nova_conf_repeat_the_host_too(
    host, tmp_path, capsys
):
    root, conf = str(host.root), tmp_path / "nova.conf"
    conf.write_text("[pci]\nreport_in_placement = true\n")
    host.write("/sys/module/kvm_amd/parameters/sev_snp", "Y")
    # A GPU that can be confidential.
    host.write(f"/sys/bus/pci/devices/{FIRST}/device", "0x2330")
    app.main(
        [
            *("check", "--sysfs-root", root, "-f", "json"),
            *("--nova-conf", str(conf)),
        ]
    )
    cures = {
        row["Finding"]: row["Cure"]
        for row in json.loads(capsys.readouterr().out)
    }
    (not_set,) = (one for one in cures if "device_spec is not set" in one)
    assert cures[not_set] == [f"nova-gpu-host config --sysfs-root {root}"]
    (modes,) = (one for one in cures if "encrypted memory" in one)
    assert cures[modes][1] == (
        f"nova-gpu-host check --sysfs-root {root} --nova-conf {conf}"
        " --nvidia-cc cc-mode.txt"
    )


def test_a_console_that_is_the_only_gpu_is_named_in_its_cure(host):
    for address in (FIRST, SECOND):
        host.write(f"/sys/bus/pci/devices/{address}/boot_vga", 1)
    found = [one for one in check(host) if one.check == "boot"]
    assert found
    for one in found:
        for command in one.cures:
            type_command(host, command)
    assert {one.check for one in check(host)} == {"console"}
