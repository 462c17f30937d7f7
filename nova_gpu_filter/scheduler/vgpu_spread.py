# SPDX-License-Identifier: Apache-2.0

"""Put candidates that spread vGPUs over GPUs, or pack them, first.

vGPUs of mediated devices are no PCI devices: a flavor asks Placement for them
(``resources1:VGPU=1``), whose providers are the physical GPUs, and
nova-compute makes them where the allocation says (``_allocate_mdevs`` in
nova/virt/libvirt/driver.py), also when a server moves. How many are free of a
GPU is not known to nova-scheduler.
"""

import functools

from oslo_log import log as logging

from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import resource_groups
from nova_gpu_filter.pools import spreading
from nova_gpu_filter.topology import policy

LOG = logging.getLogger(__name__)


def order_candidates(host_states: list, spec_obj) -> None:
    """Sort the allocation candidates of each host by ``gpu:spread``.

    Nothing is done for flavors without it, and those with fewer than two
    request groups of their own for vGPUs, between which to choose.

    :param spec_obj: a ``nova.objects.RequestSpec`` whose flavor has no PCI
        alias.
    """
    flavor = spec_obj.flavor if "flavor" in spec_obj else None
    if flavor is None or "extra_specs" not in flavor:
        return
    specs = flavor.extra_specs or {}
    if policy.SPREAD_KEY not in specs:
        return
    try:
        spread = policy.parse_spread(specs)
    except policy.PolicyError as exc:
        _warn(str(exc), flavor.name if "name" in flavor else "of the server")
        return
    suffixes = frozenset(
        asked.suffix
        for asked in resource_groups.parse(specs)
        if asked.suffix
        and asked.amount
        # ``mdev_class`` of nova-compute names the others.
        and (
            asked.resource_class == resource_groups.VGPU
            or asked.resource_class.startswith(names.CUSTOM)
        )
    )
    if spread is None or len(suffixes) < 2:
        return
    for host_state in host_states:
        candidates = host_state.allocation_candidates
        order = spreading.order_by_providers(
            spread,
            [
                [
                    provider
                    for suffix, providers in candidate["mappings"].items()
                    if suffix in suffixes
                    for provider in providers
                ]
                for candidate in candidates
            ],
        )
        host_state.allocation_candidates = [candidates[i] for i in order]


@functools.lru_cache(maxsize=1024)
def _warn(problem: str, flavor: str) -> None:
    """Warn once of each flavor; nova-api refuses such values by now."""
    LOG.warning("Flavor %s: %s. It has no effect.", flavor, problem)
