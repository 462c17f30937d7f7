# SPDX-License-Identifier: Apache-2.0

"""Is all of a board there: a GPU that has failed is not in sysfs at all.

Source: the boards of links/baseboards.py. Reports of such hosts, in which the
kernel leaves out a device whose configuration space it cannot read
("unknown header type 7f"): NVIDIA/open-gpu-kernel-modules#853.
"""

import collections

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.links.baseboards import Baseboard

_BOARD = Reporter("board")
_CURES = (
    "# look for it in the BMC's event log and in dmesg; then, with no guest"
    " that uses a GPU:",
    "echo 1 > /sys/bus/pci/rescan",
    "# if that does not bring it back: power the host off and on, and have the"
    " board examined",
)


def check(context: Context) -> Findings:
    """Compare the numbers of GPUs and NVSwitches with those of the board."""
    if iommu_platforms.is_virtual(context):
        # A guest has what it was given.
        return
    counts = collections.Counter(
        gpu.product_id
        for gpu in context.host.gpus
        if baseboards.list_boards(gpu)
    )
    switches = len(context.host.nvswitches)
    for product_id, gpus in counts.items():
        board = _find_board(product_id, gpus, switches)
        if board is None:
            continue
        for what, count, wanted in (
            ("GPUs", gpus, board.gpus),
            ("NVSwitches", switches, board.nvswitches or 0),
        ):
            if count < wanted:
                yield _BOARD.warning(
                    f"{count} of the {wanted} {what} of this board"
                    f" ({board.model}) are there",
                    Evidence(
                        address_lib.DEVICES,
                        f"{gpus} GPUs 10de:{product_id:04x}, {switches}"
                        " NVSwitches",
                    ),
                    cures=_CURES,
                )


def _find_board(product_id: int, gpus: int, switches: int) -> Baseboard | None:
    """Find the board that a host seems to have; None: no board is like it."""
    like = [
        board
        for board in baseboards.BASEBOARDS.values()
        if board.is_board and product_id in board.products
    ]
    boards = [one for one in like if bool(one.nvswitches) == bool(switches)]
    if not any(board.gpus >= gpus for board in boards):
        # No board has so many GPUs without NVSwitches: those have failed.
        # Smaller ones are made without, also of models not listed here.
        boards += [board for board in like if gpus > board.gpus // 2]
    # Trays of NVL36 have half as many GPUs as those of NVL72.
    sizes = {board.gpus for board in boards}
    sizes |= {board.gpus // 2 for board in boards if board.spans_hosts}
    if gpus in sizes:
        boards = [board for board in boards if board.gpus == gpus]
    larger = [board for board in boards if board.gpus >= gpus]
    return min(larger, key=lambda board: board.gpus, default=None)
