# SPDX-License-Identifier: Apache-2.0

"""Our scheduler, Nova's and a plain best fit on the same servers.

Best fit is what a GPU-aware scheduler of a few lines would do: of the hosts
with a whole fabric partition of that size free, the one with the fewest free
GPUs; of its partitions, the one out of the smallest larger partition that is
still whole. It is what ours has to be no worse than.

    python -m bench.simulation [arrivals [seeds]]
"""

import sys

from nova import objects
from oslo_config import cfg

from nova_gpu_filter import conf
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import scenario
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload

SCENARIO = "etc/nova-gpu-filter/simulate/hgx-fabric.yaml"


class BestFit(schedulers.Scheduler):
    """Partition-aware best fit; knows nothing of Nova."""

    name = "best fit"

    def choose(
        self, flavor: workload.Flavor, cloud: clouds.Cloud
    ) -> schedulers.Placed | schedulers.Refused:
        """See :meth:`schedulers.Scheduler.choose`."""
        found = [
            (host.free.bit_count(), host.number, host, masks)
            for host, _ in cloud.looks(flavor.model, flavor.gpus)
            if (
                masks := host.kind.topology.whole_partitions(
                    flavor.gpus, host.free
                )
            )
        ]
        if not found:
            return schedulers.refused_by_placement(flavor, cloud)
        host, masks = min(found)[2:]
        sizes = sorted({p.size for p in host.kind.topology.partitions})

        def broken(mask: int) -> int:
            """Size of the largest free partition that the set breaks."""
            return max(
                size
                for size in sizes
                for larger in host.kind.topology.whole_partitions(
                    size, host.free
                )
                if larger & mask
            )

        return schedulers.Placed(host, min(masks, key=broken))


def main() -> None:
    """Print one line a load, seed and scheduler."""
    objects.register_all()
    conf.register_opts(cfg.CONF)
    given = [int(number) for number in sys.argv[1:]]
    changes = {"arrivals": given[0]} if given else {}
    seeds = given[1] if len(given) > 1 else 1
    print("seed  load      scheduler  accepted by GPUs  on whole partitions")
    for seed in range(1, seeds + 1):
        asked = scenario.load(SCENARIO, changes=changes | {"seed": seed})
        for run in asked.runs:
            for scheduler in (
                schedulers.GpuScheduler(seed=seed),
                schedulers.StockScheduler(seed=seed),
                BestFit(),
            ):
                cloud = clouds.Cloud(asked.hosts)
                outcome = engine.replay(
                    run.arrivals(cloud.capacity), cloud, scheduler
                )
                print(
                    f"{seed:4}  {run.label:9} {scheduler.name:10}"
                    f" {outcome.acceptance_by_gpus:16.4f}"
                    f" {outcome.satisfied:20.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
