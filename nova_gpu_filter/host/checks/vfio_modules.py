# SPDX-License-Identifier: Apache-2.0

"""Are the modules of VFIO there, and in the initramfs?

Sources: the kernel's drivers/vfio/Kconfig and drivers/iommu/iommufd/Kconfig;
Nova 34 writes <hostdev> without iommufd (nova/virt/libvirt/config.py).
"""

import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter

_VFIO = Reporter("vfio")
_INITRAMFS = Reporter("initramfs")

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


def check_vfio(context: Context) -> Findings:
    """Check that the modules of VFIO are loaded, or can be."""
    path, lines = _read_configuration(context)
    if f"# {_GROUPS} is not set" in lines:
        yield _VFIO.error(
            "this kernel has VFIO by iommufd only, without groups, which Nova"
            " has libvirt use",
            Evidence(path, f"# {_GROUPS} is not set"),
            cures=(f"# boot a kernel with {_GROUPS}=y",),
        )
        return
    yield from _check_variants(context)
    # By which libvirt gives a device to QEMU.
    container = iommu_platforms.find_platform(context).container
    needed = (*_MODULES, "iommufd" if _BY_IOMMUFD in lines else container)
    missing = [name for name in needed if not _is_loaded(context, name)]
    if not missing:
        yield _VFIO.ok(
            "the modules of VFIO are loaded",
            *(Evidence(f"/sys/module/{name}", "present") for name in needed),
        )
        return
    evidence = [Evidence(f"/sys/module/{name}", None) for name in missing]
    if _is_known_to_lack(context, missing):
        yield _VFIO.error(
            f"the running kernel has no {', '.join(missing)}",
            *evidence,
            cures=(
                "# install the kernel's extra modules"
                " (linux-modules-extra-$(uname -r), kernel-modules), or a"
                " kernel with CONFIG_VFIO_PCI",
            ),
        )
    else:
        yield _VFIO.warning(
            f"not loaded: {', '.join(missing)}",
            *evidence,
            cures=(
                "modprobe vfio-pci",
                "echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
            ),
        )


def _check_variants(context: Context) -> Findings:
    """Check that the kernel has the VFIO drivers that some devices need."""
    wanted = dict.fromkeys(
        name
        for gpu in context.host.gpus
        if (name := drivers.find_vfio_driver(gpu.ids)) != drivers.VFIO
        and gpu.driver not in drivers.Names({name})
    )
    for name in wanted:
        module = name.replace("-", "_")
        if not _is_loaded(context, module) and _is_known_to_lack(
            context, [module]
        ):
            yield _VFIO.error(
                f"the running kernel has no {name}, which GPUs of this host"
                " need",
                Evidence(f"/sys/module/{module}", None),
                cures=(
                    "# boot a kernel that has it, built with"
                    f" {drivers.find_vfio_kernel_option(name)}",
                ),
            )


def _is_loaded(context: Context, module: str) -> bool:
    return context.tree.exists(
        f"/sys/module/{module}"
    ) or context.boot.is_builtin(module)


def _is_known_to_lack(context: Context, modules: list[str]) -> bool:
    """Tell whether one is not installed; not without a list of modules."""
    release = context.tree.read(paths.RELEASE)
    lists = [
        context.tree.read_bytes(f"{folder}/{release}/{name}", 16 << 20)
        for folder in paths.KERNEL_MODULES
        for name in ("modules.dep", "modules.builtin")
    ]
    present = {
        name.replace("-", "_")
        for data in lists
        if data is not None
        for name in re.findall(
            r"([\w-]+)\.ko", data.decode("utf-8", "replace")
        )
    }
    has_list = any(data is not None for data in lists)
    return has_list and not present.issuperset(modules)


def check_initramfs(context: Context) -> Findings:
    """Check that the initramfs has the newest settings of modprobe."""
    stale = context.boot.stale_initramfs
    if stale is not None:
        image, changed = stale
        yield _INITRAMFS.warning(
            f"{changed.path} was changed after the initramfs was made, which"
            " therefore boots without the change",
            image,
            changed,
            cures=(*context.rebuild_initramfs(), "reboot"),
        )
