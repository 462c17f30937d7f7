# SPDX-License-Identifier: Apache-2.0

"""GPUs that a choice of others makes useless to later requests (F)."""

import functools
import itertools

from bench import hgx_hosts


def measure(free: int, mask: int) -> float:
    """Return how much the fragmentation grows when some GPUs are taken."""
    from nova_gpu_filter.topology import fragmentation

    fragments = fragmentation.build_measure(
        hgx_hosts.build_topology(), fragmentation.DEFAULT_MIX
    )
    return fragments.measure_damage(free, mask)[0]


def is_linked(mask: int) -> bool:
    """Whether some GPUs are a whole fabric partition."""
    return any(
        part.mask == mask for part in hgx_hosts.build_topology().partitions
    )


@functools.lru_cache(maxsize=4096)
def find_least(k: int, free: int, only_linked: bool) -> float:
    """Return the least damage that k of the free GPUs of a host do."""
    bits = [gpu for gpu in range(hgx_hosts.GPUS) if free >> gpu & 1]
    masks = (
        sum(1 << gpu for gpu in chosen)
        for chosen in itertools.combinations(bits, k)
    )
    return min(
        (
            measure(free, mask)
            for mask in masks
            if is_linked(mask) or not only_linked
        ),
        default=float("inf"),
    )
