# SPDX-License-Identifier: Apache-2.0

"""What a capture keeps of settings for boot, each text written anew."""

import fnmatch
import re

from nova_gpu_filter.host.boot import driver_overrides
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.boot import kernel
from nova_gpu_filter.host.boot.kernel import VFIO
from nova_gpu_filter.host.saved.tokens import ADDRESS
from nova_gpu_filter.host.saved.tokens import REMOVED
from nova_gpu_filter.host.saved.tokens import Tokens

# The kernel's command line, and options of modprobe, which are the same

_SWITCH = r"[01yYnN]|on|off"
_IDS = r"[0-9a-fA-F]{3,8}:[0-9a-fA-F]{3,8}(?::[0-9a-fA-F]{1,8}){0,4}"
# Parameter -> what a part of its value, between commas, may be. Source:
# Documentation/admin-guide/kernel-parameters.txt.
_PARAMETERS = (
    (
        r"(?:intel_|amd_)?iommu",
        rf"{_SWITCH}|pt|nopt|soft|force|noforce|no?merge|[ft]?boot_noforce"
        r"|sm_o(?:n|ff)|strict|igfx_off|fullflush|force_isolation"
        r"|force_enable|pgtbl_v[12]|nobounce|allowed",
    ),
    (r"iommu\.(?:passthrough|strict|forcedac)", _SWITCH),
    ("intremap", r"on|off|nosid|no_x2apic_optout|nopost|posted_msi"),
    (r"nointremap|x2apic_phys|nox2apic|nomodeset", r""),
    (
        "pci",
        r"realloc(?:=on|=off)?|nocrs|use_crs|noaer|nomsi|noats|nommconf"
        r"|assign-busses|big_root_window|routeirq|noacpi"
        r"|pcie_bus_(?:tune_off|safe|perf|peer2peer)",
    ),
    (
        "pcie_acs_override",
        r"downstream|multifunction|id:[0-9a-f]{4}:[0-9a-f]{4}",
    ),
    ("pcie_aspm|pcie_ports|pcie_port_pm", "off|force|auto|native|compat"),
    (r"(?:vfio_pci|pci_stub)\.ids", _IDS),
    (
        r"vfio_pci\.(?:disable_idle_d3|disable_vga|nointxmask|enable_sriov"
        r"|disable_denylist)"
        r"|vfio_iommu_type1\.(?:allow_unsafe_interrupts|disable_hugepages)"
        r"|vfio\.enable_unsafe_noiommu_mode",
        _SWITCH,
    ),
    (r"\w{1,20}\.modeset", r"-?[0-9]"),
    (r"(?:default_)?hugepagesz", r"[0-9]{1,6}[kKmMgG]"),
    ("hugepages", r"[0-9]{1,7}"),
    ("video", r"(?:efifb|vesafb|simplefb):off"),
)
_MODULE_LISTS = re.compile(
    r"(?:modprobe\.|module_)blacklist|rd\.driver\.(?:pre|blacklist)"
)


def _keep_parameter(tokens: Tokens, word: str) -> str:
    key, equals, value = word.replace('"', "").partition("=")
    name = kernel.normalize_module_name(key)
    parts = value.split(",") if equals else []
    if _MODULE_LISTS.fullmatch(name):
        return f"{key}{equals}{','.join(map(tokens.keep_module, parts))}"
    for pattern, form in _PARAMETERS:
        if re.fullmatch(pattern, name) and (
            "." not in name
            or tokens.is_module(name.partition(".")[0])
            or name.startswith("iommu.")
        ):
            kept = [
                part if re.fullmatch(form, part) else REMOVED for part in parts
            ]
            return f"{key}{equals}{','.join(kept)}"
    return REMOVED


def keep_cmdline(tokens: Tokens, text: str) -> list[str]:
    """Keep parameters of the kernel that we know."""
    words = kernel.split_arguments(text)
    return [" ".join(_keep_parameter(tokens, word) for word in words)]


_LOAD_VFIO = re.compile(r"(?:\S*/)?modprobe(?:\s+-\S+)*\s+vfio[-_]pci\b")


def keep_modprobe(tokens: Tokens, text: str) -> list[str]:
    """Keep lines of modprobe.d, of modules that we know."""
    kept = []
    for line in text.replace("\\\n", " ").splitlines():
        match line.split("#", 1)[0].split():
            case ["blacklist", module, *_]:
                kept.append(f"blacklist {tokens.keep_module(module)}")
            case ["install", module, command, *_]:
                name = command.rsplit("/", 1)[-1]
                done = name if name in ("false", "true") else REMOVED
                if _LOAD_VFIO.match(line.split(maxsplit=2)[2]):
                    done = "modprobe vfio-pci"
                kept.append(f"install {tokens.keep_module(module)} {done}")
            case ["alias", pattern, module, *_] if re.fullmatch(
                r"pci:[\w*\[\]?-]{1,200}", pattern
            ):
                target = (
                    module if module == "off" else tokens.keep_module(module)
                )
                kept.append(f"alias {pattern} {target}")
            case ["softdep", module, *others]:
                names = [
                    one
                    if one in ("pre:", "post:")
                    else tokens.keep_module(one)
                    for one in others
                ]
                kept.append(
                    " ".join(("softdep", tokens.keep_module(module), *names))
                )
            case ["options", module, *options] if tokens.is_module(module):
                found = (_keep_option(tokens, module, one) for one in options)
                kept.append(" ".join(("options", module, *found)))
    return kept


def _keep_option(tokens: Tokens, module: str, option: str) -> str:
    kept = _keep_parameter(tokens, f"{module}.{option}")
    return kept.removeprefix(f"{module}.")


# What loads and binds at boot


def load(tokens: Tokens, text: str) -> list[str]:
    """Keep modules of modules-load.d."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if tokens.is_module(line)]


def keep_early_modules(tokens: Tokens, text: str) -> list[str]:
    """Keep modules of initramfs-tools."""
    kept = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if words:
            options = (
                [_keep_option(tokens, words[0], one) for one in words[1:]]
                if kernel.normalize_module_name(words[0]) == VFIO
                else []
            )
            kept.append(" ".join((tokens.keep_module(words[0]), *options)))
    return kept


def keep_dracut(tokens: Tokens, text: str) -> list[str]:
    """Keep modules that dracut loads early."""
    kept = []
    for line in text.splitlines():
        match = re.match(r"\s*force_drivers\+?=([^#]*)", line)
        if match:
            words = re.sub("[\"']", " ", match[1]).split()
            kept.append(f'force_drivers+=" {tokens.keep_modules(words)} "')
    return kept


_HOOKS = ("modconf", initramfs.KMS)


def keep_mkinitcpio(tokens: Tokens, text: str) -> list[str]:
    """Keep modules and hooks of mkinitcpio."""
    kept = []
    for match in initramfs.MKINITCPIO_ARRAY.finditer(
        initramfs.strip_bash_comments(text)
    ):
        words = match[3].split()
        if match[1] == "HOOKS":
            shown = " ".join(
                word if word in _HOOKS else REMOVED for word in words
            )
        else:
            shown = tokens.keep_modules(words)
        kept.append(f"{match[1]}{match[2]}=({shown})")
    return kept


_RULE_ID = r"(?:0x)?[0-9a-fA-F*?]{1,8}"
_RULE = re.compile(
    rf'ATTRS?\{{(?:vendor|device|class)\}}=="{_RULE_ID}(?:\|{_RULE_ID})*"'
    r"|\bdriver_override\b|\bvfio[-_]pci\b"
    rf"|\b{ADDRESS}"
)


def keep_rules(_: Tokens, text: str) -> list[str]:
    """Keep of udev's rules which device gets which driver."""
    lines = text.replace("\\\n", " ").splitlines()
    return [
        ", ".join(_RULE.findall(line))
        for line in lines
        if "driver_override" in line and not line.lstrip().startswith("#")
    ]


_SCRIPT = re.compile(
    r"\bdriver_override\b|\bunbind\b|\bdriverctl\b"
    r"|\bvfio[-_]pci(?:/(?:bind|new_id))?\b"
    rf"|\b{ADDRESS}|\b[0-9a-fA-F]{{4}}[ :][0-9a-fA-F]{{4}}\b(?!:)"
)


def keep_script(_: Tokens, text: str) -> list[str]:
    """Keep the words by which it is known what a program does to drivers.

    :param text: a boot script, or a unit and the programs that it runs.
    """
    kept = [
        " ".join(found)
        for line in driver_overrides.strip_comments(text).splitlines()
        if (found := _SCRIPT.findall(line))
    ]
    if kept and driver_overrides.is_before_drivers(text):
        kept.insert(0, "Before=systemd-udevd.service")
    return kept


def keep_driver(tokens: Tokens, text: str) -> list[str]:
    """Keep the name of a driver."""
    word = text.strip()
    if not word:
        return []
    return [word if word == "(null)" else tokens.keep_module(word)]


# The kernel's lists of modules


def keep_modules(tokens: Tokens, text: str) -> list[str]:
    """Keep modules of the kernel's lists."""
    # Each line of modules.dep begins with the file that it is about.
    files = (line.split(":")[0] for line in text.splitlines())
    names = (re.search(r"([\w-]+)\.ko", file) for file in files)
    return [
        f"kernel/{match[1]}.ko"
        for match in names
        if match and tokens.is_module(match[1])
    ]


def keep_aliases(tokens: Tokens, text: str) -> list[str]:
    """Keep the aliases of this host's devices, of a list of 20,000."""
    return [
        line
        for line in text.splitlines()
        if re.fullmatch(r"alias pci:[\w*\[\]?-]{1,200} [\w-]{1,64}", line)
        and any(
            fnmatch.fnmatchcase(one, line.split()[1])
            for one in tokens.modaliases
        )
    ]
