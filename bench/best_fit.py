# SPDX-License-Identifier: Apache-2.0

"""What a GPU-aware scheduler of a few lines would do; ours is no worse.

Of the hosts with a whole fabric partition of that size free, the one with the
fewest free GPUs; of its partitions, the one that breaks the smallest larger
one.
"""

import functools

from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload


@functools.lru_cache(maxsize=4096)
def _least_broken(kind: hosts_file.HostKind, free: int, k: int) -> int | None:
    """Choose the free partition that breaks the smallest larger one."""
    topology = kind.topology
    sizes = {partition.size for partition in topology.partitions}
    whole = [
        (size, mask)
        for size in sizes
        for mask in topology.list_whole_partitions(size, free)
    ]
    return min(
        topology.list_whole_partitions(k, free),
        key=lambda mask: max(size for size, larger in whole if larger & mask),
        default=None,
    )


class BestFit(schedulers.Scheduler):
    """Partition-aware best fit; knows nothing of Nova."""

    name = "best fit"

    def choose(
        self, flavor: workload.Flavor, cloud: clouds.Cloud
    ) -> schedulers.Placed | schedulers.Refused:
        """See :meth:`schedulers.Scheduler.choose`."""
        fullest_first = sorted(
            (host.free.bit_count(), host.number, host)
            for host, _ in cloud.list_distinct_hosts(flavor.model, flavor.gpus)
        )
        for _, _, host in fullest_first:
            mask = _least_broken(host.kind, host.free, flavor.gpus)
            if mask is not None:
                return schedulers.Placed(host, mask)
        return schedulers.explain_no_candidates(flavor, cloud)
