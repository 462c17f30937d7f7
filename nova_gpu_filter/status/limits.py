# SPDX-License-Identifier: Apache-2.0

"""The options of Placement that matter where the extension does not run.

Read from a placement.conf where one is given; no API shows them. Names and
defaults are those of placement/conf/placement.py and workarounds.py.
"""

import dataclasses

from oslo_config import cfg

from nova_gpu_filter import conf as gpu_conf
from nova_gpu_filter import exception
from nova_gpu_filter.conf import placement_extension
from nova_gpu_filter.nova_rules import conf_files

_OPTIONS = {
    "placement": [
        cfg.IntOpt("max_allocation_candidates", default=-1),
        cfg.IntOpt("allocation_conflict_retry_count", default=10),
        cfg.StrOpt(
            "allocation_candidates_generation_strategy",
            default="depth-first",
        ),
    ],
    "workarounds": [
        cfg.BoolOpt("optimize_for_wide_provider_trees", default=False),
    ],
}
_MOST_CANDIDATES = 1000
"""What Placement's own help advises for wide trees, and what Nova asks for."""

CURE = {
    "optimize_for_wide_provider_trees": (
        "[workarounds]optimize_for_wide_provider_trees = true"
    ),
    "max_allocation_candidates": (
        f"[placement]max_allocation_candidates = {_MOST_CANDIDATES}"
    ),
    "allocation_candidates_generation_strategy": (
        "[placement]allocation_candidates_generation_strategy = breadth-first"
    ),
}
"""The option of placement.conf, and the line to write."""

TRIES = "[placement]allocation_conflict_retry_count"
"""How often a write of allocations is tried."""

ONE_TRY = f"{TRIES} = 1"
"""The line that keeps Placement from trying a write again by itself."""


class UnreadableError(Exception):
    """The file cannot be read; the message says why."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a placement.conf says."""

    missing: tuple[str, ...]
    """Keys of :data:`CURE` that are not as they should be."""
    tries: int
    """How often a write of allocations is tried."""
    max_sets_per_tree: int
    """Our own option; 0 turns the extension off."""
    request_mix: tuple[tuple[int, float], ...]
    """Our own option, as ``conf.request_mix`` reads it."""


def read(path: str) -> Limits:
    """Read a placement.conf.

    :raises UnreadableError: it is not there, or no configuration file.
    """
    conf = cfg.ConfigOpts()
    for group, options in _OPTIONS.items():
        conf.register_opts(options, group=group)
    placement_extension.register_opts(conf)
    try:
        with conf_files.read_into(conf, [path], project="placement"):
            options = conf.placement
            # Without a value it is none.
            most = options.max_allocation_candidates or -1
            strategy = options.allocation_candidates_generation_strategy
            wide = conf.workarounds.optimize_for_wide_provider_trees
            good = {
                "optimize_for_wide_provider_trees": wide,
                "max_allocation_candidates": 0 < most <= _MOST_CANDIDATES,
                "allocation_candidates_generation_strategy": (
                    strategy == "breadth-first"
                ),
            }
            return Limits(
                tuple(name for name in CURE if not good[name]),
                options.allocation_conflict_retry_count,
                conf.gpu_filter.max_sets_per_tree,
                gpu_conf.request_mix(conf),
            )
    except exception.GpuFilterError as exc:
        raise UnreadableError(f"{path} cannot be read: {exc}") from exc
