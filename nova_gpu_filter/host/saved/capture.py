# SPDX-License-Identifier: Apache-2.0

"""Copies what the tool reads of a host into a tar archive, without secrets.

Only what is listed here is copied. Of files in which there may be more than
we need (the kernel command line, modprobe's and udev's settings), only the
lines or values that matter are. Serial numbers, UUIDs, MAC addresses,
passwords and keys are not among them.
"""

from collections.abc import Iterator
import dataclasses
import fnmatch
import io
import json
import os
import re
import tarfile
from typing import IO

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.boot import outcome
from nova_gpu_filter.host.boot import scripts
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import capture_use
from nova_gpu_filter.host.sysfs import management
from nova_gpu_filter.host.sysfs import pci_config
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib

# Where outputs of programs are kept in an archive.
FOLDER = "/nova-gpu-host"
TOPO = f"{FOLDER}/nvidia-smi-topo.txt"
QUERY = f"{FOLDER}/nvidia-smi-q.txt"
FABRIC = f"{FOLDER}/fmpm-l.json"

_ATTRIBUTES = (
    "aer_dev_correctable",
    "aer_dev_fatal",
    "aer_dev_nonfatal",
    "boot_vga",
    "class",
    "current_link_speed",
    "current_link_width",
    "device",
    "driver_override",
    "max_link_speed",
    "max_link_width",
    "modalias",
    "numa_node",
    "power_state",
    "reset_method",
    "resource",
    "revision",
    "sriov_numvfs",
    "sriov_totalvfs",
    "sriov_vf_device",
    "subsystem_device",
    "subsystem_vendor",
    "vendor",
)
# Write-only: that they are there tells something.
_PRESENT = ("remove", "rescan", "reset")
_LINKS = ("driver", "iommu_group", "physfn")
_NAMES = ("net", "infiniband")

_WHOLE = (
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system/node/online",
    "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
    "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
)
_MODULES = (
    "vfio",
    "vfio_iommu_type1",
    "vfio_pci",
    "nvidia",
    "nouveau",
    "amdgpu",
    "i915",
    "xe",
)
# Empty files that stand for what cannot be read or is too large.
_MARKS = (
    "/etc/default/grub",
    "/etc/dracut.conf",
    "/etc/mkinitcpio.conf",
    "/sbin/grubby",
    "/sys/firmware/acpi/tables/DMAR",
    "/sys/firmware/acpi/tables/IORT",
    "/sys/firmware/acpi/tables/IVRS",
    "/usr/sbin/grubby",
    "/usr/sbin/update-grub",
)
_FOLDERS = ("/etc/dracut.conf.d", "/etc/initramfs-tools", "/sys/class/iommu")

# Parameters of the kernel whose values are kept; of others the name only.
_PARAMETERS = re.compile(
    r"(intel_iommu|amd_iommu|iommu|iommu\..*|intremap|nointremap|x2apic.*"
    r"|pci|pcie_.*|vfio.*|nvidia.*|(nouveau|amdgpu|i915|xe|radeon)\..*"
    r"|modprobe\.blacklist|module_blacklist|rd\.driver\..*"
    r"|(default_)?hugepages.*|isolcpus|video|nomodeset)"
)
REMOVED = "REMOVED"

# Of scripts and units, the words by which host.boot.scripts knows them.
_SCRIPT_WORDS = re.compile(
    r"^Before=.*|^ExecStart\w*=\S+|driver_override|unbind|driverctl"
    r"|vfio[-_]pci(?:/(?:bind|new_id))?|[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}"
    r"\.[0-7]|\b[0-9a-fA-F]{4}[ :][0-9a-fA-F]{4}\b"
)

# Lines that are kept, by the folder of the file.
_LINES = {
    "modprobe.d": re.compile(
        r"\s*(blacklist|install|softdep)\s"
        r"|\s*options\s+(vfio|nvidia|nouveau|amdgpu|i915|xe|radeon|snd|kvm)"
    ),
    "modules-load.d": re.compile(r"\s*vfio"),
    "rules.d": re.compile(r"[^#]*driver_override"),
    "dracut.conf.d": re.compile(r"\s*\w*drivers\+?="),
}
_LINE_PLACES = (
    *((place, "modprobe.d") for place in outcome.MODPROBE_PLACES),
    *((place, "modules-load.d") for place in outcome.LOAD_PLACES),
    *((place, "rules.d") for place in outcome.UDEV_PLACES),
    *((place, "dracut.conf.d") for place in outcome.DRACUT_PLACES),
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """One thing in the archive: a file, a link or a directory."""

    path: str
    content: bytes | None = None
    target: str | None = None
    modified: float = 0.0


def write(
    tree: tree_lib.Tree, sources: linking.Sources, file: IO[bytes], name: str
) -> int:
    """Write the archive.

    :param sources: outputs of programs to put beside the host's files.
    :param file: where to write; ``name`` ending in ``gz`` packs it.
    :returns: how many files, links and directories it has.
    """
    top = re.sub(
        r"[^A-Za-z0-9._-]",
        "_",
        tree.read("/proc/sys/kernel/hostname") or "host",
    ).lstrip(".-")
    count = 0
    with (
        tarfile.open(fileobj=file, mode="w|gz")
        if name.endswith("gz")
        else tarfile.open(fileobj=file, mode="w|")
    ) as archive:
        for entry in _entries(tree, sources):
            member = tarfile.TarInfo(f"{top or 'host'}{entry.path}")
            member.mtime = int(entry.modified)
            if entry.target is not None:
                member.type = tarfile.SYMTYPE
                member.linkname = entry.target
                archive.addfile(member)
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
                member.mode = 0o755
                archive.addfile(member)
            else:
                member.size = len(entry.content)
                archive.addfile(member, io.BytesIO(entry.content))
            count += 1
    return count


def _entries(
    tree: tree_lib.Tree, sources: linking.Sources
) -> Iterator[_Entry]:
    modaliases: set[str] = set()
    yield _Entry(reader.DEVICES)
    for name in tree.entries(reader.DEVICES):
        if address_lib.find(name):
            yield from _device(tree, name, modaliases)
    yield _Entry(reader.GROUPS)
    for number in tree.entries(reader.GROUPS):
        folder = f"{reader.GROUPS}/{number}/devices"
        for name in tree.entries(folder):
            yield from _link(tree, f"{folder}/{name}")
        yield from _file(tree, f"{reader.GROUPS}/{number}/reserved_regions")
    for path in _WHOLE:
        yield from _file(tree, path)
    for module in _MODULES:
        if tree.is_directory(f"/sys/module/{module}"):
            yield _Entry(f"/sys/module/{module}")
    for path in _MARKS:
        if tree.exists(path):
            yield _Entry(path, b"")
    for path in _FOLDERS:
        if tree.is_directory(path):
            yield _Entry(path)
    for unit in tree.entries("/sys/class/iommu"):
        yield _Entry(f"/sys/class/iommu/{unit}")
    for path, content, target in capture_use.entries(tree):
        yield _Entry(path, content, target)
    yield from _proc(tree)
    yield from _settings(tree)
    yield from _kernel(tree, modaliases)
    yield from _programs(sources)


def _device(
    tree: tree_lib.Tree, name: str, modaliases: set[str]
) -> Iterator[_Entry]:
    listed = f"{reader.DEVICES}/{name}"
    yield from _link(tree, listed)
    # The files stand where the link leads.
    place = tree.resolve(listed)
    if place is None:
        return
    files = frozenset(tree.entries(place))
    for attribute in _ATTRIBUTES:
        if attribute in files:
            yield from _file(tree, f"{place}/{attribute}")
    yield from _file(tree, f"{place}/power/runtime_status")
    # All that everybody may read of it.
    config = tree.read_bytes(f"{place}/config", pci_config.HEADER_BYTES)
    if config is not None:
        yield _Entry(f"{place}/config", config)
    if "vpd" in files:
        # It holds serial numbers, so that only the markers are kept.
        data = tree.read_bytes(f"{place}/vpd", management.PRODUCT_DATA_BYTES)
        for row in management.BY_PRODUCT_DATA:
            if row.marker in (data or b""):
                yield _Entry(f"{place}/vpd", row.marker)
    for attribute in _PRESENT:
        if attribute in files:
            yield _Entry(f"{place}/{attribute}", b"")
    for link in files:
        if link in _LINKS or link.startswith("virtfn"):
            yield from _link(tree, f"{place}/{link}")
    for folder in _NAMES:
        if folder in files:
            for one in tree.entries(f"{place}/{folder}"):
                if folder == "net":
                    for entry in capture_use.interface(
                        tree, f"{place}/{folder}/{one}"
                    ):
                        yield _Entry(*entry)
                else:
                    yield _Entry(f"{place}/{folder}/{one}")
    if "nvidia" in files and "physfn" in files:
        yield _Entry(f"{place}/nvidia")
        yield from _file(tree, f"{place}/nvidia/current_vgpu_type")
    types = f"{place}/mdev_supported_types"
    for one in tree.entries(types) if "mdev_supported_types" in files else ():
        yield from _file(tree, f"{types}/{one}/name")
        yield from _file(tree, f"{types}/{one}/available_instances")
    modaliases.add(tree.read(f"{place}/modalias") or "")


def _link(tree: tree_lib.Tree, path: str) -> Iterator[_Entry]:
    target = tree.link_target(path)
    if target is not None:
        yield _Entry(path, target=target)
    elif tree.is_directory(path):
        yield _Entry(path)


def _file(tree: tree_lib.Tree, path: str) -> Iterator[_Entry]:
    content = tree.read_bytes(path)
    if content is not None:
        yield _Entry(path, content, modified=tree.modified(path) or 0.0)


def _text(
    tree: tree_lib.Tree, path: str, lines: list[str]
) -> Iterator[_Entry]:
    text = "".join(f"{line}\n" for line in lines)
    yield _Entry(path, text.encode(), modified=tree.modified(path) or 0.0)


def _proc(tree: tree_lib.Tree) -> Iterator[_Entry]:
    text = tree.read(outcome.CMDLINE)
    if text is not None:
        words = [_without_value(word) for word in outcome.cmdline_words(text)]
        yield from _text(tree, outcome.CMDLINE, [" ".join(words)])
    for path, pattern, at_most in (
        (
            "/proc/cpuinfo",
            r"vendor_id\s*:|flags\s*:|CPU implementer|cpu\s*:",
            2,
        ),
        ("/proc/interrupts", r".*\b(IR-\S*|PCI-)MSI", 8),
        ("/proc/meminfo", r"MemTotal:|HugePages_|Hugepagesize:", 10),
    ):
        text = tree.read(path)
        if text is not None:
            lines = [
                # Only the flag that we ask for: a CPU can be recognised.
                _only_hypervisor(line)
                for line in text.splitlines()
                if re.match(pattern, line)
            ]
            yield from _text(tree, path, lines[:at_most])


def _without_value(word: str) -> str:
    """Take the value from a kernel parameter unless it matters here."""
    key, equals, _ = word.partition("=")
    if not equals or _PARAMETERS.fullmatch(outcome.module_name(key)):
        return word
    return f"{key}={REMOVED}"


def _only_hypervisor(line: str) -> str:
    if not line.startswith("flags"):
        return line
    return "flags\t: " + (" hypervisor" if "hypervisor" in line else "")


def _settings(tree: tree_lib.Tree) -> Iterator[_Entry]:
    for place, kind in _LINE_PLACES:
        for name in tree.entries(place):
            path = f"{place}/{name}"
            text = (tree.read(path) or "").replace("\\\n", " ")
            kept = [
                line for line in text.splitlines() if _LINES[kind].match(line)
            ]
            if kept:
                yield from _text(tree, path, kept)
    for path, pattern in (
        ("/etc/dracut.conf", _LINES["dracut.conf.d"]),
        (
            "/usr/share/nvidia/nvswitch/fabricmanager.cfg",
            re.compile(r"\s*FABRIC_MODE"),
        ),
    ):
        content = tree.read(path)
        if content is not None:
            lines = content.splitlines()
            yield from _text(
                tree, path, [one for one in lines if pattern.match(one)]
            )
    yield from _early(tree)
    for name in tree.entries("/etc/driverctl.d"):
        yield from _file(tree, f"/etc/driverctl.d/{name}")


def _early(tree: tree_lib.Tree) -> Iterator[_Entry]:
    """Keep what the initramfs loads, and scripts that bind devices."""
    for path in (
        initramfs.MODULES,
        *(
            f"{place}/{name}"
            for place in initramfs.MODULES_PLACES
            for name in tree.entries(place)
        ),
    ):
        text = tree.read(path)
        if text is not None:
            lines = [line.split("#")[0].split() for line in text.splitlines()]
            yield from _text(
                tree,
                path,
                [
                    " ".join(
                        words
                        if outcome.module_name(words[0]) == outcome.VFIO
                        else words[:1]
                    )
                    for words in lines
                    if words
                ],
            )
    for path in (
        initramfs.MKINITCPIO,
        *(
            f"{initramfs.MKINITCPIO_PLACE}/{name}"
            for name in tree.entries(initramfs.MKINITCPIO_PLACE)
        ),
    ):
        text = tree.read(path)
        if text is not None:
            kept = [
                line
                for line in text.splitlines()
                if re.match(r"\s*(MODULES|HOOKS)\+?=", line)
            ]
            yield from _text(tree, path, kept)
    for script in scripts.read(tree):
        for path in (script.path, *scripts.programs(script.text)):
            text = scripts.without_comments(tree.read(path) or "")
            kept = [
                " ".join(found)
                for line in text.splitlines()
                if (found := _SCRIPT_WORDS.findall(line))
            ]
            if kept:
                yield from _text(tree, path, kept)
    for folder in tree.entries(scripts.UNITS):
        for name in (
            tree.entries(f"{scripts.UNITS}/{folder}")
            if folder.endswith((".wants", ".requires"))
            else ()
        ):
            # That it is there tells that the unit is enabled.
            path = f"{scripts.UNITS}/{folder}/{name}"
            target = tree.link_target(path)
            yield _Entry(path, None if target else b"", target)


def _kernel(tree: tree_lib.Tree, modaliases: set[str]) -> Iterator[_Entry]:
    """Keep of the kernel's lists what is about our devices and VFIO."""
    release = tree.read("/proc/sys/kernel/osrelease")
    for image in outcome.images(release):
        if tree.exists(image):
            yield _Entry(image, b"", modified=tree.modified(image) or 0.0)
    for folder in ("/lib/modules", "/usr/lib/modules"):
        path = f"{folder}/{release}/modules.alias"
        data = tree.read_bytes(path, 16 << 20)
        if data is not None:
            kept = [
                line
                for line in data.decode("utf-8", "replace").splitlines()
                if line.startswith("alias pci:")
                and any(
                    fnmatch.fnmatchcase(modalias, line.split()[1])
                    for modalias in modaliases
                )
            ]
            yield from _text(tree, path, kept)
        for name in ("modules.dep", "modules.builtin"):
            path = f"{folder}/{release}/{name}"
            data = tree.read_bytes(path, 16 << 20)
            if data is not None:
                lines = data.decode("utf-8", "replace").splitlines()
                kept = [
                    line
                    for line in lines
                    # What is built in can be before vfio-pci.
                    if name == "modules.builtin"
                    or "vfio" in line.split(":")[0]
                ]
                yield from _text(tree, path, kept)


def _programs(sources: linking.Sources) -> Iterator[_Entry]:
    if sources.topo is not None:
        yield _Entry(TOPO, sources.topo[1].encode())
    if sources.query is not None:
        # Serial numbers and UUIDs stand between these lines.
        kept = [
            line
            for line in sources.query[1].splitlines()
            if re.match(r"GPU [0-9A-Fa-f]|\s+module\s+id\s*:", line, re.I)
        ]
        yield _Entry(QUERY, "".join(f"{line}\n" for line in kept).encode())
    if sources.fabric is not None:
        yield _Entry(FABRIC, _without_uuids(sources.fabric[1]).encode())


def _without_uuids(text: str) -> str:
    try:
        data = json.loads(text[max(text.find("{"), 0) :])
        for partition in data["partitionInfo"]:
            for gpu in partition["gpuInfo"]:
                gpu["uuid"] = ""
    except (ValueError, KeyError, TypeError):
        # It is no list of partitions, so nobody can use it.
        return ""
    return json.dumps(data, indent=1)


def default_name(tree: tree_lib.Tree) -> str:
    """Name the archive after the host."""
    hostname = tree.read("/proc/sys/kernel/hostname") or "host"
    return f"nova-gpu-host-{os.path.basename(hostname)}.tar.gz"
