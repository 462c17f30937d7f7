# SPDX-License-Identifier: Apache-2.0

"""Which driver a device gets at boot: kernel command line, modprobe, udev.

Sources: modprobe.d(5), modules-load.d(5), udev(7), driverctl(8),
dracut.conf(5), initramfs.conf(5) and the kernel's
Documentation/admin-guide/kernel-parameters.txt.
"""

import dataclasses
import fnmatch
import functools
import re

from nova_gpu_filter.host import drivers
from nova_gpu_filter.host import tree as tree_lib
from nova_gpu_filter.host.findings import Evidence
from nova_gpu_filter.host.inventory import Function

CMDLINE = "/proc/cmdline"
# A file hides those of its name in later directories.
MODPROBE_PLACES = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
LOAD_PLACES = ("/etc/modules-load.d", "/usr/lib/modules-load.d")
UDEV_PLACES = ("/etc/udev/rules.d", "/run/udev/rules.d")
DRACUT_PLACES = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d")

VFIO = "vfio_pci"


def module_name(name: str) -> str:
    """Write a module as the kernel does: ``vfio-pci`` is ``vfio_pci``."""
    return name.replace("-", "_")


def images(release: str | None) -> tuple[str, ...]:
    """Name where distributions put the initramfs of a kernel."""
    return (
        f"/boot/initrd.img-{release}",
        f"/boot/initramfs-{release}.img",
        f"/boot/initrd-{release}",
    )


def cmdline_words(text: str) -> list[str]:
    """Split a kernel command line into words, as they are written.

    What follows ``--`` is for init, and left out.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)
    return words[: words.index("--")] if "--" in words else words


def split_cmdline(text: str) -> tuple[tuple[str, str | None], ...]:
    """Split a kernel command line into (parameter, value) pairs.

    Quotes keep spaces together; ``-`` and ``_`` are the same in names.
    """
    pairs = []
    for word in cmdline_words(text):
        key, equals, value = word.replace('"', "").partition("=")
        pairs.append((module_name(key), value if equals else None))
    return tuple(pairs)


@dataclasses.dataclass(frozen=True, slots=True)
class Directive:
    """A line of modprobe.d."""

    words: tuple[str, ...]
    evidence: Evidence


class Boot:
    """How the host is set up to boot."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    @functools.cached_property
    def cmdline_text(self) -> str:
        """The kernel command line of the running kernel."""
        return self._tree.read(CMDLINE) or ""

    @functools.cached_property
    def cmdline(self) -> tuple[tuple[str, str | None], ...]:
        """The same as pairs."""
        return split_cmdline(self.cmdline_text)

    def parameters(self, name: str) -> list[str]:
        """Give the values of a kernel parameter, commas split."""
        return [
            part
            for key, value in self.cmdline
            if key == module_name(name)
            for part in (value or "").split(",")
        ]

    @property
    def cmdline_evidence(self) -> Evidence:
        """The command line, to show."""
        return Evidence(CMDLINE, self._tree.read(CMDLINE))

    @functools.cached_property
    def directives(self) -> tuple[Directive, ...]:
        """Every line of modprobe's configuration."""
        found = []
        seen = set()
        for place in MODPROBE_PLACES:
            for name in self._tree.entries(place):
                if not name.endswith(".conf") or name in seen:
                    continue
                seen.add(name)
                path = f"{place}/{name}"
                text = self._tree.read(path) or ""
                for line in text.replace("\\\n", " ").splitlines():
                    words = line.split("#", 1)[0].split()
                    if len(words) > 1:
                        found.append(
                            Directive(
                                tuple(words), Evidence(path, line.strip())
                            )
                        )
        return tuple(found)

    @functools.cached_property
    def vfio_ids(self) -> dict[tuple[int, int], Evidence]:
        """Ids that vfio-pci takes, keyed by (vendor, product)."""
        sources = [
            (value, self.cmdline_evidence)
            for key, value in self.cmdline
            if key == "vfio_pci.ids" and value
        ]
        for directive in self.directives:
            if directive.words[0] == "options" and (
                module_name(directive.words[1]) == VFIO
            ):
                sources += [
                    (word.removeprefix("ids="), directive.evidence)
                    for word in directive.words[2:]
                    if word.startswith("ids=")
                ]
        ids: dict[tuple[int, int], Evidence] = {}
        for value, evidence in sources:
            for entry in value.strip('"').split(","):
                match = re.match(
                    r"([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,4})(?::|$)", entry
                )
                if match:
                    key = (int(match[1], 16), int(match[2], 16))
                    ids.setdefault(key, evidence)
        return ids

    @functools.cached_property
    def blacklisted(self) -> dict[str, Evidence]:
        """Modules that do not load by themselves, and why."""
        found: dict[str, Evidence] = {}
        for directive in self.directives:
            words = directive.words
            module = module_name(words[1])
            if words[0] == "blacklist" or (
                words[0] == "install"
                and len(words) > 2
                and words[2].rsplit("/", 1)[-1] in ("false", "true")
            ):
                found.setdefault(module, directive.evidence)
        for name in ("modprobe.blacklist", "module_blacklist"):
            for module in self.parameters(name):
                found.setdefault(module_name(module), self.cmdline_evidence)
        return found

    @functools.cached_property
    def after_vfio(self) -> dict[str, Evidence]:
        """Modules before which vfio-pci is loaded."""
        found = {}
        for directive in self.directives:
            words = directive.words
            if words[0] != "softdep" or "pre:" not in words:
                continue
            start = words.index("pre:") + 1
            end = words.index("post:") if "post:" in words else len(words)
            before = {module_name(word) for word in words[start:end]}
            if VFIO in before:
                found[module_name(words[1])] = directive.evidence
        return found

    @functools.cached_property
    def early(self) -> Evidence | None:
        """What loads vfio-pci before udev, in the initramfs; None: nothing."""
        if VFIO in [
            module_name(one) for one in self.parameters("rd.driver.pre")
        ]:
            return self.cmdline_evidence
        path = "/etc/initramfs-tools/modules"
        for line in (self._tree.read(path) or "").splitlines():
            words = line.split("#", 1)[0].split()
            if words and module_name(words[0]) == VFIO:
                return Evidence(path, line)
        paths = ["/etc/dracut.conf"]
        for place in DRACUT_PLACES:
            paths += [f"{place}/{name}" for name in self._tree.entries(place)]
        for path in paths:
            for line in (self._tree.read(path) or "").splitlines():
                if re.match(r"\s*force_drivers\+?=", line) and (
                    VFIO in module_name(line)
                ):
                    return Evidence(path, line)
        return None

    @functools.cached_property
    def loaded_at_boot(self) -> Evidence | None:
        """What loads vfio-pci at boot at all; None: nothing."""
        for place in LOAD_PLACES:
            for name in self._tree.entries(place):
                for line in (
                    self._tree.read(f"{place}/{name}") or ""
                ).splitlines():
                    if module_name(line.strip()) == VFIO:
                        return Evidence(f"{place}/{name}", line)
        return self.early

    @functools.cached_property
    def _rules(self) -> tuple[Evidence, ...]:
        found = []
        for place in UDEV_PLACES:
            for name in self._tree.entries(place):
                path = f"{place}/{name}"
                text = (self._tree.read(path) or "").replace("\\\n", " ")
                found += [
                    Evidence(path, line.strip())
                    for line in text.splitlines()
                    if "driver_override" in line
                    and re.search("vfio[-_]pci", line)
                    and not line.lstrip().startswith("#")
                ]
        return tuple(found)

    def vfio_setting(self, function: Function) -> Evidence | None:
        """Find what gives a device to a driver of VFIO at boot."""
        ids = (function.vendor_id, function.product_id)
        return self.override(function) or self.vfio_ids.get(ids)

    def override(self, function: Function) -> Evidence | None:
        """Find what sets driver_override to vfio-pci for a device at boot."""
        path = f"/etc/driverctl.d/pci-{function.address}"
        content = self._tree.read(path)
        if content in drivers.VFIO_DRIVERS:
            return Evidence(path, content)
        for rule in self._rules:
            if _rule_matches(rule.content or "", function):
                return rule
        return None

    @functools.cached_property
    def _aliases(self) -> tuple[tuple[str, str], ...] | None:
        release = self._tree.read("/proc/sys/kernel/osrelease")
        for folder in ("/lib/modules", "/usr/lib/modules"):
            data = self._tree.read_bytes(
                f"{folder}/{release}/modules.alias", 16 << 20
            )
            if data is not None:
                found = re.findall(
                    r"^alias (pci:\S+) (\S+)$",
                    data.decode("utf-8", "replace"),
                    re.MULTILINE,
                )
                return tuple(found)
        return None

    def candidates(self, function: Function) -> tuple[str, ...]:
        """List the modules that claim a device, vfio-pci left out.

        Without ``modules.alias`` it is those that are usual for the vendor.
        """
        if self._aliases is None or function.modalias is None:
            return _usual_modules(function)
        vendor = f"pci:v{function.vendor_id:08X}"
        found = {
            module_name(module)
            for pattern, module in self._aliases
            if pattern.startswith((vendor, "pci:v*"))
            and fnmatch.fnmatchcase(function.modalias, pattern)
        }
        return tuple(sorted(found - {VFIO}))

    def grabbers(self, function: Function) -> tuple[str, ...]:
        """List the modules that will or may have the device at boot.

        Empty: vfio-pci has it, or nobody.
        """
        if self.override(function):
            return ()
        left = [
            module
            for module in self.candidates(function)
            if module not in self.blacklisted
        ]
        if (function.vendor_id, function.product_id) in self.vfio_ids:
            if self.early:
                return ()
            left = [module for module in left if module not in self.after_vfio]
        return tuple(left)

    @functools.cached_property
    def stale_initramfs(self) -> tuple[Evidence, Evidence] | None:
        """(initramfs, file changed later); None: it is newer, or unknown."""
        release = self._tree.read("/proc/sys/kernel/osrelease")
        there = [
            path
            for path in images(release)
            if self._tree.modified(path) is not None
        ]
        if not there:
            return None
        made = self._tree.modified(there[0]) or 0.0
        for name in self._tree.entries("/etc/modprobe.d"):
            path = f"/etc/modprobe.d/{name}"
            text = self._tree.read(path) or ""
            changed = self._tree.modified(path) or 0.0
            if changed > made and re.search("vfio|blacklist|softdep", text):
                return (
                    Evidence(there[0], f"made at {made:.0f}"),
                    Evidence(path, f"changed at {changed:.0f}"),
                )
        return None


def _rule_matches(rule: str, function: Function) -> bool:
    if str(function.address) in rule:
        return True
    vendor = re.search(r'ATTRS?\{vendor\}=="0x([0-9a-fA-F]{4})"', rule)
    product = re.search(r'ATTRS?\{device\}=="0x([0-9a-fA-F]{4})"', rule)
    return bool(
        vendor
        and product
        and int(vendor[1], 16) == function.vendor_id
        and int(product[1], 16) == function.product_id
    )


_DISPLAY_MODULES = {
    0x10DE: ("nouveau", "nvidia", "nvidiafb"),
    0x1002: ("amdgpu", "radeon"),
    0x8086: ("i915", "xe"),
    0x15B3: ("mlx5_core",),
}


def _usual_modules(function: Function) -> tuple[str, ...]:
    match function.base_class:
        case 0x0403:
            return ("snd_hda_intel",)
        case 0x0C03:
            return ("xhci_pci",)
        case 0x0C80:
            return ("i2c_nvidia_gpu",)
    return _DISPLAY_MODULES.get(function.vendor_id, ())
