# SPDX-License-Identifier: Apache-2.0

"""Which other flavor would fit where this one does not.

One with a weaker link, or with another number of devices.
"""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict
from nova_gpu_filter.topology import advice
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy


def list_cures(
    host: model.Host, wanted: demand.Demand
) -> Iterator[verdict.Cure]:
    """Say which weaker link, or how many devices, would fit."""
    if not wanted.devices:
        return
    lead, *others = wanted.devices
    policy = wanted.link_policy
    found = host_fit.find_devices(host, lead)
    if policy is not None and policy.required:
        for requirement in advice.list_met_requirements(
            found.topology, found.free, lead.count
        ):
            weaker = dataclasses.replace(
                wanted, link_policy=LinkPolicy(requirement)
            )
            if host_fit.fits(host, weaker):
                yield verdict.Cure(
                    verdict.WEAKER_LINK,
                    0,
                    f"with gpu:link={requirement.value}",
                )
                break
        else:
            without = dataclasses.replace(wanted, link_policy=None)
            if host_fit.fits(host, without):
                yield verdict.Cure(verdict.NO_LINK, 0, "without gpu:link")
    for counts in (range(lead.count - 1, 0, -1), _list_larger(found, wanted)):
        for count in counts:
            other = dataclasses.replace(
                wanted,
                devices=(dataclasses.replace(lead, count=count), *others),
            )
            if host_fit.fits(host, other):
                loss = abs(lead.count - count)
                yield verdict.Cure(
                    verdict.OTHER_SIZE, loss, f"with {lead.alias.name}:{count}"
                )
                break


def _list_larger(
    found: linked_devices.LinkedDevices, wanted: demand.Demand
) -> Iterator[int]:
    """List larger partitions where none has the size asked for."""
    count, policy = wanted.devices[0].count, wanted.link_policy
    if policy is None or policy.link is not Requirement.FABRIC:
        return
    sizes = sorted(found.count_partitions())
    if policy.required and count not in sizes:
        yield from (size for size in sizes if size > count)
