# SPDX-License-Identifier: Apache-2.0

"""Link types between two devices of a host, as vendors' tools name them."""

import enum
from typing import Final
from typing import NewType

Link = NewType("Link", int)
"""How two devices are connected: the greater, the better.

The order is that of the legend of ``nvidia-smi topo -m``. Bonded links count
one each, so that the sum over the pairs of a set grows with bandwidth
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
"""Most links of one kind that a pair can have; 18 on Hopper, so there is room.
"""

DIRECT_KINDS: Final = (
    # (name, most that one pair can have bonded; None: the kind has no number)
    # NVIDIA: legend of nvidia-smi topo -m.
    ("NV", MAX_BONDED),
    # AMD Instinct: link type of rocm-smi --showtopo; MI250 bonds 1 to 4.
    ("XGMI", MAX_BONDED),
    # Huawei Ascend: legend of npu-smi info -t topo.
    ("HCCS", None),
    # Intel Gaudi: Ethernet ports of the processors, wired to each other.
    ("GAUDI", None),
    # Ethernet ports of other accelerators, or through a switch.
    ("ROCE", None),
)
"""Links that devices have beside PCIe. The number in the name of a link is how
many are bonded. Those of different kinds never are in one host: their order
only has to be some order."""


def _name_links() -> dict[str, Link]:
    """Name the links, worst first; each is worth one more than the last."""
    names = ["SYS", "NODE", "PHB", "PXB", "PIX"]
    for kind, most in DIRECT_KINDS:
        names += (
            [kind]
            if most is None
            else [f"{kind}{bonded}" for bonded in range(1, most + 1)]
        )
    return {name: Link(value) for value, name in enumerate([*names, "X"])}


_LINK_BY_NAME: Final = _name_links()
_NAME_BY_LINK: Final = {link: name for name, link in _LINK_BY_NAME.items()}

SELF: Final = _LINK_BY_NAME["X"]
"""A device and itself: better than any link, so that one device alone meets
every requirement."""

TYPES: Final = ", ".join(
    [
        f"{kind}1 to {kind}{most}" if most else kind
        for kind, most in DIRECT_KINDS
    ]
    + ["PIX", "PXB", "PHB"]
)
"""All names of links that a set of devices on one NUMA node can have, but for
``NODE``; for messages."""


def make_nvlink(bonded: int) -> Link:
    """Return the link of a pair with that many bonded NVLinks.

    :raises ValueError: not 1 to :data:`MAX_BONDED`.
    """
    if not 1 <= bonded <= MAX_BONDED:
        raise ValueError(f"{bonded} bonded NVLinks: must be 1 to {MAX_BONDED}")
    return _LINK_BY_NAME[f"NV{bonded}"]


def is_direct(link: Link) -> bool:
    """Whether a link is one of the devices' own, and no way over PCIe."""
    return PIX < link < SELF


def parse(name: str) -> Link:
    """Read a name (``NV18``, ``XGMI1``, ``PIX``, ``X``) in any case.

    :raises ValueError: there is no such link.
    """
    try:
        return _LINK_BY_NAME[name.upper()]
    except KeyError:
        raise ValueError(
            f"{name!r} is no link type: must be {TYPES}, NODE or SYS"
        ) from None


def name(link: Link) -> str:
    """Name a link as its vendor does: the inverse of :func:`parse`."""
    return _NAME_BY_LINK[link]


class Requirement(enum.Enum):
    """What a flavor can ask of its devices in ``gpu:link``, strictest first.

    The value is what operators type.
    """

    FABRIC = "fabric"
    """The devices are exactly one whole fabric partition."""
    NVLINK = "nvlink"
    """Every pair has a direct link: NVLink, or what other vendors have for it.
    """
    PIX = "pix"
    """Every pair has at least PIX; a direct link is better, so it will do."""
    PXB = "pxb"
    PHB = "phb"
    NODE = "node"

    @property
    def floor(self) -> Link:
        """The worst link that a pair may have; for ``fabric`` any will do."""
        return _FLOOR_BY_REQUIREMENT[self]


_FLOOR_BY_REQUIREMENT: Final = {
    Requirement.FABRIC: SYS,
    Requirement.NVLINK: Link(PIX + 1),
    Requirement.PIX: PIX,
    Requirement.PXB: PXB,
    Requirement.PHB: PHB,
    Requirement.NODE: NODE,
}
