# SPDX-License-Identifier: Apache-2.0

"""Are the modules of VFIO there, and in the initramfs?

Sources: the kernel's drivers/vfio/Kconfig and drivers/iommu/iommufd/Kconfig;
Nova 34 writes <hostdev> without iommufd (nova/virt/libvirt/config.py).
"""

from collections.abc import Iterator
import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity

_MODULES = ("vfio", "vfio_pci")
# drivers/iommu/iommufd/Kconfig: /dev/vfio/vfio is iommufd's then.
_BY_IOMMUFD = "CONFIG_IOMMUFD_VFIO_CONTAINER=y"
_GROUPS = "CONFIG_VFIO_GROUP"


def _read_configuration(context: Context) -> tuple[str, frozenset[str]]:
    """Read the kernel's configuration: (path, lines); empty if not there."""
    release = context.tree.read(paths.RELEASE)
    for path in (
        f"/boot/config-{release}",
        *(f"{folder}/{release}/config" for folder in paths.KERNEL_MODULES),
    ):
        data = context.tree.read_bytes(path, 4 << 20)
        if data is not None:
            return path, frozenset(
                data.decode("utf-8", "replace").splitlines()
            )
    return "", frozenset()


def _list_needed(context: Context, lines: frozenset[str]) -> tuple[str, ...]:
    """Name the modules by which libvirt gives a device to QEMU."""
    if _BY_IOMMUFD in lines:
        return (*_MODULES, "iommufd")
    return (*_MODULES, iommu_platforms.find_platform(context).container)


def check_vfio(context: Context) -> Iterator[Finding]:
    """Check that the modules of VFIO are loaded, or can be."""
    tree = context.tree
    path, lines = _read_configuration(context)
    if f"# {_GROUPS} is not set" in lines:
        yield Finding(
            Severity.ERROR,
            "vfio",
            "this kernel has VFIO by iommufd only, without groups, which Nova"
            " has libvirt use",
            evidence=(Evidence(path, f"# {_GROUPS} is not set"),),
            cures=(f"# boot a kernel with {_GROUPS}=y",),
        )
        return
    yield from _check_variants(context)
    needed = _list_needed(context, lines)
    missing = [
        name
        for name in needed
        if not tree.exists(f"/sys/module/{name}")
        and not context.boot.is_builtin(name)
    ]
    if not missing:
        yield Finding(
            Severity.OK,
            "vfio",
            "the modules of VFIO are loaded",
            evidence=tuple(
                Evidence(f"/sys/module/{name}", "present") for name in needed
            ),
        )
        return
    evidence = tuple(Evidence(f"/sys/module/{name}", None) for name in missing)
    names = ", ".join(missing)
    installed = _are_installed(context, missing)
    if installed is False:
        yield Finding(
            Severity.ERROR,
            "vfio",
            f"the running kernel has no {names}",
            evidence=evidence,
            cures=(
                "# install the kernel's extra modules"
                " (linux-modules-extra-$(uname -r), kernel-modules), or a"
                " kernel with CONFIG_VFIO_PCI",
            ),
        )
        return
    yield Finding(
        Severity.WARNING,
        "vfio",
        f"not loaded: {names}",
        evidence=evidence,
        cures=(
            "modprobe vfio-pci",
            "echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
        ),
    )


def _check_variants(context: Context) -> Iterator[Finding]:
    """Check that the kernel has the VFIO drivers that some devices need."""
    wanted = dict.fromkeys(
        name
        for gpu in context.host.gpus
        if (name := drivers.find_vfio_driver(gpu.ids)) != drivers.VFIO
        and gpu.driver not in drivers.Names({name})
    )
    for name in wanted:
        module = name.replace("-", "_")
        if (
            context.tree.exists(f"/sys/module/{module}")
            or context.boot.is_builtin(module)
            or _are_installed(context, [module]) is not False
        ):
            continue
        yield Finding(
            Severity.ERROR,
            "vfio",
            f"the running kernel has no {name}, which GPUs of this host need",
            evidence=(Evidence(f"/sys/module/{module}", None),),
            cures=(
                "# boot a kernel that has it, built with"
                f" {drivers.find_vfio_kernel_option(name)}",
            ),
        )


def _are_installed(context: Context, modules: list[str]) -> bool | None:
    """Tell whether modules are installed; None if there is no list."""
    release = context.tree.read(paths.RELEASE)
    lists = []
    for folder in paths.KERNEL_MODULES:
        for name in ("modules.dep", "modules.builtin"):
            data = context.tree.read_bytes(
                f"{folder}/{release}/{name}", 16 << 20
            )
            if data is not None:
                lists.append(data.decode("utf-8", "replace"))
    if not lists:
        return None
    present = {
        name.replace("-", "_")
        for text in lists
        for name in re.findall(r"([\w-]+)\.ko", text)
    }
    return all(module in present for module in modules)


def check_initramfs(context: Context) -> Iterator[Finding]:
    """Check that the initramfs has the newest settings of modprobe."""
    stale = context.boot.stale_initramfs
    if stale is not None:
        image, changed = stale
        yield Finding(
            Severity.WARNING,
            "initramfs",
            f"{changed.path} was changed after the initramfs was made, which"
            " therefore boots without the change",
            evidence=(image, changed),
            cures=(*context.rebuild_initramfs(), "reboot"),
        )
