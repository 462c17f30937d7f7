# SPDX-License-Identifier: Apache-2.0

"""The plain best fit with which bench compares our scheduler."""

from bench import best_fit
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy

FABRIC = LinkPolicy(Requirement.FABRIC)


def test_best_fit_takes_whole_partitions_of_the_fullest_host():
    cloud = clouds.Cloud(
        hosts_file.read([{"machine": "hgx-h100-fabric", "count": 30}], "t")
    )
    cloud.take(cloud.hosts[2], 0b00000011)
    cloud.take(cloud.hosts[3], 0b00001111)
    # Host 2 has more free GPUs; the pair of host 3 leaves one pair whole.
    chosen = best_fit.BestFit().choose(workload.Flavor(2, link=FABRIC), cloud)
    assert chosen.host.number == 3
    assert cloud.hosts[3].kind.satisfies(chosen.mask, FABRIC)
    cloud.take(cloud.hosts[3], 0b11110000)
    # A single GPU breaks the pair beside the one that is taken, no quad.
    chosen = best_fit.BestFit().choose(workload.Flavor(1), cloud)
    assert (chosen.host.number, chosen.mask & 0b1100) == (2, chosen.mask)
