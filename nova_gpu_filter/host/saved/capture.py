# SPDX-License-Identifier: Apache-2.0

"""Collects what the tool reads of a host, without secrets.

Where files are found is here; what is kept of each is in
:mod:`nova_gpu_filter.host.saved.kept`. Serial numbers, UUIDs, MAC addresses,
passwords and keys are not kept.
"""

from collections.abc import Iterator
import dataclasses
import os
import re

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import command_line
from nova_gpu_filter.host.boot import driver_overrides
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import capture_use
from nova_gpu_filter.host.saved import kept
from nova_gpu_filter.host.saved import kept_boot
from nova_gpu_filter.host.saved import kept_file
from nova_gpu_filter.host.saved import outputs
from nova_gpu_filter.host.saved.archive import Entry
from nova_gpu_filter.host.saved.tokens import Tokens
from nova_gpu_filter.host.sysfs import board_devices
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.host.sysfs import pci_config
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib
from nova_gpu_filter.host.vgpu import state
from nova_gpu_filter.host.vgpu import types

# Write-only: that they are there tells something.
_PRESENT = ("remove", "rescan", "reset")
_LINKS = ("driver", "iommu_group", "physfn")

# Empty files that stand for what cannot be read or is too large.
_MARKS = (
    *command_line.MARKS,
    initramfs.DRACUT_CONF,
    initramfs.MKINITCPIO,
    "/sys/firmware/acpi/tables/DMAR",
    "/sys/firmware/acpi/tables/IORT",
    "/sys/firmware/acpi/tables/IVRS",
    "/sys/firmware/acpi/tables/RIMT",
    state.SRIOV_MANAGE,
)
_DIRECTORIES = (
    initramfs.DRACUT_PLACES[0],
    "/etc/initramfs-tools",
    "/sys/class/iommu",
    "/sys/firmware/acpi/tables",
    "/sys/firmware/devicetree/base",
    *(
        f"/sys/module/{name}"
        for name in (
            *("vfio", "vfio_iommu_type1", "vfio_iommu_spapr_tce", "vfio_pci"),
            *("iommufd", "nvidia", "nouveau", "amdgpu", "i915", "xe"),
        )
    ),
)
_LIST_BYTES = 16 << 20
"""Of the kernel's lists of modules."""


def generate_entries(
    tree: tree_lib.Tree,
    sources: linking.Sources,
    cc_modes: cc_mode.Modes | None = None,
) -> Iterator[Entry]:
    """Yield what goes into a capture.

    :param sources: outputs of programs to put beside the host's files.
    :param cc_modes: confidential computing modes that another printed.
    """
    tokens = _learn(tree)
    seen = set()
    for entry in _collect(tree, tokens, sources, cc_modes):
        path = tokens.clean_path(entry.path)
        target = entry.target and tokens.clean_path(entry.target)
        # Nothing of ours has a name like that, nor twice the same.
        if path is None or path in seen or (entry.target and not target):
            continue
        seen.add(path)
        yield dataclasses.replace(entry, path=path, target=target)


def _learn(tree: tree_lib.Tree) -> Tokens:
    """Find the names of modules and devices that may be kept."""
    tokens = Tokens()
    modaliases = set()
    for name in tree.list_entries(address_lib.DEVICES):
        if address_lib.find(name):
            path = f"{address_lib.DEVICES}/{name}"
            modaliases.add(tree.read(f"{path}/modalias") or "")
            tokens.know_modules([tree.read_link_name(f"{path}/driver") or ""])
    tokens.modaliases = frozenset(modaliases - {""})
    for path in _list_lists(tree, "modules.alias"):
        lines = kept_file.keep_lines(tree, tokens, path, _LIST_BYTES) or []
        tokens.know_modules(line.split()[2] for line in lines)
    return tokens


def _collect(
    tree: tree_lib.Tree,
    tokens: Tokens,
    sources: linking.Sources,
    cc_modes: cc_mode.Modes | None,
) -> Iterator[Entry]:
    yield Entry(address_lib.DEVICES)
    for name in tree.list_entries(address_lib.DEVICES):
        if address_lib.find(name):
            yield from _keep_device(tree, tokens, name)
    yield Entry(device_paths.GROUPS)
    for number in tree.list_entries(device_paths.GROUPS):
        folder = f"{device_paths.GROUPS}/{number}/devices"
        yield Entry(f"{device_paths.GROUPS}/{number}")
        for name in tree.list_entries(folder):
            yield from kept_file.keep_link(tree, f"{folder}/{name}")
        for name in ("name", "reserved_regions"):
            path = f"{device_paths.GROUPS}/{number}/{name}"
            yield from kept_file.keep(tree, tokens, path)
    for path in kept.PLAIN_FILES:
        yield from kept_file.keep(tree, tokens, path)
    for folder in kept.FOLDERS:
        for name in tree.list_entries(folder):
            yield from kept_file.keep(tree, tokens, f"{folder}/{name}")
    for path in _MARKS:
        if tree.exists(path) and not tree.is_directory(path):
            yield Entry(path, b"")
    for path in _DIRECTORIES:
        if tree.is_directory(path):
            yield Entry(path)
    for unit in tree.list_entries("/sys/class/iommu"):
        yield Entry(f"/sys/class/iommu/{unit}")
    for slot in tree.list_entries(state.SLOTS):
        path = f"{state.SLOTS}/{slot}/address"
        yield from kept_file.keep(tree, tokens, path)
    yield from capture_use.list_entries(tree, tokens)
    yield from _keep_scripts(tree, tokens)
    yield from _keep_kernel(tree, tokens)
    yield from _keep_names(tree, tokens)
    for path, limit in (
        (packages.DPKG, packages.MOST),
        (types.CONFIG, types.CONFIG_BYTES),
    ):
        yield from kept_file.keep(tree, tokens, path, limit)
    yield from outputs.list_entries(tokens, sources, cc_modes)


def _keep_device(
    tree: tree_lib.Tree, tokens: Tokens, name: str
) -> Iterator[Entry]:
    listed = f"{address_lib.DEVICES}/{name}"
    yield from kept_file.keep_link(tree, listed)
    # The files stand where the link leads.
    place = tree.resolve(listed)
    if place is None:
        return
    files = frozenset(tree.list_entries(place))
    for attribute in kept.DEVICE_FILES:
        if attribute.split("/")[0] in files:
            path = f"{place}/{attribute}"
            entry = next(kept_file.keep(tree, tokens, path), None)
            if entry is not None:
                yield entry
            elif tree.exists(path) and "/" not in attribute:
                # That it is there tells something.
                yield Entry(path, b"")
    # All that everybody may read of it.
    config = tree.read_bytes(f"{place}/config", pci_config.HEADER_BYTES)
    if config is not None:
        yield Entry(f"{place}/config", config)
    if "vpd" in files:
        # It holds serial numbers, so that only the marker is kept.
        data = tree.read_bytes(
            f"{place}/vpd", board_devices.PRODUCT_DATA_BYTES
        )
        marker = kept.find_marker(data or b"")
        if marker:
            yield Entry(f"{place}/vpd", marker)
    for file in sorted(files):
        if file in _PRESENT:
            yield Entry(f"{place}/{file}", b"")
        elif file in _LINKS or re.fullmatch("virtfn[0-9]+", file):
            yield from kept_file.keep_link(tree, f"{place}/{file}")
    for one in tree.list_entries(f"{place}/net"):
        interface = f"{place}/net/{one}"
        yield from capture_use.keep_interface(tree, tokens, interface)
    for one in tree.list_entries(f"{place}/infiniband"):
        tokens.rdma_devices.add(one)
        yield Entry(f"{place}/infiniband/{one}")
    if "nvidia" in files and "physfn" in files:
        yield Entry(f"{place}/nvidia")
    types = f"{place}/mdev_supported_types"
    for one in tree.list_entries(types):
        for file in ("name", "available_instances"):
            yield from kept_file.keep(tree, tokens, f"{types}/{one}/{file}")
        for made in tree.list_entries(f"{types}/{one}/devices"):
            yield Entry(f"{types}/{one}/devices/{made}")


def _keep_scripts(tree: tree_lib.Tree, tokens: Tokens) -> Iterator[Entry]:
    """Keep what says which devices the host's own programs bind."""
    links = driver_overrides.list_enabled(tree)
    for script in driver_overrides.read_scripts(tree):
        # Its text has that of the programs that it runs.
        yield kept_file.make_entry(
            tree, script.path, kept_boot.keep_script(tokens, script.text)
        )
        link = links.get(os.path.basename(script.path))
        if link is not None and script.path.startswith(
            driver_overrides.UNIT_PLACES
        ):
            yield Entry(link, b"")


def _list_lists(tree: tree_lib.Tree, name: str) -> tuple[str, ...]:
    release = tree.read(paths.RELEASE)
    return tuple(
        f"{folder}/{release}/{name}" for folder in paths.KERNEL_MODULES
    )


def _keep_kernel(tree: tree_lib.Tree, tokens: Tokens) -> Iterator[Entry]:
    """Keep of the kernel's lists what is about our devices and VFIO."""
    release = tree.read(paths.RELEASE)
    for image in initramfs.name_images(release):
        if tree.exists(image):
            yield Entry(
                image, b"", modified=tree.read_modification_time(image) or 0.0
            )
    for path in (f"/boot/config-{release}", *_list_lists(tree, "config")):
        yield from kept_file.keep(tree, tokens, path)
    for name in ("modules.alias", "modules.dep", "modules.builtin"):
        for path in _list_lists(tree, name):
            lines = kept_file.keep_lines(tree, tokens, path, _LIST_BYTES)
            if lines is not None:
                # A list without our modules says that they are not there.
                yield kept_file.make_entry(tree, path, lines)


def _keep_names(tree: tree_lib.Tree, tokens: Tokens) -> Iterator[Entry]:
    """Keep the names of this host's devices, of a list of 40,000."""
    names = pci_ids.load(tree)
    lines = kept.write_device_names(tokens, reader.read(tree, names, True))
    if lines:
        place = names.source
        if place not in pci_ids.PLACES:
            place = pci_ids.PLACES[1]
        yield kept_file.make_entry(tree, place, lines)


def name_top(tree: tree_lib.Tree) -> str:
    """Name the directory at the top of the archive after the host."""
    name = tree.read(paths.HOSTNAME) or "host"
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:255].lstrip(".-") or "host"


def name_archive(tree: tree_lib.Tree) -> str:
    """Name the archive after the host."""
    return f"nova-gpu-host-{name_top(tree)}.tar.gz"
