# SPDX-License-Identifier: Apache-2.0

"""The vGPU types of NVIDIA's driver: their numbers and their names.

Sources: NVIDIA's Virtual GPU Software User Guide, "Creating an NVIDIA vGPU on
a Linux with KVM Hypervisor that Uses a Vendor-Specific VFIO Framework"
(``creatable_vgpu_types`` has a line ``NUMBER : NAME`` for each type that a VF
can still become, so that it shrinks as VFs get theirs); the host's driver
installs ``vgpuConfig.xml``, which names all types that it knows.
"""

from collections.abc import Iterable
import dataclasses
import re

from nova_gpu_filter import printable
from nova_gpu_filter.host.sysfs import tree as tree_lib

CREATABLE = "nvidia/creatable_vgpu_types"
"""In the directory of a VF."""
CONFIG = "/usr/share/nvidia/vgpu/vgpuConfig.xml"
CONFIG_BYTES = 16 << 20

_LINE = re.compile(r"\s*([0-9]{1,9})\s*:\s*(\S.*?)\s*", re.ASCII)
_ELEMENT = re.compile(
    rb'<vgpuType\s[^>]*?\bid="(0x[0-9a-fA-F]{1,8}|[0-9]{1,9})"'
    rb'[^>]*?\bname="([^"<>]{1,80})"'
)
_VENDORS = ("nvidia ", "grid ")
# "NVIDIA A100-1-5C": slices of the GPU, then memory in GB and the series.
_OF_MIG = re.compile(r"[A-Za-z0-9 ]+(?:-[A-Za-z]+)?-[0-9]+-[0-9]+[A-Z]\w*")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class VgpuType(printable.OneLineTexts):
    """A kind of vGPU that a driver knows."""

    number: int
    name: str

    @property
    def is_of_mig(self) -> bool:
        """Whether its name is that of a part of a GPU in MIG mode."""
        return _OF_MIG.fullmatch(self.name) is not None


def parse_creatable(text: str) -> tuple[VgpuType, ...]:
    """Read ``nvidia/creatable_vgpu_types``; its heading is no type."""
    found = map(_LINE.fullmatch, text.splitlines())
    return tuple(VgpuType(int(one[1]), one[2]) for one in found if one)


def read_known(tree: tree_lib.Tree) -> tuple[VgpuType, ...]:
    """Read the types that the installed driver knows; often there is none."""
    data = tree.read_bytes(CONFIG, CONFIG_BYTES) or b""
    return tuple(
        VgpuType(int(number, 0), name.decode("utf-8", "replace"))
        for number, name in _ELEMENT.findall(data)
    )


def _normalize_name(name: str) -> str:
    text = " ".join(name.lower().split())
    for vendor in _VENDORS:
        text = text.removeprefix(vendor)
    return text


def find(wanted: str, known: Iterable[VgpuType]) -> frozenset[int]:
    """Give the numbers of a type that was named; several: its name is not
    clear; empty: nothing has that name.

    :param wanted: ``NVIDIA A40-8Q``, ``A40-8Q``, or the number.
    """
    if wanted.isdecimal():
        return frozenset({int(wanted)})
    return frozenset(
        one.number
        for one in known
        if _normalize_name(one.name) == _normalize_name(wanted)
    )
