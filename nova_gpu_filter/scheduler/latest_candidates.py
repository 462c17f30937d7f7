# SPDX-License-Identifier: Apache-2.0

"""What can be claimed by now, after other claims of a request were lost."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Any
from typing import Final
from typing import TypeAlias

from oslo_log import log as logging

from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import substitution
from nova_gpu_filter.pools.substitution import Amount
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import free_devices
from nova_gpu_filter.scheduler.views import Candidate
from nova_gpu_filter.scheduler.views import Choose
from nova_gpu_filter.topology.cliques import Steps

LOG = logging.getLogger(__name__)

Accept: TypeAlias = Callable[[Any, list[Candidate]], list[Candidate]]
"""Of a host state and candidates, gives those that the host can serve, best
first."""

_MOST_SUBSTITUTES: Final = 256
"""Device sets that the pool matcher compares at most: more than 70, those of
four of eight devices."""
_MOST_STEPS: Final = 4096
"""To find them: some milliseconds."""
_MOST_IN_VAIN: Final = 4
"""Claims of one host that are lost though their devices are still free: it
lacks something else. One or two can be lost to concurrent updates."""


@dataclasses.dataclass(eq=False)
class LatestCandidates:
    """The candidates of the hosts of one request, looked at again."""

    spec_obj: Any
    requests: request.DeviceRequests
    accept: Accept
    are_unknown: bool = False
    """Whether it could not be found out once, so that it is not tried again:
    the request has waited for it."""

    def choose_on(self, host_state) -> Choose:
        """Return what chooses among the candidates of a host, late.

        It is given candidates that come first, if their devices are free, and
        returns one candidate all of whose devices are free; none where no set
        is left; the given ones if it cannot be found out.
        """
        return _Host(host_state, self).choose


class _Host:
    """One of the hosts."""

    def __init__(self, host_state, latest: LatestCandidates) -> None:
        self._host_state = host_state
        self._latest = latest
        self._listed = len(host_state.allocation_candidates)
        self._is_full = False
        self._last: Candidate | None = None
        self._in_vain = 0

    def choose(self, own: Sequence[Candidate]) -> list[Candidate]:
        if self._is_full:
            return []
        if not self._latest.are_unknown:
            try:
                chosen = self._choose(own)
            except Exception:
                LOG.exception(
                    "The device sets of %s could not be read from Placement;"
                    " those that it listed before are claimed as they are.",
                    self._host_state,
                )
                chosen = None
            if chosen is not None:
                return chosen
            self._latest.are_unknown = True
        return list(own)

    def _choose(self, own: Sequence[Candidate]) -> list[Candidate] | None:
        """Choose; None if Placement does not say what is free."""
        listed = [*own, *self._host_state.allocation_candidates]
        free = free_devices.list_free(
            self._host_state.uuid, self._list_amounts(listed)
        )
        if free is None:
            return None
        if self._last is not None and self._is_free(self._last, free):
            self._in_vain += 1
        else:
            self._in_vain = 0
        if self._in_vain == _MOST_IN_VAIN:
            self._is_full = True
            return []
        self._last = next(
            (one for one in listed if self._is_free(one, free)), None
        ) or self._substitute(listed, free)
        return [] if self._last is None else [self._last]

    def _substitute(
        self,
        listed: Sequence[Candidate],
        free: Mapping[Amount, frozenset[str]],
    ) -> Candidate | None:
        """Choose another set of the devices that Placement listed."""
        latest = self._latest
        steps = Steps(_MOST_STEPS)
        found: list[Candidate] = []
        # Filters that judge candidates have not seen these.
        if len(
            self._host_state.allocation_candidates
        ) == self._listed and not (
            "numa_topology" in latest.spec_obj
            and latest.spec_obj.numa_topology
        ):
            found = list(
                itertools.islice(
                    substitution.substitute(
                        listed, latest.requests, free, steps
                    ),
                    _MOST_SUBSTITUTES,
                )
            )
        accepted = latest.accept(self._host_state, found) if found else []
        # Else there may be others.
        are_all = len(found) < _MOST_SUBSTITUTES and steps.left >= 0
        self._is_full = not accepted and are_all
        LOG.debug(
            "%(host)s: %(found)s, as the sets that Placement listed were"
            " claimed by others.",
            {
                "host": self._host_state,
                "found": "another device set is claimed"
                if accepted
                else "no device set is left",
            },
            instance_uuid=device_requests.get_instance_uuid(latest.spec_obj),
        )
        return accepted[0] if accepted else None

    def _is_free(
        self, candidate: Candidate, free: Mapping[Amount, frozenset[str]]
    ) -> bool:
        return all(
            device in free.get(amount, ())
            for device, amount in self._generate_amounts(candidate)
        )

    def _generate_amounts(
        self, candidate: Candidate
    ) -> Iterable[tuple[str, Amount]]:
        """Generate the devices of a candidate, and what it takes of each."""
        devices = self._latest.requests.collect_rp_uuids(candidate["mappings"])
        for device in devices:
            for amount in substitution.list_amounts(candidate, device):
                yield device, amount

    def _list_amounts(self, candidates: Sequence[Candidate]) -> list[Amount]:
        return sorted(
            {
                amount
                for candidate in candidates
                for _, amount in self._generate_amounts(candidate)
            }
        )
