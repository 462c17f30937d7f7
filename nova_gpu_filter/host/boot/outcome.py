# SPDX-License-Identifier: Apache-2.0

"""Which driver a device gets at boot, by all that is set.

Sources: modules-load.d(5), dracut.cmdline(7) and the kernel's
Documentation/admin-guide/kernel-parameters.txt.
"""

from collections.abc import Iterable
import dataclasses
import functools

from nova_gpu_filter.host.boot import driver_overrides
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.boot import kernel
from nova_gpu_filter.host.boot import modprobe
from nova_gpu_filter.host.boot.kernel import VFIO
from nova_gpu_filter.host.boot.kernel import normalize_module_name
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import tree as tree_lib

LOAD_PLACES = ("/etc/modules-load.d", "/usr/lib/modules-load.d")


@dataclasses.dataclass(frozen=True, slots=True)
class IdSetting:
    """Ids that vfio-pci is told to take, and where that is written."""

    ids: tuple[kernel.VfioId, ...]
    evidence: Evidence

    def matches(self, function: Function) -> bool:
        """Tell whether a device is among them."""
        return any(entry.matches(function) for entry in self.ids)


class Boot:
    """How the host is set up to boot."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree
        self._modules = kernel.KernelModules(tree)
        self._modprobe = modprobe.Configuration(tree)
        self._overrides = driver_overrides.DriverOverrides(
            tree, self._modprobe
        )

    def is_builtin(self, module: str) -> bool:
        """Tell whether a module is part of the kernel."""
        return normalize_module_name(module) in self._modules.builtin

    def list_candidates(self, function: Function) -> tuple[str, ...]:
        """List the modules that claim a device, vfio-pci left out.

        An alias in modprobe's configuration stands in the place of all those
        of the kernel's list (kmod, libkmod-module.c,
        kmod_module_new_from_lookup).
        """
        aliased = self._modprobe.find_aliased(function.modalias)
        known = self._modules.list_candidates(function)
        if not aliased:
            return known
        # Nobody loads what is built in: it is there already.
        builtin = {one for one in known if self.is_builtin(one)}
        return tuple(sorted((aliased - {VFIO, "off"}) | builtin))

    @property
    def is_vfio_builtin(self) -> bool:
        """Whether vfio-pci is part of the kernel, not a module."""
        return VFIO in self._modules.builtin

    @functools.cached_property
    def cmdline_text(self) -> str:
        """The kernel command line of the running kernel."""
        return self._tree.read(kernel.CMDLINE) or ""

    @functools.cached_property
    def cmdline(self) -> tuple[tuple[str, str | None], ...]:
        """The same as pairs."""
        return kernel.split(self.cmdline_text)

    def list_parameter_values(self, name: str) -> list[str]:
        """Give the values of a kernel parameter, commas split."""
        return [
            part
            for key, value in self.cmdline
            if key == normalize_module_name(name)
            for part in (value or "").split(",")
        ]

    def _list_modules(self, name: str) -> list[str]:
        """Give the modules that a kernel parameter names."""
        return list(
            map(normalize_module_name, self.list_parameter_values(name))
        )

    @property
    def cmdline_evidence(self) -> Evidence:
        """The command line, to show."""
        return Evidence(kernel.CMDLINE, self._tree.read(kernel.CMDLINE))

    @functools.cached_property
    def id_settings(self) -> tuple[IdSetting, ...]:
        """Where vfio-pci is told ids, in the order in which it gets them.

        modprobe gives it what stands in its configuration, by the names of
        the files, then the kernel command line, then its own arguments
        (kmod, libkmod/libkmod-config.c and libkmod-module.c).
        """
        sources = list(self._modprobe.list_options(VFIO))
        sources += [
            (f"ids={value}", self.cmdline_evidence)
            for key, value in self.cmdline
            if key == "vfio_pci.ids" and value
        ]
        sources += [
            (word, early.evidence)
            for early in self._early
            for word in early.options
        ]
        return tuple(
            IdSetting(
                tuple(kernel.parse_ids(word.removeprefix("ids="))), evidence
            )
            for word, evidence in sources
            if word.startswith("ids=")
        )

    @functools.cached_property
    def _id_setting_in_effect(self) -> IdSetting | None:
        """The last of them: a parameter of a module has one value."""
        return next(
            (
                setting
                for setting in reversed(self.id_settings)
                if self._is_effective(setting.evidence)
            ),
            None,
        )

    def find_ids_setting(self, function: Function) -> Evidence | None:
        """Find where vfio-pci is told the ids of a device, to any effect."""
        for setting in (self._id_setting_in_effect, *self.id_settings):
            if setting is not None and setting.matches(function):
                return setting.evidence
        return None

    def _is_bound_by_ids(self, function: Function) -> bool:
        setting = self._id_setting_in_effect
        return setting is not None and setting.matches(function)

    def _is_effective(self, evidence: Evidence) -> bool:
        """Tell whether vfio-pci gets to know what is written there.

        Of what is built in, modprobe knows nothing.
        """
        if evidence.path == kernel.CMDLINE:
            return True
        return not self.is_vfio_builtin and all(
            early.has_modprobe_options or early.evidence == evidence
            for early in self._early
        )

    @functools.cached_property
    def blacklisted(self) -> dict[str, Evidence]:
        """Modules that do not load by themselves, and why."""
        found = dict(self._modprobe.blacklisted)
        for name in ("modprobe.blacklist", "module_blacklist"):
            for module in self._list_modules(name):
                found.setdefault(module, self.cmdline_evidence)
        return found

    @functools.cached_property
    def _never(self) -> frozenset[str]:
        """Those that do not load by name either."""
        return frozenset(
            module
            for module, evidence in self.blacklisted.items()
            if (evidence.content or "").startswith("install")
        ).union(self._list_modules("module_blacklist"))

    @functools.cached_property
    def _of_initramfs(self) -> tuple[initramfs.Loaded, ...]:
        """Modules that the initramfs loads by name, before udev's rules."""
        pre = dict.fromkeys(
            self._list_modules("rd.driver.pre"), self.cmdline_evidence
        )
        return tuple(initramfs.list_loaded(self._tree, VFIO, pre))

    @functools.cached_property
    def _named(self) -> dict[str, initramfs.Loaded]:
        """The same, keyed by module; of several makers the first counts."""
        return {one.module: one for one in reversed(self._of_initramfs)}

    @functools.cached_property
    def _early(self) -> tuple[initramfs.Loaded, ...]:
        """Settings that load vfio-pci before udev, in the initramfs."""
        return tuple(one for one in self._of_initramfs if one.module == VFIO)

    @functools.cached_property
    def _loaded(self) -> frozenset[str]:
        """Modules that systemd loads by name, while udev starts."""
        return frozenset(
            normalize_module_name(line.strip())
            for place in LOAD_PLACES
            for name in self._tree.list_entries(place)
            for line in (self._tree.read(f"{place}/{name}") or "").splitlines()
        )

    @property
    def takes_devices(self) -> bool:
        """Whether anything gives devices to drivers of VFIO at boot."""
        return bool(self.id_settings or self._overrides.are_there)

    def find_vfio_setting(self, function: Function) -> Evidence | None:
        """Find what gives a device to a driver of VFIO at boot."""
        found = self._overrides.find(function)
        if found is None and self._is_bound_by_ids(function):
            found = self.find_ids_setting(function)
        return found or self._find_installed(function)

    def _find_installed(self, function: Function) -> Evidence | None:
        """Find a program that binds a device when vfio-pci is loaded."""
        if self.is_vfio_builtin:
            return None
        return self._overrides.find_installed(function)

    def list_grabbers(self, function: Function) -> tuple[str, ...]:
        """List the modules that will or may have the device at boot.

        Empty: vfio-pci has it, or nobody.
        """
        if self._overrides.find_later(function) or self._has_stub(function):
            return ()
        left = [
            module
            for module in self.list_candidates(function)
            if not self._is_kept_off(module)
        ]
        if self._is_bound_by_ids(function) or self._find_installed(function):
            left = [one for one in left if not self._is_after_vfio(one)]
        if self._overrides.find(function):
            left = [one for one in left if self.is_before_rules(one)]
        return tuple(left)

    def is_before_rules(self, module: str) -> bool:
        """Tell whether a module may have devices before udev's rules."""
        return (
            module in self._modules.builtin
            or module in self._named
            or module in self._loaded
        )

    def load_vfio_first(self, modules: Iterable[str]) -> tuple[str, ...]:
        """Say how vfio-pci is loaded before what the initramfs loads."""
        commands: dict[str, None] = {}
        for module in modules:
            named = self._named.get(module)
            if named is not None and not self._is_after_vfio(module):
                commands.update(
                    dict.fromkeys(initramfs.load_first(self._tree, named))
                )
        return tuple(commands)

    def _has_stub(self, function: Function) -> bool:
        """Tell whether pci-stub keeps a device from all other drivers.

        Built in, it has its devices before any module (drivers/pci is linked
        before drivers/gpu and drivers/net); libvirt takes them from it.
        """
        if not self.is_builtin("pci_stub"):
            return False
        return any(
            entry.matches(function)
            for key, value in self.cmdline
            if key == "pci_stub.ids"
            for entry in kernel.parse_ids(value or "")
        )

    def explain(self, function: Function, modules: tuple[str, ...]) -> str:
        """Say why modules have a device at boot.

        :param modules: those that may have it.
        """
        setting = self.find_ids_setting(function)
        last = self._id_setting_in_effect
        names = " or ".join(modules)
        builtin = [one for one in modules if one in self._modules.builtin]
        nothing = (
            f"nothing keeps {names} from taking the device at the next boot"
        )
        early = [one for one in modules if one in self._named]
        if early and (self._is_bound_by_ids(function) or setting is None):
            named = self._named[early[0]]
            text = (
                f"the initramfs loads {' and '.join(early)}, which has the"
                f" device before vfio-pci ({named.evidence.path})"
            )
        elif setting is None:
            text = nothing
        elif not self._is_effective(setting):
            cause = (
                "vfio-pci is built into this kernel, so that options in"
                " modprobe.d have no effect"
                if self.is_vfio_builtin
                else "the initramfs loads vfio-pci without the options in"
                " modprobe.d, for want of the hook modconf"
            )
            text = f"{cause}: {nothing}"
        elif last is not None and not last.matches(function):
            text = (
                "vfio-pci is given ids more than once, and the last setting,"
                f" without those of this device, counts ({last.evidence.path}:"
                f" {last.evidence.content}): {nothing}"
            )
        elif builtin:
            text = (
                f"{' and '.join(builtin)} is built into this kernel, and has"
                " the device before vfio-pci"
            )
        else:
            text = (
                f"{names} may be loaded before vfio-pci at boot, and then has"
                " the device"
            )
        return text

    def has_builtin(self, modules: tuple[str, ...]) -> bool:
        """Tell whether one of these is built in and before vfio-pci."""
        return any(
            one in self._modules.builtin and not self._is_after_vfio(one)
            for one in modules
        )

    @property
    def lacks_modprobe_options(self) -> bool:
        """Whether the initramfs loads vfio-pci without modprobe's options."""
        return any(not one.has_modprobe_options for one in self._early)

    def _is_kept_off(self, module: str) -> bool:
        """Tell whether a module takes no device at all."""
        if drivers.is_switched_off(
            module,
            self.cmdline,
            # Of what is built in, modprobe knows nothing.
            ()
            if module in self._modules.builtin
            else [word for word, _ in self._modprobe.list_options(module)],
        ):
            return True
        if module in self._modules.builtin or module not in self.blacklisted:
            return False
        named = self._named.get(module)
        if named is None or module in self._never:
            return True
        # A blacklist is for what is loaded for devices, not by name.
        return named.maker.minds_blacklist and named.has_modprobe_options

    def _is_after_vfio(self, module: str) -> bool:
        """Tell whether vfio-pci has its devices before a module starts."""
        if self.is_vfio_builtin:
            return module not in self._modules.builtin or (
                self._modules.builtin.index(module)
                > self._modules.builtin.index(VFIO)
            )
        if module in self._modules.builtin:
            return False
        # modprobe minds the softdeps of what a module depends on, too (kmod,
        # libkmod-module.c, __kmod_module_get_probe_list).
        is_soft = module in self._modprobe.after_vfio or (
            module in drivers.DRM
            and "drm" in self._modprobe.after_vfio
            and "drm" not in self._modules.builtin
        )
        named = self._named.get(module)
        if named is not None:
            return named.is_after_vfio or (is_soft and named.minds_softdeps)
        return is_soft or bool(self._early)

    @functools.cached_property
    def stale_initramfs(self) -> tuple[Evidence, Evidence] | None:
        """(initramfs, file changed later); None: it is newer, or unknown."""
        return initramfs.find_stale(self._tree, self._modprobe.decides_drivers)
