# SPDX-License-Identifier: Apache-2.0

"""What can be claimed on a host by now, after other claims were lost."""

from collections.abc import Callable
from collections.abc import Sequence
import itertools
from typing import Final

from oslo_log import log as logging

from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import substitution
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import free_devices
from nova_gpu_filter.scheduler.views import Candidate

LOG = logging.getLogger(__name__)

_MOST_SUBSTITUTES: Final = 256
"""Device sets that the pool matcher compares at most: more than 70, those of
four of eight devices."""


class LatestCandidates:
    """The candidates of one host for one request, looked at again."""

    def __init__(
        self,
        host_state,
        spec_obj,
        requests: request.DeviceRequests,
        accept: Callable[[list[Candidate]], list[Candidate]],
    ) -> None:
        """Nothing is asked yet.

        :param accept: gives those that the host can serve, best first.
        """
        self._host_state = host_state
        self._spec_obj = spec_obj
        self._requests = requests
        self._accept = accept
        self._listed = len(host_state.allocation_candidates)
        self._is_full = False

    def choose(self, own: Sequence[Candidate]) -> list[Candidate]:
        """Choose what to claim.

        :param own: candidates that come first, if their devices are free.
        :returns: one candidate, all of whose devices are free; none where no
            set is left; ``own`` if Placement does not say.
        """
        if self._is_full:
            return []
        try:
            return self._choose(own)
        except Exception:
            LOG.exception(
                "The device sets of %s could not be looked at again; those"
                " that Placement listed before are claimed as they are.",
                self._host_state,
            )
            return list(own)

    def _choose(self, own: Sequence[Candidate]) -> list[Candidate]:
        listed = self._host_state.allocation_candidates
        free = free_devices.list_free(
            self._host_state.uuid, self._list_classes([*own, *listed])
        )
        if free is None:
            return list(own)
        for candidate in (*own, *listed):
            if self._devices_of(candidate) <= free:
                return [candidate]
        chosen = self._substitute(listed, free)[:1]
        self._is_full = not chosen
        LOG.debug(
            "%(host)s: %(found)s, as the sets that Placement listed were"
            " claimed by others.",
            {
                "host": self._host_state,
                "found": "another device set is claimed"
                if chosen
                else "no device set is left",
            },
            instance_uuid=device_requests.instance_uuid(self._spec_obj),
        )
        return chosen

    def _substitute(
        self, listed: list[Candidate], free: frozenset[str]
    ) -> list[Candidate]:
        """List other sets of the devices that Placement listed."""
        # Filters that judge candidates have not seen these.
        if len(listed) != self._listed or (
            "numa_topology" in self._spec_obj and self._spec_obj.numa_topology
        ):
            return []
        return self._accept(
            list(
                itertools.islice(
                    substitution.substitute(listed, self._requests, free),
                    _MOST_SUBSTITUTES,
                )
            )
        )

    def _devices_of(self, candidate: Candidate) -> frozenset[str]:
        return self._requests.rp_uuids_in(candidate["mappings"])

    def _list_classes(self, candidates: Sequence[Candidate]) -> list[str]:
        """List the resource classes of the devices."""
        return sorted(
            {
                name
                for candidate in candidates
                for device in self._devices_of(candidate)
                for name in candidate["allocations"][device]["resources"]
            }
        )
