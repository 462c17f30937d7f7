# SPDX-License-Identifier: Apache-2.0

"""Link types between two devices of a host, as nvidia-smi names them."""

import enum
from typing import Final
from typing import NewType

Link = NewType("Link", int)
"""How two devices are connected: the greater, the better.

The order is that of the legend of ``nvidia-smi topo -m``. Bonded NVLinks
count one each, so that the sum over the pairs of a set grows with bandwidth
among sets of the same kind.
"""

SYS: Final = Link(0)
"""Through the interconnect between NUMA nodes."""
NODE: Final = Link(1)
"""Through several PCIe host bridges of one NUMA node."""
PHB: Final = Link(2)
"""Through one PCIe host bridge, typically the CPU."""
PXB: Final = Link(3)
"""Through several PCIe bridges, but no host bridge."""
PIX: Final = Link(4)
"""Through at most one PCIe bridge."""

MAX_BONDED: Final = 99
"""Most NVLinks that one pair can have; 18 on Hopper, so there is room."""

SELF: Final = Link(PIX + MAX_BONDED + 1)
"""A device and itself: better than any link, so that one device alone meets
every requirement."""

_LINK_BY_NAME: Final = {
    "SYS": SYS,
    "NODE": NODE,
    "PHB": PHB,
    "PXB": PXB,
    "PIX": PIX,
    **{f"NV{n}": Link(PIX + n) for n in range(1, MAX_BONDED + 1)},
    "X": SELF,
}
_NAME_BY_LINK: Final = {link: name for name, link in _LINK_BY_NAME.items()}


def nvlink(bonded: int) -> Link:
    """Return the link of a pair with that many bonded NVLinks.

    :raises ValueError: not 1 to :data:`MAX_BONDED`.
    """
    if not 1 <= bonded <= MAX_BONDED:
        raise ValueError(f"{bonded} bonded NVLinks: must be 1 to {MAX_BONDED}")
    return Link(PIX + bonded)


def parse(name: str) -> Link:
    """Read a name of nvidia-smi (``NV18``, ``PIX``, ``X``) in any case.

    :raises ValueError: nvidia-smi has no such link.
    """
    try:
        return _LINK_BY_NAME[name.upper()]
    except KeyError:
        raise ValueError(
            f"{name!r} is no link type: must be NV1 to NV{MAX_BONDED},"
            " PIX, PXB, PHB, NODE or SYS"
        ) from None


def name(link: Link) -> str:
    """Name a link as nvidia-smi does: the inverse of :func:`parse`."""
    return _NAME_BY_LINK[link]


class Requirement(enum.Enum):
    """What a flavor can ask of its devices in ``gpu:link``, strictest first.

    The value is what operators type.
    """

    FABRIC = "fabric"
    """The devices are exactly one whole fabric partition."""
    NVLINK = "nvlink"
    """Every pair has at least one NVLink."""
    PIX = "pix"
    """Every pair has at least PIX; NVLink is better, so it will do."""
    PXB = "pxb"
    PHB = "phb"
    NODE = "node"

    @property
    def floor(self) -> Link:
        """The worst link that a pair may have; for ``fabric`` any will do."""
        return _FLOOR_BY_REQUIREMENT[self]


_FLOOR_BY_REQUIREMENT: Final = {
    Requirement.FABRIC: SYS,
    Requirement.NVLINK: nvlink(1),
    Requirement.PIX: PIX,
    Requirement.PXB: PXB,
    Requirement.PHB: PHB,
    Requirement.NODE: NODE,
}
