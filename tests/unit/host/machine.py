# SPDX-License-Identifier: Apache-2.0

"""A machine on which the cures of findings are typed.

What the kernel and the programs would do to the files of a host is here; sed
and nova-gpu-host are the real ones.
"""

import contextlib
import io
import re
import shlex
import subprocess

from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.nova_rules import pci_options

DEVICES = "/sys/bus/pci/devices"
LOADERS = {
    "grub": {
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
        'GRUB_CMDLINE_LINUX="{}"\n',
        "/usr/sbin/update-grub": "",
    },
    "kernel-install": {"/etc/kernel/cmdline": "root=/dev/sda1 {}\n"},
    "proxmox": {
        "/etc/kernel/cmdline": "root=ZFS=rpool/ROOT {}\n",
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="{}"\n',
        "/usr/sbin/proxmox-boot-tool": "",
    },
    "grubby": {"/usr/sbin/grubby": "{}"},
    "rpm-ostree": {"/run/ostree-booted": "{}"},
}
WHERE = {
    "grub": "/etc/default/grub",
    "kernel-install": "/etc/kernel/cmdline",
    "proxmox": "/etc/kernel/cmdline",
    "grubby": "/usr/sbin/grubby",
    "rpm-ostree": "/run/ostree-booted",
}


class Machine:
    """A host, and what happens to its files when commands are typed."""

    def __init__(self, host, loader="grub", arguments=""):
        self.host = host
        self.loader = loader
        for path, text in LOADERS[loader].items():
            host.write(path, text.format(arguments))
        for place in ("modprobe.d", "modules-load.d", "udev/rules.d"):
            host.mkdir(f"/etc/{place}")
        self.at_boot = lambda arguments: None
        self.programs = {}
        self.at_rescan = lambda: None
        host.write("/proc/cmdline", f"root=/dev/sda1 {arguments}")

    def type(self, command):
        """Do what a command does."""
        words = shlex.split(command, comments=True)
        if not words:
            return
        if words[:2] == ["sed", "-i"]:
            subprocess.run(
                ["sed", *words[1:-1], str(self.host.path(words[-1]))],
                check=True,
            )
        elif words[0] == "grubby":
            self._change(words[2].partition("=")[2], words[2])
        elif words[0] == "rpm-ostree":
            for word in words[2:]:
                self._change(word.partition("=")[2], word)
        elif words[0] == "echo":
            self._write(*(words[1:2] if len(words) > 3 else [""]), words[-1])
        elif words[0] == "nova-gpu-host":
            self._ask(words[1:])
        elif words[0] == "driverctl":
            self._set_override(words[1], words[2], *words[3:])
        elif words[0] in self.programs:
            self.programs[words[0]](words)
        elif words == ["reboot"]:
            self._boot()
        else:
            assert words[0] in (
                *("update-grub", "proxmox-boot-tool", "kernel-install"),
                *("systemctl", "modprobe", "cat", "grep"),
                *("update-initramfs", "dracut", "mkinitcpio"),
            )

    def _change(self, arguments, option):
        path = WHERE[self.loader]
        text = self.host.path(path).read_text().strip()
        if "remove" in option or "delete" in option:
            text = " ".join(w for w in text.split() if w != arguments)
        else:
            text += f" {arguments}"
        self.host.write(path, text)

    def _write(self, value, path):
        if path == "/sys/bus/pci/rescan":
            self.at_rescan()
        elif path.endswith("/remove"):
            self.host.path(path.removesuffix("/remove")).unlink()
        elif path.endswith(("/bind", "/unbind", "drivers_probe")):
            self._bind(path, value)
        else:
            # The shell does not make directories.
            assert self.host.path(path).parent.is_dir(), path
            self.host.write(path, value)

    def _bind(self, path, address):
        link = self.host.path(f"{DEVICES}/{address}/driver")
        if link.is_symlink():
            link.unlink()
        if path.endswith("/bind"):
            self.host.link(
                f"{DEVICES}/{address}/driver", path.removesuffix("/bind")
            )
        elif path.endswith("drivers_probe"):
            override = self.host.path(
                f"{DEVICES}/{address}/driver_override"
            ).read_text()
            if override.strip() != "(null)":
                driver = f"/sys/bus/pci/drivers/{override.strip()}"
                self.host.mkdir(driver)
                self.host.link(f"{DEVICES}/{address}/driver", driver)

    def _set_override(self, verb, address, driver=None):
        path = self.host.path(f"/etc/driverctl.d/pci-{address}")
        if verb == "unset-override":
            path.unlink()
        else:
            assert verb == "set-override"
            self.host.write(f"/etc/driverctl.d/pci-{address}", driver)

    def _ask(self, words):
        *words, path = words
        assert words.pop() == ">"
        with contextlib.redirect_stdout(io.StringIO()) as output:
            code = app.main([*words, "--sysfs-root", str(self.host.root)])
        assert code == 0
        self.host.write(path, output.getvalue())

    def _boot(self):
        text = self.host.path(WHERE[self.loader]).read_text()
        if self.loader == "grub":
            text = " ".join(re.findall('="(.*)"', text))
        self.host.write("/proc/cmdline", f"root=/dev/sda1 {text.strip()}")
        self.at_boot(text.split())

    def check(self, conf=None, asked=(), cc_modes=None):
        """Give errors and warnings."""
        return [
            one
            for one in self.find(conf, asked, cc_modes)
            if one.severity in (Severity.ERROR, Severity.WARNING)
        ]

    def inventory(self):
        """Read what is on the host."""
        return reader.read(tree.Tree(str(self.host.root)))

    def find(self, conf=None, asked=(), cc_modes=None):
        """Give all findings."""
        files = tree.Tree(str(self.host.root))
        inventory = reader.read(files)
        only = tuple(map(PciAddress.parse, asked))
        context = Context(
            files,
            inventory,
            only,
            cc_modes=cc_modes,
        )
        found = readiness.check(context)
        if conf is not None:
            path = self.host.root.parent / "nova.conf"
            path.write_text(conf)
            found += conf_device_specs.check(
                inventory,
                reader.read(files, everything=True).functions,
                pci_options.read(str(path)),
            )
        return found

    def _asking(self, conf, asked, words=""):
        """Give what is not fine, with these words."""
        return [
            one
            for one in self.find(conf, asked)
            if one.severity is not Severity.OK and words in one.summary
        ]

    def cure(self, words, conf=None, asked=()):
        """Type the cures of the findings with these words, which must go."""
        found = self._asking(conf, asked, words)
        assert found
        for command in dict.fromkeys(
            command for one in found for command in one.cures
        ):
            self.type(command)
        left = self._asking(conf, asked)
        assert not [one.summary for one in left if words in one.summary]
        return [
            one.summary
            for one in left
            if one.severity in (Severity.ERROR, Severity.WARNING)
        ]
