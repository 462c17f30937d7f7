# SPDX-License-Identifier: Apache-2.0

"""The model of our scheduler, by which bench compares it with best fit."""

import pytest

from bench import simulation
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy

FABRIC = LinkPolicy(Requirement.FABRIC)
MIX = workload.Mix(
    tuple(
        (workload.Flavor(gpus, link=FABRIC if gpus > 1 else None), share)
        for gpus, share in ((1, 0.4), (2, 0.2), (4, 0.2), (8, 0.2))
    ),
    arrivals=500,
)


class _Both(schedulers.GpuScheduler):
    """Asks our scheduler and the model, and goes with ours."""

    def __init__(self):
        super().__init__(seed=1)
        self._model = simulation.Model()
        self.compared = []

    def choose(self, flavor, cloud):
        ours = super().choose(flavor, cloud)
        model = self._model.choose(flavor, cloud)
        self.compared.append(tuple(map(_look, (ours, model))))
        return ours


def _look(chosen):
    """Say which host is chosen, and how fragmented it is left."""
    if isinstance(chosen, schedulers.Refused):
        return None
    host = chosen.host
    left = fragmentation.fragmentation(
        host.kind.topology, host.free ^ chosen.mask
    )
    return host.number, left


@pytest.fixture
def hosts():
    return hosts_file.read([{"machine": "hgx-h100-fabric", "count": 30}], "t")


def test_the_model_makes_the_choices_of_our_scheduler(hosts):
    both = _Both()
    cloud = clouds.Cloud(hosts)
    engine.replay(MIX.draw(cloud.capacity, 1.4, seed=1), cloud, both)
    ours, model = zip(*both.compared, strict=True)
    assert ours == model
    assert None in ours  # some were refused


def test_best_fit_takes_whole_partitions_of_the_fullest_host(hosts):
    cloud = clouds.Cloud(hosts)
    cloud.take(cloud.hosts[2], 0b00000011)
    cloud.take(cloud.hosts[3], 0b00001111)
    # Host 2 has more free GPUs; the pair of host 3 leaves one pair whole.
    chosen = simulation.BestFit().choose(
        workload.Flavor(2, link=FABRIC), cloud
    )
    assert chosen.host.number == 3
    assert cloud.hosts[3].kind.satisfies(chosen.mask, FABRIC)
    cloud.take(cloud.hosts[3], 0b11110000)
    # A single GPU breaks the pair beside the one that is taken, no quad.
    chosen = simulation.BestFit().choose(workload.Flavor(1), cloud)
    assert (chosen.host.number, chosen.mask & 0b1100) == (2, chosen.mask)
