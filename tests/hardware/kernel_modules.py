# SPDX-License-Identifier: Apache-2.0

"""Takes modules of the distribution's kernel, and builds ours for it."""

from collections.abc import Iterable
import pathlib
import shutil

from tests.hardware import programs

# The guest's kernel has these modules, and what they depend on: what it needs
# to run, VFIO, and drivers that take devices of the machines. The real drivers
# of our GPUs and NICs would wait for firmware that is not there.
FIRST = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p")
_TAKEN = (
    *FIRST,
    "vfio_pci",
    "vfio_iommu_type1",
    "snd_hda_intel",
    # Makes VFs of the NVMe of QEMU.
    "nvme",
    "virtio_net",
    # Lays the packages over /usr.
    "overlay",
    # A disk in a file.
    "loop",
    "ext4",
    "crc32c_generic",
)
_STAND_IN = "nvidia"
MEDIATED = "nvidia_vgpu_vfio"
"""Ours that makes mediated devices, in kernels that have what it needs."""
_ITS_NEED = "mdev"


def make(
    sources: pathlib.Path, build: pathlib.Path, target: pathlib.Path
) -> None:
    """Put modules and the kernel into a root directory.

    :param sources: where those in C are.
    :param build: the unpacked packages of the kernel.
    :raises NotHere: what every machine needs cannot be built.
    """
    (modules,) = (build / "lib" / "modules").iterdir()
    release = modules.name
    depmod = (target / "sbin" / "depmod", "-b")
    programs.run(*depmod, build, release)
    taken = target / "lib" / "modules" / release
    taken.mkdir(parents=True)
    boot = target / "boot"
    boot.mkdir()
    (headers,) = (build / "usr" / "src").glob("linux-headers-*-amd64")
    # It includes the makefile of the common headers by its installed path.
    makefile = headers / "Makefile"
    makefile.write_text(
        makefile.read_text().replace("/usr/src/", f"{build}/usr/src/")
    )
    _build(sources / f"{_STAND_IN}.c", headers, taken)
    wanted = _TAKEN
    if _ITS_NEED not in _paths(modules):
        _say_why_not(target, MEDIATED, f"has no module {_ITS_NEED}")
    else:
        try:
            _build(sources / f"{MEDIATED}.c", headers, taken)
            wanted = (*_TAKEN, _ITS_NEED)
        except programs.NotHere as reason:
            _say_why_not(target, MEDIATED, f"has another interface: {reason}")
    for path in list_files(modules, wanted):
        (taken / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(modules / path, taken / path)
    for name in ("modules.builtin", "modules.builtin.modinfo"):
        shutil.copyfile(modules / name, taken / name)
    (taken / "modules.order").write_text("")
    image = f"vmlinuz-{release}"
    shutil.copyfile(build / "boot" / image, boot / image)
    programs.run(*depmod, target, release)


def _build(
    source: pathlib.Path, headers: pathlib.Path, taken: pathlib.Path
) -> None:
    name = source.stem
    place = headers.parents[2] / name
    place.mkdir()
    shutil.copy(source, place)
    (place / "Makefile").write_text(f"obj-m := {name}.o\n")
    programs.run("make", "-C", headers, f"M={place}", "modules", "CC=gcc")
    updates = taken / "updates"
    updates.mkdir(exist_ok=True)
    shutil.copy(place / f"{name}.ko", updates)


def _reasons(target: pathlib.Path, module: str) -> pathlib.Path:
    return target / "boot" / f"why-no-{module}"


def _say_why_not(target: pathlib.Path, module: str, reason: str) -> None:
    _reasons(target, module).write_text(
        f"the distribution's kernel {reason}\n"
    )


def why_not(target: pathlib.Path, module: str) -> str | None:
    """Tell why a module of ours was not made; None: it was."""
    path = _reasons(target, module)
    return path.read_text().strip() if path.exists() else None


def _needs(modules: pathlib.Path) -> dict[str, list[str]]:
    """What each module needs, keyed by its path."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    return needs


def _paths(modules: pathlib.Path) -> dict[str, str]:
    """The path of each module, keyed by its name."""
    return {
        pathlib.PurePath(path).stem.replace("-", "_"): path
        for path in _needs(modules)
    }


def list_files(modules: pathlib.Path, wanted: Iterable[str]) -> list[str]:
    """List the files of modules, each after those that it needs."""
    needs = _needs(modules)
    paths = _paths(modules)
    found: list[str] = []
    for name in wanted:
        path = paths[name]
        # modules.dep names the nearest first.
        for one in (*reversed(needs[path]), path):
            if one not in found:
                found.append(one)
    return found
