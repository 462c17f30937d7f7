# SPDX-License-Identifier: Apache-2.0

"""Translate a request spec of nova into what a pool matcher reads."""

import uuid

from oslo_config import cfg

from nova_gpu_filter import conf
from nova_gpu_filter.pools import request
from nova_gpu_filter.topology import policy

CONF = cfg.CONF


def asks_for_devices(spec_obj) -> bool:
    """Whether a request spec has any PCI request."""
    return bool(spec_obj.pci_requests and spec_obj.pci_requests.requests)


def names_alias(spec_obj) -> bool:
    """Whether a request spec has a PCI request of its flavor.

    Those of ports are not what ``gpu:spread`` is about.
    """
    return asks_for_devices(spec_obj) and any(
        asked.alias_name is not None
        for asked in spec_obj.pci_requests.requests
    )


def read_spec_obj(spec_obj) -> request.DeviceRequests:
    """Read the PCI requests and the policies of the flavor.

    :param spec_obj: a ``nova.objects.RequestSpec`` that asks for devices.
    """
    link_policy = bad_link_policy = spread = None
    flavor = spec_obj.flavor if "flavor" in spec_obj else None
    if flavor is not None and "extra_specs" in flavor:
        try:
            link_policy = policy.parse(flavor.extra_specs or {})
            if names_alias(spec_obj):
                spread = policy.parse_spread(flavor.extra_specs or {})
        except policy.PolicyError as exc:
            name = flavor.name if "name" in flavor else "of the server"
            bad_link_policy = f"flavor {name}: {exc}"
    asked = spec_obj.pci_requests.requests
    return request.DeviceRequests(
        tuple(map(request.DeviceRequest.from_nova, asked)),
        link_policy=link_policy,
        bad_link_policy=bad_link_policy,
        spread=spread,
        seed=get_seed(spec_obj),
        request_mix=conf.request_mix(CONF),
        first_fit=_is_moved(spec_obj),
    )


def _is_moved(spec_obj) -> bool:
    """Whether an existing server looks for a host.

    The conductor then asks for its cell (nova/conductor/tasks/migrate.py). A
    guest with a NUMA topology is left out: the devices that nova-compute takes
    depend on the cell that NUMATopologyFilter finds for it.
    """
    destination = None
    if "requested_destination" in spec_obj:
        destination = spec_obj.requested_destination
    return (
        destination is not None
        and "cell" in destination
        and destination.cell is not None
        and not ("numa_topology" in spec_obj and spec_obj.numa_topology)
    )


def is_guest_on_cells(spec_obj) -> bool:
    """Whether NUMATopologyFilter asks about each candidate of one server.

    Of a request for several servers, later ones need what the first leaves.
    """
    return bool(
        "numa_topology" in spec_obj
        and spec_obj.numa_topology
        and not ("num_instances" in spec_obj and spec_obj.num_instances > 1)
    )


def get_instance_uuid(spec_obj) -> str | None:
    """Return the instance that is scheduled, None if nobody says."""
    if "instance_uuid" not in spec_obj:
        return None
    return spec_obj.instance_uuid


def get_seed(spec_obj) -> int:
    """Return the number that spreads instances over equal device sets."""
    instance = get_instance_uuid(spec_obj)
    return uuid.UUID(instance).int if instance else 0
