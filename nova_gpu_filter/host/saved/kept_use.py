# SPDX-License-Identifier: Apache-2.0

"""What a capture keeps of interfaces, disks and consoles."""

import re

from nova_gpu_filter.host.saved.tokens import ADDRESS
from nova_gpu_filter.host.saved.tokens import REMOVED
from nova_gpu_filter.host.saved.tokens import Tokens
from nova_gpu_filter.host.sysfs import host_consoles
from nova_gpu_filter.host.sysfs import host_interfaces


def keep_route(tokens: Tokens, text: str) -> list[str]:
    """Keep which interfaces have a route."""
    kept = ["Iface\tDestination"]
    for line in text.splitlines()[1:]:
        fields = line.split()
        name = tokens.clean_name(fields[0]) if len(fields) > 1 else None
        if name:
            default = host_interfaces.DEFAULT
            to = default if fields[1] == default else REMOVED
            kept.append(f"{name}\t{to}")
    return kept


def keep_route6(tokens: Tokens, text: str) -> list[str]:
    """Keep which interfaces have a route of IPv6."""
    kept = []
    for line in text.splitlines():
        fields = line.split()
        name = tokens.clean_name(fields[-1]) if len(fields) >= 10 else None
        if name and not host_interfaces.EVERY_INTERFACE.match(fields[0]):
            length = "00" if fields[1] == "00" else "80"
            kept.append(f"{REMOVED} {length} {' '.join([REMOVED] * 7)} {name}")
    return kept


def keep_address6(tokens: Tokens, text: str) -> list[str]:
    """Keep which interfaces have an address."""
    kept = []
    for line in text.splitlines():
        fields = line.split()
        name = tokens.clean_name(fields[5]) if len(fields) == 6 else None
        if name and re.fullmatch(r"[0-9a-f]{2}", fields[3]):
            kept.append(f"{REMOVED} 00 00 {fields[3]} 00 {name}")
    return kept


# Directories of the Filesystem Hierarchy Standard; others have names of their
# own.
_PLACE = re.compile(
    r"/(?:bin|boot(?:/efi)?|efi|etc|home|lib|media|mnt|opt|root|run|sbin|srv"
    r"|tmp|usr(?:/local)?|var(?:/(?:lib(?:/(?:nova(?:/instances)?|libvirt"
    r"|docker|containers|kubelet|glance|cinder))?|log|cache|tmp))?)?"
)
_BLOCK = re.compile(r"/dev/[a-z]{1,8}[0-9a-z]{0,16}")


def keep_mounts(_: Tokens, text: str) -> list[str]:
    """Keep which disks are mounted."""
    kept = []
    for line in text.splitlines():
        front, _separator, back = line.partition(" - ")
        fields, source = front.split(), back.split()
        if (
            len(fields) > 4
            and len(source) > 1
            and re.fullmatch(r"[0-9]{1,5}:[0-9]{1,8}", fields[2])
            and source[1].startswith("/dev/")
        ):
            known = _PLACE.match(fields[4])
            place = known[0] if known else "/"
            if place != fields[4]:
                place = f"{place.rstrip('/')}/{REMOVED}"
            device = (
                source[1] if _BLOCK.fullmatch(source[1]) else f"/dev/{REMOVED}"
            )
            kept.append(f"0 0 {fields[2]} / {place} - {REMOVED} {device}")
    return kept


def keep_swaps(_: Tokens, text: str) -> list[str]:
    """Keep which disks are swap space."""
    return [
        "Filename",
        *(
            match[0]
            for line in text.splitlines()[1:]
            if (match := re.match(rf"{_BLOCK.pattern}(?=\s|$)", line))
        ),
    ]


def keep_memory(_: Tokens, text: str) -> list[str]:
    """Keep which device a frame buffer of the firmware is in."""
    kept = []
    for line in text.splitlines():
        front, separator, name = line.partition(" : ")
        found = re.match(ADDRESS, name.strip())
        found = found or host_consoles.FRAME_BUFFERS.search(name)
        if separator:
            indent = front[: len(front) - len(front.lstrip(" "))]
            kept.append(f"{indent}0-0 : {found[0] if found else ''}")
    return kept


def keep_udev(_: Tokens, text: str) -> list[str]:
    """Keep which disks are members of something larger."""
    return re.findall(
        r"^E:ID_FS_(?:TYPE|USAGE)=[A-Za-z0-9_]{1,32}$", text, re.MULTILINE
    )


def keep_name(tokens: Tokens, text: str) -> list[str]:
    """Keep a name that somebody gave."""
    name = tokens.clean_name(text.strip())
    return [name] if name else [REMOVED]


# Names of serial lines and of virtual consoles (devices.txt of the kernel).
_CONSOLE = re.compile(r"(?:tty|hvc|xvc|netcon|lp)[A-Za-z]{0,6}[0-9]{0,3}")


def keep_consoles(_: Tokens, text: str) -> list[str]:
    """Keep names of consoles."""
    return [" ".join(one for one in text.split() if _CONSOLE.fullmatch(one))]
