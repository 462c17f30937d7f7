# SPDX-License-Identifier: Apache-2.0

"""Our scheduler, Nova's and a plain best fit on the same servers.

Best fit is what a GPU-aware scheduler of a few lines would do: of the hosts
with a whole fabric partition of that size free, the one with the fewest free
GPUs; of its partitions, the one that breaks the smallest larger one. Ours has
to be no worse.

Equal sets of GPUs are permuted, so that two runs differ by some tenths of a
percent, and many are needed to tell schedulers apart. ``--model`` takes a
model of our scheduler, which makes the same choices in a tenth of the time
(tests/unit/simulate/test_model.py holds it to that), and leaves Nova out.

    python -m bench.simulation [--model] [arrivals [seeds]]
"""

import functools
import random
import statistics
import sys

from nova import objects
from oslo_config import cfg

from nova_gpu_filter import conf
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import scenario
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology import fragmentation

SCENARIO = "etc/nova-gpu-filter/simulate/hgx-fabric.yaml"


@functools.lru_cache(maxsize=4096)
def _least_broken(kind: hosts_file.HostKind, free: int, k: int) -> int | None:
    """Choose the free partition that breaks the smallest larger one."""
    topology = kind.topology
    sizes = {partition.size for partition in topology.partitions}
    whole = [
        (size, mask)
        for size in sizes
        for mask in topology.whole_partitions(size, free)
    ]
    return min(
        topology.whole_partitions(k, free),
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
        return schedulers.refused_by_placement(flavor, cloud)


@functools.lru_cache(maxsize=4096)
def _least_damage(
    kind: hosts_file.HostKind, free: int, k: int
) -> tuple[tuple[float, float], list[int]] | None:
    """Return the least damage, and the partitions that do it."""
    measure = fragmentation.build_measure(
        kind.topology, fragmentation.DEFAULT_MIX
    )
    masks_by_damage: dict[tuple[float, float], list[int]] = {}
    for mask in kind.topology.whole_partitions(k, free):
        damage = measure.increase(free, mask), measure.linked_loss(free, mask)
        masks_by_damage.setdefault(damage, []).append(mask)
    return min(masks_by_damage.items(), default=None)


class Model(schedulers.Scheduler):
    """Our scheduler with its default options, on hosts with partitions.

    Only what decides there: GpuFragmentationWeigher. Each of its steps counts
    more than PCIWeigher, which says the same anyway.
    """

    name = "gpu model"

    def __init__(self, seed: int = 0) -> None:
        """Prepare the choice between equal partitions."""
        self._chance = random.Random(seed)

    def choose(
        self, flavor: workload.Flavor, cloud: clouds.Cloud
    ) -> schedulers.Placed | schedulers.Refused:
        """See :meth:`schedulers.Scheduler.choose`."""
        found = [
            (host, *least)
            for host, _ in cloud.list_distinct_hosts(flavor.model, flavor.gpus)
            if (least := _least_damage(host.kind, host.free, flavor.gpus))
        ]
        if not found:
            return schedulers.refused_by_placement(flavor, cloud)
        host, _, masks = min(
            found, key=lambda least: (*least[1], least[0].free.bit_count())
        )
        return schedulers.Placed(host, self._chance.choice(masks))


def main() -> None:
    """Print one line a load, seed and scheduler, and the means."""
    objects.register_all()
    conf.register_opts(cfg.CONF)
    given = [text for text in sys.argv[1:] if text != "--model"]
    changes = {"arrivals": int(given[0])} if given else {}
    seeds = int(given[1]) if len(given) > 1 else 1
    makes = [schedulers.GpuScheduler, schedulers.StockScheduler]
    if "--model" in sys.argv:
        makes = [Model]
    accepted: dict[str, dict[str, list[float]]] = {}
    print("load      seed  scheduler  GPUs accepted  on whole partitions")
    for seed in range(1, seeds + 1):
        asked = scenario.load(SCENARIO, changes=changes | {"seed": seed})
        for run in asked.runs:
            for scheduler in (*(make(seed=seed) for make in makes), BestFit()):
                cloud = clouds.Cloud(asked.hosts)
                outcome = engine.replay(
                    run.arrivals(cloud.capacity), cloud, scheduler
                )
                accepted.setdefault(run.label, {}).setdefault(
                    scheduler.name, []
                ).append(outcome.acceptance_by_gpus)
                print(
                    f"{run.label:9} {seed:4}  {scheduler.name:10}"
                    f" {outcome.acceptance_by_gpus:12.4f}"
                    f" {outcome.satisfied:20.4f}",
                    flush=True,
                )
    if seeds > 1:
        print("\nMeans, and of the differences to best fit, in points:")
        for load, shares in accepted.items():
            for name, found in shares.items():
                points = [
                    100 * (share - base)
                    for share, base in zip(
                        found, shares[BestFit.name], strict=True
                    )
                ]
                error = statistics.stdev(points) / len(points) ** 0.5
                print(
                    f"{load:9} {name:10} {statistics.mean(found):.4f}"
                    f" {statistics.mean(points):+.3f} +- {error:.3f}"
                )


if __name__ == "__main__":
    main()
