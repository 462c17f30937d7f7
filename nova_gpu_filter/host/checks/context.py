# SPDX-License-Identifier: Apache-2.0

"""What every check reads."""

from collections.abc import Iterable
import dataclasses
import functools

from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.boot import command_line
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.boot import kernel
from nova_gpu_filter.host.boot import outcome
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib


@dataclasses.dataclass(frozen=True)
class Context:
    """The files of a host, and what was made of them."""

    tree: tree_lib.Tree
    host: inventory.Inventory
    asked: tuple[PciAddress, ...] = ()
    """The devices that were asked about (``--device``); empty: all."""
    has_aliases: bool = False
    """Whether aliases of a nova.conf are compared with the hardware, too."""

    cc_modes: cc_mode.Modes | None = None
    """Confidential computing modes; None: nothing was saved of them."""
    flags: tuple[str, ...] = ()
    """Options of the question that name the host and what is known of it:
    ``--sysfs-root tree``; a command that is a cure repeats them."""

    check_flags: tuple[str, ...] = ()
    """The same, of ``check`` alone: ``--nova-conf nova.conf``."""
    mediated: frozenset[PciAddress] = frozenset()
    """The devices whose mediated ones a nova.conf offers."""

    def repeat_flags(self, finding: Finding) -> Finding:
        """Complete the commands of a finding that knew of no question."""
        start = "nova-gpu-host config"
        return dataclasses.replace(
            finding,
            cures=tuple(
                cure.replace(start, " ".join((start, *self.flags)), 1)
                if cure.startswith(start)
                else cure
                for cure in finding.cures
            ),
        )

    def format_command(
        self,
        name: str,
        *options: str,
        devices: Iterable[PciAddress] | None = None,
    ) -> str:
        """Write a command of nova-gpu-host that answers for this question.

        :param devices: what ``--device`` names; None: those asked about.
        """
        named = self.asked if devices is None else devices
        return " ".join(
            (
                *("nova-gpu-host", name, *self.flags),
                *(self.check_flags if name == "check" else ()),
                *(f"--device {address}" for address in named),
                *options,
            )
        )

    @functools.cached_property
    def boot(self) -> outcome.Boot:
        """How the host is set up to boot."""
        return outcome.Boot(self.tree)

    @functools.cached_property
    def packages(self) -> packages.Packages:
        """The versions of programs on the host."""
        return packages.Packages(self.tree)

    @functools.cached_property
    def others(self) -> tuple[inventory.Function, ...]:
        """Functions of no interest otherwise: disks, plain NICs, USB."""
        return reader.read_others(self.tree, self.host)

    def read_evidence(self, path: str) -> Evidence:
        """Show a file: its content, or that it is not there."""
        return Evidence(path, self.tree.read(path))

    def show_file(self, function: inventory.Function, name: str) -> Evidence:
        """Show a file of a function in sysfs."""
        return self.read_evidence(f"{function.address.path}/{name}")

    def read_listing(self, path: str) -> Evidence:
        """Show a directory: what is in it, or that it is not there."""
        if not self.tree.is_directory(path):
            return Evidence(path, None)
        return Evidence(path, " ".join(self.tree.list_entries(path)))

    def suggest_kernel_arguments(
        self, *arguments: str, without: Iterable[tuple[str, str | None]] = ()
    ) -> tuple[str, ...]:
        """Say how to add arguments to the kernel's command line.

        An argument may be what a command prints: ``$(nova-gpu-host ...)``.

        :param without: (parameter, value) that are to be taken from it.
        """
        unwanted = set(without)
        words = kernel.split_arguments(self.boot.cmdline_text)
        removed = (
            word
            for word in dict.fromkeys(words)
            if unwanted.intersection(kernel.split(word))
        )
        return command_line.change(self.tree, arguments, removed)

    def rebuild_initramfs(self) -> tuple[str, ...]:
        """Say how this distribution makes its initramfs again."""
        if self.tree.is_directory("/etc/initramfs-tools"):
            return ("update-initramfs -u -k all",)
        if self.tree.exists(initramfs.DRACUT_CONF) or self.tree.is_directory(
            initramfs.DRACUT_PLACES[0]
        ):
            return ("dracut -f --regenerate-all",)
        if self.tree.exists(initramfs.MKINITCPIO):
            return ("mkinitcpio -P",)
        return (
            "# make the initramfs again: update-initramfs -u -k all, or"
            " dracut -f --regenerate-all",
        )
