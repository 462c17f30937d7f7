# SPDX-License-Identifier: Apache-2.0

"""How the kernel's command line is changed, by what boots the host.

Sources: grubby(8), rpm-ostree(1), kernel-install(8) (/etc/kernel/cmdline),
Proxmox VE's Administration Guide ("Editing the Kernel Commandline") and
GRUB's manual (GRUB_CMDLINE_LINUX).
"""

from collections.abc import Iterable
import dataclasses
import re

from nova_gpu_filter.host.sysfs import tree as tree_lib


@dataclasses.dataclass(frozen=True, slots=True)
class Loader:
    """A way to change it, and the files by which a host is known to have it.

    Without files it is for every host.

    The commands are templates: ``{text}`` is all the arguments, ``{each}``
    those with ``option`` before each, ``{pattern}`` one argument in a regular
    expression of sed.
    """

    marks: tuple[str, ...]
    add: str
    remove: str
    after: tuple[tuple[str, str], ...] = ()
    """(file, command): the first whose file is there; empty: always."""
    option: str = ""
    add_output: str = ""
    """For arguments that a command prints; empty: the same as ``add``."""


_LOADERS = (
    Loader(
        ("/run/ostree-booted",),
        "rpm-ostree kargs {each}",
        "rpm-ostree kargs --delete-if-present={text}",
        option="--append-if-missing=",
        add_output="rpm-ostree kargs $(printf -- '--append-if-missing=%s '"
        " {text})",
    ),
    Loader(
        ("/usr/sbin/grubby", "/sbin/grubby"),
        'grubby --update-kernel=ALL --args="{text}"',
        'grubby --update-kernel=ALL --remove-args="{text}"',
    ),
    Loader(
        ("/etc/kernel/cmdline",),
        "sed -i '1s/$/ {text}/' /etc/kernel/cmdline",
        "sed -i -E 's/(^| ){pattern}( |$)/\\1\\2/' /etc/kernel/cmdline",
        after=(
            ("/usr/sbin/proxmox-boot-tool", "proxmox-boot-tool refresh"),
            ("", "kernel-install add-all"),
        ),
        add_output='sed -i "1s/\\$/ {text}/" /etc/kernel/cmdline',
    ),
    Loader(
        ("/etc/default/grub",),
        "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{text} /' /etc/default/grub",
        "sed -i -E '/^GRUB_CMDLINE_LINUX/s/([ \"]){pattern}([ \"])/\\1\\2/'"
        " /etc/default/grub",
        after=(
            ("/usr/sbin/update-grub", "update-grub"),
            ("/etc/initramfs-tools", "update-grub"),
            ("", "grub2-mkconfig -o /boot/grub2/grub.cfg"),
        ),
        add_output='sed -i "s/^GRUB_CMDLINE_LINUX=./&{text} /"'
        " /etc/default/grub",
    ),
    Loader(
        (),
        "# add to the kernel command line of the boot loader: {text}",
        "# take {text} from the kernel command line of the boot loader",
    ),
)
MARKS = tuple(
    path
    for loader in _LOADERS
    for path in (*loader.marks, *(mark for mark, _ in loader.after if mark))
)
"""The files whose presence is looked at."""


def change(
    tree: tree_lib.Tree,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
) -> tuple[str, ...]:
    """Say how to change the command line, as commands to type.

    :param add: arguments; one may be what a command prints:
        ``$(nova-gpu-host ...)``.
    :param remove: arguments as they stand there.
    """
    loader = next(
        one
        for one in _LOADERS
        if not one.marks or any(map(tree.exists, one.marks))
    )
    commands = [
        loader.remove.format(
            text=one, pattern=re.sub(r"([][.*^$+?(){}|/\\])", r"\\\1", one)
        )
        for one in remove
    ]
    added = tuple(add)
    if added:
        text = " ".join(added)
        template = loader.add
        if "$(" in text:
            template = loader.add_output or loader.add
        each = " ".join(f"{loader.option}{argument}" for argument in added)
        commands.append(template.format(text=text, each=each))
    for mark, command in loader.after:
        if not mark or tree.exists(mark):
            commands.append(command)
            break
    return (*commands, "reboot")
