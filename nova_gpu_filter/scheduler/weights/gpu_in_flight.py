# SPDX-License-Identifier: Apache-2.0

"""GPU in flight weigher: let requests of one moment go to several hosts."""

from collections.abc import Iterator

from nova_gpu_filter.pools import request
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import in_flight
from nova_gpu_filter.scheduler.weights import base


class GpuInFlightWeigher(base._Weigher):
    """Prefers hosts on which no other request claims the same devices first.

    The scheduler tries one allocation candidate a host, so a request that
    loses the race for its devices on one host after the other fails, though
    there were devices for it. This weigher has to stand last: it sees what the
    others made of the hosts, and settles which host will be tried first, and
    with which candidate, so that the next request is kept out of its way.
    """

    multiplier_name = "gpu_in_flight_weight_multiplier"
    # Not normalized: where all hosts are alike, none is preferred anyway.
    minval = 0.0
    maxval = 1.0

    def weigh_objects(self, weighed_obj_list, weight_properties):
        """Return 0 for hosts whose devices others claim first, else 1.

        On a host that has another candidate, that one is put first.
        """
        instance_uuid = device_requests.instance_uuid(weight_properties)
        memory = in_flight.holding(instance_uuid)
        if memory is None or not all(
            self.weight_multiplier(host.obj) for host in weighed_obj_list
        ):
            return [0.0] * len(weighed_obj_list)
        best_first = sorted(
            weighed_obj_list, key=lambda host: host.weight, reverse=True
        )
        requests = device_requests.from_spec_obj(weight_properties)
        choice = memory.choose(
            instance_uuid,
            {
                host.obj.uuid: _candidates(host.obj, requests)
                for host in best_first
            },
        )
        for host in weighed_obj_list:
            candidates = host.obj.allocation_candidates
            if place := choice.places.get(host.obj.uuid):
                candidates.insert(0, candidates.pop(place))
        return [
            0.0 if host.obj.uuid in choice.contested else 1.0
            for host in weighed_obj_list
        ]

    def _weigh_object(self, obj, weight_properties):
        """Return 0: Nova wants the method, but hosts are weighed together."""
        return 0.0


def _candidates(
    host_state, requests: request.DeviceRequests
) -> Iterator[frozenset[str]]:
    """Yield the providers of the devices of each candidate, the first first.

    Only the first, where nova-compute will take its devices in any case.
    """
    for candidate in host_state.allocation_candidates:
        yield requests.rp_uuids_in(candidate["mappings"])
        if requests.first_fit:
            return
