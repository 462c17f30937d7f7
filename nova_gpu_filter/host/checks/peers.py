# SPDX-License-Identifier: Apache-2.0

"""Is a device as the others of its model on the same host?"""

import collections
from collections.abc import Callable
import dataclasses

from nova_gpu_filter import sizes
from nova_gpu_filter.host.checks import pcie_links
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.inventory import Function

_PEERS = Reporter("peers")


def format_bars(device: Function) -> str | None:
    """Write the sizes of a device's BARs: ``BAR1=128 GiB``."""
    sized = [
        f"BAR{bar.index}={sizes.format_size(bar.size)}" for bar in device.bars
    ]
    return " ".join(sized) or None


def _format_width(device: Function) -> str | None:
    width = device.pcie_link.width if device.pcie_link else None
    return f"x{width}" if width not in (None, 0, pcie_links.NO_WIDTH) else None


def _get_speed(device: Function) -> str | None:
    speed = device.pcie_link.speed if device.pcie_link else None
    unknown = (None, pcie_links.IDLE_GTS)
    return None if pcie_links.parse_gts(speed) in unknown else speed


def _format_most_link(device: Function) -> str | None:
    link = device.pcie_link
    return f"{link.max_speed} x{link.max_width}" if link else None


def format_resets(device: Function) -> str | None:
    """List the ways to reset a device; None: the kernel does not say."""
    methods = device.reset_methods
    return None if methods is None else " ".join(methods) or "none"


@dataclasses.dataclass(frozen=True, slots=True)
class Likeness:
    """What devices of one model on one host have in common."""

    what: str
    file: str
    value: Callable[[Function], str | None]
    """None: the device does not say, or it may differ now."""
    is_of_link: bool = False


_LIKENESSES = (
    Likeness("BARs", "resource", format_bars),
    Likeness(
        "the width of its link", "current_link_width", _format_width, True
    ),
    Likeness("the speed of its link", "current_link_speed", _get_speed, True),
    Likeness(
        "the link that it can have", "max_link_speed", _format_most_link, True
    ),
    Likeness(
        "the number of VFs",
        "sriov_totalvfs",
        lambda device: str(device.sriov_totalvfs or 0),
    ),
    Likeness("ways to be reset", "reset_method", format_resets),
)


def check(context: Context, device: Function, has_bad_link: bool) -> Findings:
    """Compare a device with those of the same model, where most agree."""
    peers = _find_peers(context, device)
    for likeness in _LIKENESSES:
        own = likeness.value(device)
        others = [value for peer in peers if (value := likeness.value(peer))]
        if own is None or len(others) < 2:
            continue
        if has_bad_link and likeness.is_of_link:
            # It has been said.
            continue
        usual, count = collections.Counter(others).most_common(1)[0]
        if usual == own or 2 * count <= len(others) + 1:
            continue
        yield _PEERS.warning(
            f"the device differs from {count} of the same model in"
            f" {likeness.what}: {own}, not {usual}",
            Evidence(f"{device.address.path}/{likeness.file}", own),
            Evidence(f"{peers[0].address.path}/{likeness.file}", usual),
            device=device.address,
            cures=(
                "# look for other firmware on the card, another slot or riser,"
                " or settings of the slot in the firmware's setup",
            ),
        )


def find_bars_of_peers(context: Context, device: Function) -> set[int]:
    """Name the BARs that most peers have, and the device has not."""
    peers = _find_peers(context, device)
    own = {bar.index for bar in device.bars}
    counts = collections.Counter(
        bar.index for peer in peers for bar in peer.bars
    )
    return {
        index
        for index, count in counts.items()
        if index not in own and 2 * count > len(peers)
    }


def _find_peers(context: Context, device: Function) -> list[Function]:
    return [
        other
        for other in context.host.functions
        if other.physfn is None
        and other is not device
        and other.ids == device.ids
        and (other.subvendor_id, other.subproduct_id)
        == (device.subvendor_id, device.subproduct_id)
    ]
