# SPDX-License-Identifier: Apache-2.0

"""Which versions of programs a host has, by files that anybody may examine.

Nothing is run. dpkg writes its database as text (/var/lib/dpkg/status, deb822;
dpkg-query(1)). RPM's is a database that needs librpm, so that there only what
the programs themselves left counts: libvirt's cache of QEMU's capabilities
(src/qemu/qemu_capabilities.c: ``selfvers`` is libvirt's version, ``version``
QEMU's), Fabric Manager's log, and the version of a loaded kernel module.
"""

from collections.abc import Iterator
import dataclasses
import functools
import re

from nova_gpu_filter.host.sysfs import tree as tree_lib

DPKG = "/var/lib/dpkg/status"
QEMU_CACHE = "/var/cache/libvirt/qemu/capabilities"
FABRIC_MANAGER_LOG = "/var/log/fabricmanager.log"
NVIDIA_MODULE = "/sys/module/nvidia/version"
MOST = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """A version, and where it was seen."""

    text: str
    """``8.2.2``: without the distribution's own parts."""
    path: str
    content: str

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of it: (8, 2, 2)."""
        return tuple(map(int, re.findall(r"[0-9]+", self.text)))

    def __str__(self) -> str:
        return self.text


# Names of packages, as patterns, of Debian and Ubuntu.
_PACKAGES = {
    "libvirt": r"libvirt-daemon|libvirt-daemon-system|libvirt0",
    "qemu": r"qemu-system-(x86|arm|common)",
    "fabric manager": r"nvidia-fabricmanager(-[0-9]+)?",
    "nvlsm": r"nvlsm",
}


class Packages:
    """The versions of a host, read when they are asked for."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    @property
    def libvirt(self) -> Version | None:
        """The version of libvirt; None: it cannot be read."""
        return self._read_installed("libvirt") or self._read_cached("selfvers")

    @property
    def qemu(self) -> Version | None:
        """The version of QEMU; None: it cannot be read."""
        return self._read_installed("qemu") or self._read_cached("version")

    @property
    def fabric_manager(self) -> Version | None:
        """The version of Fabric Manager; None: it cannot be read."""
        return self._read_installed("fabric manager") or self._read_logged()

    @property
    def lacks_nvlsm(self) -> bool:
        """Whether Fabric Manager is installed without the subnet manager."""
        return (
            self._read_installed("fabric manager") is not None
            and self._read_installed("nvlsm") is None
        )

    @property
    def nvidia_module(self) -> Version | None:
        """The version of NVIDIA's module, where it is loaded."""
        text = self._tree.read(NVIDIA_MODULE)
        return Version(text, NVIDIA_MODULE, text) if text else None

    def _read_installed(self, program: str) -> Version | None:
        for name, version in self._dpkg:
            if re.fullmatch(_PACKAGES[program], name):
                text = _strip_revision(version)
                return Version(text, DPKG, f"Package: {name} {version}")
        return None

    @functools.cached_property
    def _dpkg(self) -> tuple[tuple[str, str], ...]:
        """Installed packages of interest: (name, version)."""
        data = self._tree.read_bytes(DPKG, MOST)
        if data is None:
            return ()
        return tuple(list_installed(data.decode("utf-8", "replace")))

    def _read_cached(self, element: str) -> Version | None:
        """Read what libvirt keeps of the QEMU that it found."""
        for name in self._tree.list_entries(QEMU_CACHE):
            path = f"{QEMU_CACHE}/{name}"
            match = re.search(
                rf"<{element}>([0-9]+)</{element}>",
                self._tree.read(path) or "",
            )
            if match:
                number = int(match[1])
                parts = (number // 10**6, number // 1000 % 1000, number % 1000)
                return Version(".".join(map(str, parts)), path, match[0])
        return None

    def _read_logged(self) -> Version | None:
        text = self._tree.read(FABRIC_MANAGER_LOG) or ""
        found = list_logged_versions(text)
        if not found:
            return None
        shown = f"Fabric Manager version {found[-1]}"
        return Version(found[-1], FABRIC_MANAGER_LOG, shown)


def list_installed(text: str) -> Iterator[tuple[str, str]]:
    """Give name and version of the packages of interest.

    :param text: the database of dpkg.
    """
    wanted = re.compile("|".join(_PACKAGES.values()))
    for stanza in text.split("\n\n"):
        fields = dict(
            re.findall(r"^(Package|Version|Status): (.*)$", stanza, re.M)
        )
        name = fields.get("Package", "")
        if wanted.fullmatch(name) and (
            fields.get("Status", "").endswith(" installed")
        ):
            yield name, fields.get("Version", "")


def list_logged_versions(text: str) -> list[str]:
    """List the versions with which Fabric Manager was started.

    :param text: its log.
    """
    return re.findall(
        r"Fabric Manager version(?: is)?:? ([0-9]+(?:\.[0-9]+)+)",
        text,
        re.IGNORECASE,
    )


def _strip_revision(version: str) -> str:
    """Take epoch and revision from a version of Debian (deb-version(7))."""
    version = version.partition(":")[2] or version
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return match[0] if match else version
