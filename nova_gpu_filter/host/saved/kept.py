# SPDX-License-Identifier: Apache-2.0

"""What is kept of each file that the checks read: one list, in
``PLAIN_FILES``, ``DEVICE_FILES``, ``FOLDERS`` and ``FILES``.

A file without a row is not kept. Of a file with one, only what the row's
function finds in it is, and each function writes its text anew from words
that it knows: numbers, addresses, names of kernel modules, keywords.
"""

from collections.abc import Callable
import re

from nova_gpu_filter import exception
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import driver_overrides
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.boot import kernel
from nova_gpu_filter.host.boot import modprobe
from nova_gpu_filter.host.boot import outcome
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.saved import kept_boot
from nova_gpu_filter.host.saved import kept_use
from nova_gpu_filter.host.saved.tokens import ADDRESS
from nova_gpu_filter.host.saved.tokens import REMOVED
from nova_gpu_filter.host.saved.tokens import Tokens
from nova_gpu_filter.host.sysfs import board_devices
from nova_gpu_filter.host.sysfs import host_consoles
from nova_gpu_filter.host.sysfs import host_disks
from nova_gpu_filter.host.sysfs import host_interfaces
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import state
from nova_gpu_filter.host.vgpu import types

Keep = Callable[[Tokens, str], list[str]]
"""Gives the lines that are kept of a text."""


def _keep_lines(pattern: str, at_most: int = 1) -> Keep:
    """Keep the first lines that are of a form as a whole."""
    form = re.compile(pattern)

    def keep(_: Tokens, text: str) -> list[str]:
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if form.fullmatch(line)][:at_most]

    return keep


def _keep_matches(pattern: str, at_most: int = 1) -> Keep:
    """Keep what matches in each line, and nothing of the rest of it."""
    form = re.compile(pattern)

    def keep(_: Tokens, text: str) -> list[str]:
        found = (form.match(line) for line in text.splitlines())
        return [match[0] for match in found if match][:at_most]

    return keep


# /proc


def _keep_cpus(_: Tokens, text: str) -> list[str]:
    kept = []
    for pattern in (
        r"vendor_id\s*: {1,3}[A-Za-z]{1,12}",
        r"CPU implementer\s*: 0x[0-9a-f]{2}",
        r"cpu\s*: POWER[0-9]{0,2}",
        r"isa\s*: rv[0-9]{2}",
        r"CPU Family\s*: Loongson",
        r"vendor_id\s*: IBM/S390",
    ):
        match = re.search(rf"^{pattern}", text, re.MULTILINE)
        kept += [match[0]] if match else []
    flags = re.search(r"^flags\s*:.*$", text, re.MULTILINE)
    if flags:
        # Of the others, some CPUs could be recognised.
        is_guest = "hypervisor" in flags[0].split()
        kept.append("flags\t:" + (" hypervisor" if is_guest else ""))
    return kept


def _keep_interrupts(_: Tokens, text: str) -> list[str]:
    names = re.findall(
        r" ((?:IR-)?(?:(?:PCI|DMAR|HPET)-)?MSIX?|(?:IR-)?IO-APIC)\b", text
    )
    return [f"0: {name}" for name in sorted(set(names))]


def _keep_hostname(_: Tokens, text: str) -> list[str]:
    return [re.sub(r"[^A-Za-z0-9._-]", "_", text.strip())[:255]]


# As the drivers of NVIDIA, Intel (GVT-g) and AMD name them.
_VGPU_TYPE = re.compile(
    r"(?:GRID|NVIDIA|MxGPU|AMD) (?:[A-Z]{1,6} )?[A-Z0-9][A-Za-z0-9-]{1,24}"
    r"|i915-GVTg_V[0-9]_[0-9]"
)


def _keep_vgpu_type(_: Tokens, text: str) -> list[str]:
    line = text.strip()
    return [line if _VGPU_TYPE.fullmatch(line) else REMOVED]


def _keep_packages(_: Tokens, text: str) -> list[str]:
    """Keep the packages whose versions are compared."""
    lines = []
    for name, version in packages.list_installed(text):
        if re.fullmatch(r"[0-9A-Za-z.+:~-]{1,64}", version):
            lines += [f"Package: {name}", "Status: install ok installed"]
            lines += [f"Version: {version}", ""]
    return lines


def _keep_declared_vfs(_: Tokens, text: str) -> list[str]:
    """Write the file anew, without what an operator has noted in it."""
    try:
        rows = declaration.parse(declaration.PATH, text)
    except exception.BadInput:
        # That it cannot be read is told of this, too.
        return ["# not kept: it is not as it has to be"]
    lines = [f"{declaration.TOP}:"]
    for place, row in enumerate(rows):
        words = {
            "address": row.address,
            "slot": _keep_known(_SLOT, row.slot, place),
            "id": row.id,
            "vfs": row.vfs,
            "type": _keep_known(
                rf"(?i:{_TYPED})|[0-9]{{1,9}}", row.type, place
            ),
            "mig": row.mig,
            "autoprobe": row.autoprobe,
        }
        named = ", ".join(
            f"{key}: '{word}'"
            for key, word in words.items()
            if word is not None
        )
        lines.append(f"- {{{named}}}")
    return lines


def _keep_known(pattern: str, text: str | None, place: int) -> str | None:
    """Give a text of a form; in the place of others, one for each row."""
    if text is None or re.fullmatch(pattern, text, re.ASCII):
        return text
    return f"{REMOVED}-{place}"


def _keep_fabric_manager(_: Tokens, text: str) -> list[str]:
    return [
        f"Fabric Manager version {version}"
        for version in packages.list_logged_versions(text)[-1:]
    ]


_HEX = r"0x[0-9a-fA-F]{1,8}"
_LONG = r"0x[0-9a-fA-F]{1,16}"
_NUMBER = r"-?[0-9]{1,6}"
_VGPU = r"[A-Z][A-Za-z0-9]{1,15}(?:-[A-Za-z0-9]{1,8}){1,4}"
_VGPU_NAME = rf"(?:GRID|NVIDIA) {_VGPU}"
_TYPED = rf"(?:(?:GRID|NVIDIA) )?{_VGPU}"
_SLOT = r"[A-Za-z]{0,5}[ _-]?[0-9]{1,6}(?:-[0-9]{1,4})?"
"""Names that firmware gives to slots: ``3``, ``3-1``, ``Slot 7``."""

# File of a device, in the directory of its PCI function -> what is kept.
DEVICE_FILES: dict[str, Keep] = {
    **dict.fromkeys(
        (
            *("class", "revision", "vendor", "device"),
            *("subsystem_vendor", "subsystem_device"),
        ),
        _keep_lines(_HEX),
    ),
    **dict.fromkeys(
        (
            *("boot_vga", "numa_node", "nvidia/current_vgpu_type"),
            *("current_link_width", "max_link_width"),
            *("sriov_numvfs", "sriov_totalvfs"),
        ),
        _keep_lines(_NUMBER),
    ),
    **dict.fromkeys(
        ("current_link_speed", "max_link_speed"),
        _keep_lines(r"[0-9.]{1,6} GT/s(?: PCIe)?|Unknown.{0,8}"),
    ),
    **dict.fromkeys(
        ("aer_dev_correctable", "aer_dev_fatal", "aer_dev_nonfatal"),
        _keep_lines(r"[A-Za-z_]{1,40} [0-9]{1,10}", 64),
    ),
    **{
        f"aer_rootport_total_err_{kind}": _keep_lines(r"[0-9]{1,20}")
        for kind in ("cor", "fatal", "nonfatal")
    },
    "driver_override": kept_boot.keep_driver,
    "modalias": _keep_lines(
        r"pci:v[0-9A-F]{8}d[0-9A-F]{8}sv[0-9A-F]{8}sd[0-9A-F]{8}"
        r"bc[0-9A-F]{2}sc[0-9A-F]{2}i[0-9A-F]{2}"
    ),
    "power_state": _keep_lines(r"D[0-3]|D3hot|D3cold|unknown|error"),
    "power/runtime_status": _keep_lines(
        r"active|suspended|suspending|resuming|error|unsupported"
    ),
    "reset_method": _keep_lines(
        r"(?: ?\b(?:device_specific|acpi|flr|af_flr|pm|bus|cxl_bus)\b)+"
    ),
    "resource": _keep_lines(rf"{_LONG} {_LONG} {_LONG}", 32),
    "sriov_drivers_autoprobe": _keep_lines(r"[01YN]"),
    "sriov_vf_device": _keep_lines(r"[0-9a-fA-F]{1,8}"),
    types.CREATABLE: _keep_lines(rf"[0-9]{{1,6}}\s*:\s*{_VGPU_NAME}", 128),
}


_NODES = _keep_lines(r"[0-9]{1,4}(?:[-,][0-9]{1,4})*")
_PARAMETER = _keep_lines(r"[YN]|[0-9]{1,10}")

# File that is read where it is -> what is kept.
PLAIN_FILES: dict[str, Keep] = {
    paths.HOSTNAME: _keep_hostname,
    paths.HOSTNAME_FILE: _keep_hostname,
    paths.RELEASE: _keep_lines(r"[\w.+~-]{1,128}"),
    kernel.CMDLINE: kept_boot.keep_cmdline,
    paths.CPUINFO: _keep_cpus,
    paths.INTERRUPTS: _keep_interrupts,
    paths.MEMINFO: _keep_matches(
        r"(?:MemTotal|HugePages_[A-Z]\w{1,9}|Hugepagesize):"
        r"\s{1,20}[0-9]{1,12}(?: kB)?",
        9,
    ),
    paths.HYPERVISOR: _keep_lines(r"[a-z]{1,12}"),
    paths.NODES: _NODES,
    paths.NODES_WITH_PROCESSORS: _NODES,
    paths.NODES_WITH_MEMORY: _NODES,
    paths.SNP: _PARAMETER,
    paths.TDX: _PARAMETER,
    paths.NO_IOMMU: _PARAMETER,
    paths.UNSAFE_INTERRUPTS: _PARAMETER,
    paths.MAPPINGS: _PARAMETER,
    paths.FABRIC_MANAGER: _keep_matches(r"\s*FABRIC_MODE\s*=\s*[0-9]"),
    packages.NVIDIA_MODULE: _keep_lines(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,3}"),
    packages.FABRIC_MANAGER_LOG: _keep_fabric_manager,
    initramfs.DRACUT_CONF: kept_boot.keep_dracut,
    initramfs.MODULES: kept_boot.keep_early_modules,
    initramfs.MKINITCPIO: kept_boot.keep_mkinitcpio,
    declaration.PATH: _keep_declared_vfs,
}

_CONF = r"[^/]+\.conf"
_ANY = "[^/]+"
# Directory -> the names of files in it, and what is kept of them.
FOLDERS: dict[str, tuple[str, Keep]] = {
    **dict.fromkeys(modprobe.PLACES, (_CONF, kept_boot.keep_modprobe)),
    **dict.fromkeys(outcome.LOAD_PLACES, (_ANY, kept_boot.load)),
    **dict.fromkeys(
        driver_overrides.UDEV_PLACES, (_ANY, kept_boot.keep_rules)
    ),
    **dict.fromkeys(initramfs.DRACUT_PLACES, (_CONF, kept_boot.keep_dracut)),
    **dict.fromkeys(
        initramfs.MODULES_PLACES, (_ANY, kept_boot.keep_early_modules)
    ),
    initramfs.MKINITCPIO_PLACE: (_CONF, kept_boot.keep_mkinitcpio),
    driver_overrides.DRIVERCTL: (f"pci-{ADDRESS}", kept_boot.keep_driver),
    packages.QEMU_CACHE: (
        _ANY,
        _keep_lines(r"<(selfvers|version)>[0-9]{1,12}</\1>", 2),
    ),
}


def _match_files(places: tuple[str, ...], name: str = _ANY) -> str:
    return rf"(?:{'|'.join(map(re.escape, places))})/{name}"


# Others, which capture finds in its own ways.
FILES: tuple[tuple[str, Keep], ...] = (
    (host_interfaces.ROUTE, kept_use.keep_route),
    (host_interfaces.ROUTE6, kept_use.keep_route6),
    (host_interfaces.ADDRESS6, kept_use.keep_address6),
    (host_disks.MOUNTS, kept_use.keep_mounts),
    (host_disks.SWAPS, kept_use.keep_swaps),
    (host_consoles.IOMEM, kept_use.keep_memory),
    (rf"{host_disks.UDEV}/b[0-9]+:[0-9]+", kept_use.keep_udev),
    (host_consoles.CONSOLES, kept_use.keep_consoles),
    (r"/sys/.*/boot_display", _keep_lines(r"[01]")),
    (r"/sys/.*/dev", _keep_lines(r"[0-9]{1,5}:[0-9]{1,8}")),
    (r"/sys/.*/dm/name", kept_use.keep_name),
    (r"/sys/.*/net/[^/]+/operstate", _keep_lines(r"[a-z]{1,16}")),
    (r"/sys/.*/net/[^/]+/flags", _keep_lines(_HEX)),
    (r"/sys/.*/net/[^/]+/carrier", _keep_lines(r"[01]")),
    (r"/sys/kernel/iommu_groups/[0-9]+/name", _keep_lines(r"vfio-noiommu")),
    (
        r"/sys/kernel/iommu_groups/[0-9]+/reserved_regions",
        _keep_lines(rf"{_LONG} {_LONG} [a-z-]{{1,20}}", 64),
    ),
    (packages.DPKG, _keep_packages),
    (
        r"/boot/config-[^/]+|(?:/usr)?/lib/modules/[^/]+/config",
        _keep_lines(
            r"(?:# )?CONFIG_(?:VFIO_GROUP|IOMMUFD_VFIO_CONTAINER"
            r"|ARM64_64K_PAGES)(?:=[ym]| is not set)",
            3,
        ),
    ),
    (r"/sys/.*/mdev_supported_types/[^/]+/name", _keep_vgpu_type),
    (
        r"/sys/.*/mdev_supported_types/[^/]+/available_instances",
        _keep_lines(_NUMBER),
    ),
    *(
        (rf"/sys/.*/{re.escape(name)}", keep)
        for name, keep in DEVICE_FILES.items()
    ),
    (_match_files(initramfs.SCRIPTS), kept_boot.keep_script),
    (
        "|".join(map(re.escape, driver_overrides.RC_LOCAL)),
        kept_boot.keep_script,
    ),
    (
        _match_files(driver_overrides.UNIT_PLACES, r"[^/]+\.service"),
        kept_boot.keep_script,
    ),
    (
        rf"{state.SLOTS}/{_SLOT}/address",
        _keep_lines(r"[0-9a-f]{4,8}(?::[0-9a-f]{2}){2}"),
    ),
    (
        types.CONFIG,
        _keep_matches(
            rf'\s*<vgpuType id="{_HEX}" name="{_VGPU_NAME}"',
            4096,
        ),
    ),
    (
        r"(?:/usr)?/lib/modules/[^/]+/modules\.(?:dep|builtin)",
        kept_boot.keep_modules,
    ),
    (r"(?:/usr)?/lib/modules/[^/]+/modules\.alias", kept_boot.keep_aliases),
)
_ROWS = tuple(
    (re.compile(pattern), keep)
    for pattern, keep in (
        *((re.escape(path), keep) for path, keep in PLAIN_FILES.items()),
        *FILES,
        *(
            (f"{re.escape(folder)}/{name}", keep)
            for folder, (name, keep) in FOLDERS.items()
        ),
    )
)


def find(path: str) -> Keep | None:
    """Find what is kept of a file; None: it is not kept at all."""
    for pattern, keep in _ROWS:
        if pattern.fullmatch(path):
            return keep
    return None


def write_device_names(tokens: Tokens, host: Inventory) -> list[str]:
    """Write the part of a ``pci.ids`` that names the devices of a host."""
    # Keyed by vendor, product and board, which is the order of the lines.
    lines: dict[tuple[int | None, ...], str] = {}
    classes: dict[int, str] = {}
    for one in host.functions:
        if one.class_name:
            classes[one.base_class] = tokens.clean_text(one.class_name)
        ids = (one.vendor_id, one.product_id)
        board = (one.subvendor_id, one.subproduct_id)
        for key, form, name in (
            (ids[:1], "{:04x}  ", one.vendor_name),
            (ids, "\t{1:04x}  ", one.product_name),
            ((*ids, *board), "\t\t{2:04x} {3:04x}  ", one.subsystem_name),
        ):
            if not name:
                break
            lines[key] = form.format(*key) + tokens.clean_text(name)
    found = [lines[key] for key in sorted(lines)]
    for code, name in sorted(classes.items()):
        found.append(f"C {code >> 8:02x}  {name}")
        found.append(f"\t{code & 0xFF:02x}  {name}")
    return found


def find_marker(product_data: bytes) -> bytes | None:
    """Give the first marker in vital product data, between serial numbers."""
    for row in board_devices.BY_PRODUCT_DATA:
        if row.marker in product_data:
            return row.marker
    return None
