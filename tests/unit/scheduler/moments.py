# SPDX-License-Identifier: Apache-2.0

"""Nova's scheduler managers on a Placement of a few lines, without I/O.

Requests of one moment have all read the free devices before the first of them
claims any: :meth:`Cloud.read` and :meth:`Scheduler.schedule` are two steps.
"""

import itertools
import random
from unittest import mock
import uuid

from nova import context
from nova import exception
from nova import objects
from nova.pci import stats
from nova.scheduler import filters
from nova.scheduler import host_manager
from nova.scheduler import manager
from nova.scheduler import weights
from oslo_utils.fixture import uuidsentinel as uuids

from nova_gpu_filter.scheduler import free_devices
from tests import machines
from tests import pools

GPUS = 8
CLASS = "CUSTOM_PCI_10DE_2330"
AMOUNT = (CLASS, 1)


class Cloud:
    """Hosts with eight GPUs, and which of them are allocated."""

    def __init__(self, *hosts, seed=1):
        self.hosts = hosts
        self.held = {}
        """Instance -> providers of its devices."""
        self.claims = 0
        self.questions = 0
        """What was asked after the first answer."""
        self._random = random.Random(seed)

    def uuid(self):
        return str(uuid.UUID(int=self._random.getrandbits(128)))

    def free(self, host):
        held = set().union(*self.held.values())
        names = (f"{host}/gpu{device}" for device in range(GPUS))
        return [name for name in names if name not in held]

    def hold(self, host, count):
        """Take the first GPUs of a host away."""
        for name in self.free(host)[:count]:
            self.held[name] = {name}

    def claim(self, instance, candidate):
        """Allocate a candidate, as Placement would."""
        self.claims += 1
        devices = devices_of(candidate)
        if not devices.isdisjoint(set().union(*self.held.values())):
            return False
        self.held[instance] = devices
        return True

    def list_free(self, host, amounts):
        """Stand for :func:`free_devices.list_free`."""
        assert [*amounts] == [AMOUNT]
        self.questions += 1
        return {AMOUNT: frozenset(self.free(host))}

    def read(self, *counts, **fields):
        """Read what requests for so many GPUs get to see now.

        :param fields: of the request specs.
        """
        return [self._read(count, **fields) for count in counts]

    def _read(self, count, **fields):
        request_id = self.uuid()
        candidates, states = {}, []
        for host in self.hosts:
            free = self.free(host)
            sets = list(itertools.combinations(free, count))
            self._random.shuffle(sets)
            candidates[host] = [
                {
                    "allocations": {host: {"resources": {"VCPU": 1}}}
                    | {
                        device: {"resources": {CLASS: 1}} for device in devices
                    },
                    "mappings": {"": [host]}
                    | {
                        f"{request_id}-{n}": [d] for n, d in enumerate(devices)
                    },
                }
                for devices in sets
            ]
            if sets:
                states.append(host_state(host, free))
        return request_spec(count, request_id, **fields), candidates, states


def devices_of(candidate):
    return {
        provider
        for suffix, (provider,) in candidate["mappings"].items()
        if suffix
    }


def host_state(host, free):
    state = host_manager.HostState(host, host, uuids.cell)
    state.uuid = host
    state.free_ram_mb = 1000
    state.pci_stats = stats.PciDeviceStats(objects.NUMATopology(cells=[]))
    numbers = [int(name.rpartition("gpu")[2]) for name in free]
    state.pci_stats.pools = [
        pool | {"rp_uuid": name}
        for pool, name in zip(
            pools.of(machines.hgx_h100(), numbers), free, strict=True
        )
    ]
    return state


def request_spec(count, request_id, **fields):
    device_request = objects.InstancePCIRequest(
        count=count,
        request_id=request_id,
        alias_name="h100",
        spec=[dict(pools.H100)],
        numa_policy=None,
    )
    flavor = {"memory_mb": 10, "vcpus": 1, "root_gb": 0, "ephemeral_gb": 0}
    spec_obj = objects.RequestSpec(
        **{
            "flavor": objects.Flavor(name="gpu", extra_specs={}, **flavor),
            "pci_requests": objects.InstancePCIRequests(
                requests=[device_request]
            ),
            "requested_resources": [
                objects.RequestGroup(requester_id=f"{request_id}-{n}")
                for n in range(count)
            ],
            "num_instances": 1,
            "project_id": uuids.project,
            "user_id": uuids.user,
            "image": objects.ImageMeta(
                properties=objects.ImageMetaProps(), id=uuids.image
            ),
            "instance_group": None,
            "numa_topology": None,
            "scheduler_hints": {},
            "ignore_hosts": None,
            "force_hosts": None,
            "force_nodes": None,
            "requested_destination": None,
        }
        | fields
    )
    spec_obj.obj_reset_changes()
    return spec_obj


class Scheduler(manager.SchedulerManager):
    """One worker of nova-scheduler, but for what it reads from services."""

    def __init__(self, cloud, enabled_filters, weighers):
        self.cloud = cloud
        self.host_manager = host_manager.HostManager.__new__(
            host_manager.HostManager
        )
        self.host_manager.filter_handler = filters.HostFilterHandler()
        self.host_manager.weight_handler = weights.HostWeightHandler()
        self.host_manager.enabled_filters = enabled_filters
        self.host_manager.weighers = weighers

    @property
    def placement_client(self):
        return self

    def claim_resources(self, _context, instance, candidate, *_args, **_more):
        """Stand for the report client."""
        return self.cloud.claim(instance, candidate)

    def delete_allocation_for_instance(self, _context, instance, **_more):
        """Stand for the report client."""
        self.cloud.held.pop(instance, None)

    def get_allocations_for_consumer(self, *_args):
        """Stand for the report client."""
        return {}

    def _get_all_host_states(self, *_args):
        return iter(self._states)

    def schedule(self, question, instances=1):
        """Choose hosts with what was read.

        Instances are the members of the server group, if there is one.

        :returns: for each instance its selections, the chosen one first; None
            where there is no valid host.
        """
        spec_obj, candidates, self._states = question
        instance_uuids = [self.cloud.uuid() for _ in range(instances)]
        if spec_obj.instance_group is not None:
            spec_obj.instance_group.members = instance_uuids
        try:
            with mock.patch.object(
                free_devices, "list_free", self.cloud.list_free
            ):
                return self._schedule(
                    context.get_admin_context(),
                    spec_obj,
                    instance_uuids,
                    candidates,
                    {},
                    return_alternates=True,
                )
        except exception.NoValidHost:
            return None
