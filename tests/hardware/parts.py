# SPDX-License-Identifier: Apache-2.0

"""Gets what machines are made of: QEMU, a kernel, its modules, udev.

QEMU and a compiler are installed when they are missing. Everything else is
unpacked from Debian packages into a directory of its own, so that neither a
kernel nor a service is added to the machine that runs the tests. What was
made is used again until a source of it changes.
"""

import dataclasses
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

from tests.hardware import kernel_modules
from tests.hardware import programs
from tests.hardware import qemu
from tests.hardware import site

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SOURCES = pathlib.Path(__file__).resolve().parent
CACHE = REPOSITORY / ".cache" / "hardware"
SWITCH = "NOVA_GPU_HARDWARE"
"""Set in the environment where machines may be booted."""

_MAKERS = ("kernel_modules.py", "parts.py", "programs.py", "site.py")
"""Of these and the sources in C and shell is made what is kept."""

# Program -> package.
_INSTALLED = {
    qemu.BINARY: "qemu-system-x86",
    "gcc": "gcc",
    "make": "make",
}
_UNPACKED = (
    "busybox-static",
    "kmod",
    "libkmod2",
    "libsystemd-shared",
    "libudev1",
    "pci.ids",
    "udev",
)
_TO_BUILD = ("libc6-dev",)
# These are unpacked with what they need and this machine lacks.
_SERVICES = (
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    # libvirt makes mediated devices with it.
    "mdevctl",
    "python3-libvirt",
    "pciutils",
    # By it nova-compute copies the disks of servers to another host.
    "openssh-client",
    "openssh-server",
    # nova-compute reads images with qemu-img.
    "qemu-utils",
    "socat",
)

# Of Python itself, not of its environment, which is left at home.
PYTHON = pathlib.Path(sys.base_prefix, "bin", "python3")


@dataclasses.dataclass(frozen=True)
class Parts:
    """Where everything is."""

    cache: pathlib.Path

    @property
    def extras(self) -> pathlib.Path:
        """The unpacked packages, which guests see at /extras."""
        return self.cache / "extras"

    @property
    def busybox(self) -> pathlib.Path:
        """A static busybox."""
        return self.extras / "bin" / "busybox"

    @property
    def payload(self) -> pathlib.Path:
        """A kernel that is a guest's whole operating system."""
        return self.extras / "boot" / "payload"

    @property
    def library(self) -> pathlib.Path:
        """What is preloaded into QEMU."""
        return self.cache / "emulated.so"

    @property
    def initrd(self) -> pathlib.Path:
        """The root file system of guests, without /etc.

        It has packages of the environment that the tests run in.
        """
        return self.cache / f"initrd-{pathlib.Path(sys.prefix).name}"

    @property
    def release(self) -> str:
        """The version of the guests' kernel."""
        (place,) = (self.extras / "lib" / "modules").iterdir()
        return place.name

    @property
    def no_mediated_devices(self) -> str | None:
        """Why our module that makes mediated devices is not there."""
        return kernel_modules.why_not(self.extras, kernel_modules.MEDIATED)

    @property
    def kernel(self) -> pathlib.Path:
        """The guests' kernel."""
        return self.extras / "boot" / f"vmlinuz-{self.release}"


def shares(parts: Parts) -> tuple[qemu.Share, ...]:
    """List what guests see of this machine, read-only."""
    wanted = ("/usr", sys.base_prefix, sys.prefix, str(REPOSITORY))
    paths: list[str] = []
    for path in sorted(map(os.path.realpath, wanted)):
        if not any(
            os.path.commonpath((path, known)) == known for known in paths
        ):
            paths.append(path)
    return (
        *(
            qemu.Share(f"share{number}", path)
            for number, path in enumerate(paths)
        ),
        qemu.Share("extras", str(parts.extras)),
    )


def get() -> Parts:
    """Get everything, from the cache where it is there.

    :raises programs.NotHere: it cannot be had on this machine.
    """
    if platform.machine() != "x86_64" or not shutil.which("dpkg-deb"):
        raise programs.NotHere("this is no Debian-like x86-64 machine")
    if os.geteuid() != 0:
        raise programs.NotHere("only root may do this")
    _install()
    parts = Parts(CACHE)
    made_of = _hash_sources(shares(parts))
    if not _is_made_of(CACHE, made_of):
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        _make(parts)
        _mark(CACHE, made_of)
    made_of += f"\n{site.key()}"
    if not _is_made_of(parts.initrd, made_of):
        _make_initrd(parts)
        _mark(parts.initrd, made_of)
    return parts


def _is_made_of(made: pathlib.Path, made_of: str) -> bool:
    """Whether something is there and was made of these sources."""
    mark = CACHE / f"{made.name}.made-of"
    return mark.exists() and mark.read_text() == made_of


def _mark(made: pathlib.Path, made_of: str) -> None:
    (CACHE / f"{made.name}.made-of").write_text(made_of)


def _hash_sources(seen: tuple[qemu.Share, ...]) -> str:
    made_of = hashlib.sha256(f"{seen}".encode())
    for path in sorted(SOURCES.rglob("*")):
        if (
            path.suffix in (".c", ".sh")
            or path.name in _MAKERS
            or path.parent.name == "bin"
        ):
            made_of.update(path.read_bytes())
    return made_of.hexdigest()


_APT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


def _apt(*command: str, cwd: pathlib.Path | None = None) -> str:
    """Run apt, the second time with fresh lists."""
    try:
        return programs.run(*command, cwd=cwd, env=_APT)
    except programs.NotHere:
        programs.run("apt-get", "update", env=_APT)
        return programs.run(*command, cwd=cwd, env=_APT)


def _install() -> None:
    missing = [
        package
        for program, package in _INSTALLED.items()
        if not shutil.which(program)
    ]
    if missing:
        print(f"Installing {' '.join(missing)}.", flush=True)
        _apt(
            *("apt-get", "install", "--yes", "--no-install-recommends"),
            *(*missing, *_TO_BUILD),
        )


def _kernel_packages() -> list[str]:
    text = _apt("apt-cache", "depends", "linux-image-amd64")
    match = re.search(r"Depends: linux-image-(\d\S+)-amd64", text)
    if match is None:
        raise programs.NotHere(
            "the distribution has no kernel named linux-image-amd64"
        )
    version = match[1]
    headers = f"linux-headers-{version}-amd64"
    needed = re.findall(
        r"Depends: (linux-(?:headers|kbuild)\S+)",
        programs.run("apt-cache", "depends", headers, env=_APT),
    )
    return [f"linux-image-{version}-amd64", headers, *needed]


def _lacking(*packages: str) -> list[str]:
    """List what apt would install with these packages, and them."""
    said = _apt(
        *("apt-get", "install", "--simulate", "--no-install-recommends"),
        *packages,
    )
    return re.findall(r"^Inst (\S+)", said, re.MULTILINE)


def _make(parts: Parts) -> None:
    print(
        f"Making {CACHE.relative_to(REPOSITORY)}: a kernel and what goes"
        " with it, about a minute.",
        flush=True,
    )
    build = CACHE / "build"
    packages = CACHE / "packages"
    packages.mkdir()
    wanted = {*_UNPACKED, *_lacking(*_SERVICES), *_kernel_packages()}
    _apt("apt-get", "download", *sorted(wanted), cwd=packages)
    for package in sorted(packages.iterdir()):
        is_kernels = package.name.startswith("linux-")
        target = build if is_kernels else parts.extras
        programs.run("dpkg-deb", "-x", package, target)
    shutil.rmtree(packages)
    _merge_libraries(parts.extras)
    _make_links_relative(parts.extras)
    # Names come from pci.ids, if a test asks for it: it is faster to read.
    shutil.rmtree(parts.extras / "lib" / "udev" / "hwdb.d")
    kernel_modules.make(SOURCES, build, parts.extras)
    shutil.rmtree(build)
    programs.run(
        *("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror"),
        *("-o", parts.library, SOURCES / "emulated.c"),
    )
    programs.run(
        *("gcc", "-m32", "-O1", "-Wall", "-Werror", "-ffreestanding"),
        *("-fno-pie", "-fno-stack-protector", "-fcf-protection=none"),
        *("-nostdlib", "-static", "-Wl,-Ttext=0x100000,--build-id=none"),
        *("-Wl,-z,noexecstack", "-o", parts.payload),
        SOURCES / "payload.c",
    )


def _merge_libraries(root: pathlib.Path) -> None:
    """Have all libraries in /usr/lib, where /lib of a system leads to.

    Packages of Debian 12 still have files in both.
    """
    for directory in (root / "lib").glob("*-linux-gnu"):
        merged = root / "usr" / "lib" / directory.name
        shutil.copytree(directory, merged, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(directory)


def _make_links_relative(root: pathlib.Path) -> None:
    """Have links stay in the directory: /sbin/modprobe leads to /bin/kmod."""
    for path in root.rglob("*"):
        if path.is_symlink() and os.readlink(path).startswith("/"):
            target = f"{root}{os.readlink(path)}"
            path.unlink()
            path.symlink_to(os.path.relpath(target, path.parent))


def _make_initrd(parts: Parts) -> None:
    """Make the root file system that is packed as initramfs."""
    root = CACHE / "root"
    for name in ("bin", "guest/lib", "guest/load", "lib"):
        (root / name).mkdir(parents=True)
    shutil.copy(parts.busybox, root / "bin")
    for name in ("sh", "bash"):
        (root / "bin" / name).symlink_to(f"/usr/bin/{name}")
    (root / "lib64").symlink_to("usr/lib64")
    shutil.copytree(SOURCES / "bin", root / "guest" / "bin")
    shutil.copy(SOURCES / "pack.sh", root / "guest")
    shutil.copy(SOURCES / "init.sh", root / "init")
    (root / "init").chmod(0o755)
    modules = parts.extras / "lib" / "modules" / parts.release
    lines = []
    for path in kernel_modules.list_files(modules, kernel_modules.FIRST):
        shutil.copy(modules / path, root / "guest" / "load")
        lines.append(f"/guest/load/{pathlib.PurePath(path).name}\n")
    (root / "guest" / "modules").write_text("".join(lines))
    _write_guest_files(parts, root / "guest")
    with open(parts.initrd, "wb") as file:
        subprocess.run(
            [
                *(str(parts.busybox), "sh", "-c"),
                *('"$0" find . | "$0" cpio -o -H newc', str(parts.busybox)),
            ],
            cwd=root,
            check=True,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    shutil.rmtree(root)


def _write_guest_files(parts: Parts, guest: pathlib.Path) -> None:
    seen = shares(parts)
    (guest / "shares").write_text(
        "".join(
            f"{share.tag} {'/extras' if share.tag == 'extras' else share.path}"
            " ro,cache=loose\n"
            for share in seen
        )
        + "state /state rw\n"
    )
    site.copy(guest / "site")
    (guest / "agent").write_text(
        f"cd {REPOSITORY} || fail 'there is no {REPOSITORY}'\n"
        # Commands may be typed in another directory.
        "export PYTHONDONTWRITEBYTECODE=1"
        f" PYTHONPATH=/guest/site:{REPOSITORY}\n"
        f"{PYTHON} -m tests.hardware.agent >/dev/console 2>&1\n"
    )
    command = guest / "bin" / "nova-gpu-host"
    command.write_text(
        "#!/bin/busybox sh\n"
        f'exec {PYTHON} -m nova_gpu_filter.cmd.host "$@"\n'
    )
    command.chmod(0o755)
