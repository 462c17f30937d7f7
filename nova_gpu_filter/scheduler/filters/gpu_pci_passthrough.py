# SPDX-License-Identifier: Apache-2.0

"""The scheduler filter, a drop-in for nova's PciPassthroughFilter."""

from collections.abc import Mapping
import contextvars
import dataclasses
import threading

from nova.scheduler import filters
from nova.scheduler import utils
from oslo_config import cfg
from oslo_log import log as logging

from nova_gpu_filter import conf
from nova_gpu_filter.pools import loader
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import host_pools
from nova_gpu_filter.scheduler import in_flight

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Question:
    """One run of the filter over the hosts of one request."""

    spec_obj: object
    requests: request.DeviceRequests
    instance_uuid: str | None
    refusals: list[refusal.Refusal] = dataclasses.field(default_factory=list)
    offered: dict[str, frozenset[str]] = dataclasses.field(
        default_factory=dict
    )
    """Host state UUID -> providers of the devices of its first candidate."""

    @classmethod
    def about(cls, spec_obj) -> "_Question":
        """Read the requests of a request spec, once for all hosts."""
        return cls(
            spec_obj,
            device_requests.from_spec_obj(spec_obj),
            device_requests.instance_uuid(spec_obj),
        )


# Nova calls host_passes for one host at a time, several requests at once in
# several threads: what the hosts of one run share is kept here.
_question: contextvars.ContextVar[_Question | None] = contextvars.ContextVar(
    "question", default=None
)


class GpuPciPassthroughFilter(
    filters.BaseHostFilter,
    filters.CandidateFilterMixin,
):
    """Passes hosts whose free PCI devices can serve the request.

    Takes the place of ``PciPassthroughFilter`` of
    nova/scheduler/filters/pci_passthrough_filter.py: for PCI aliases of the
    flavor and for Neutron SR-IOV ports, with and without PCI in Placement. It
    removes the allocation candidates that cannot be met from the host state
    and puts the rest in the order of the pool matcher, as the scheduler claims
    the first one. Why a host was refused is logged at DEBUG, and once a
    request, as a summary over all hosts, at INFO.

    :raises PoolMatcherNotFound: ``[gpu_filter]pool_matcher`` is unknown.
    :raises PoolMatcherBroken: it cannot be loaded.
    :raises BadRequestMix: ``[gpu_filter]request_mix`` makes no sense.
    """

    RUN_ON_REBUILD = False

    def __init__(self) -> None:
        super().__init__()
        conf.register_opts(CONF)
        conf.request_mix(CONF)
        self._matcher = loader.load(CONF.gpu_filter.pool_matcher)
        self._in_flight = in_flight.InFlight(CONF.gpu_filter.in_flight_seconds)
        self._one_at_a_time = threading.Lock()

    def filter_all(self, filter_obj_list, spec_obj):
        """Return the hosts that pass, and log why the others do not."""
        host_states = list(filter_obj_list)
        # The same for all hosts, so it is asked here, not for each.
        if not device_requests.asks_for_devices(
            spec_obj
        ) or utils.request_is_rebuild(spec_obj):
            return host_states
        question = _Question.about(spec_obj)
        token = _question.set(question)
        try:
            # Two runs at once could offer the same devices to two instances.
            # Nothing here waits for anything but the processor, of which
            # Python gives one thread its turn at a time anyway.
            with self._one_at_a_time:
                passed = [
                    host_state
                    for host_state in host_states
                    if self.host_passes(host_state, spec_obj)
                ]
                if question.offered and question.instance_uuid:
                    self._in_flight.remember(
                        question.instance_uuid, question.offered
                    )
        finally:
            _question.reset(token)
        if question.refusals:
            LOG.info(
                "%s: %s",
                type(self).__name__,
                refusal.summarize(question.refusals, len(host_states)),
                instance_uuid=question.instance_uuid,
            )
        return passed

    def host_passes(self, host_state, spec_obj):
        """Return whether a host has the devices; drop unfit candidates."""
        question = _question.get()
        if question is None or question.spec_obj is not spec_obj:
            if not device_requests.asks_for_devices(spec_obj):
                return True
            question = _Question.about(spec_obj)
        refused = self._refuse(host_state, question)
        if refused is None:
            return True
        question.refusals.append(refused)
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug(
                "%s refused: %s",
                host_state,
                refusal.describe(refused),
                instance_uuid=question.instance_uuid,
            )
        return False

    def _refuse(self, host_state, question) -> refusal.Refusal | None:
        """Say why a host is refused, None if it passes."""
        pci_stats = host_state.pci_stats
        if not pci_stats:
            return refusal.Refusal(refusal.Cause.NO_PCI_DEVICES)
        if not host_pools.is_readable(pci_stats):
            return self._ask_nova(host_state, question.spec_obj)
        candidates = host_state.allocation_candidates
        try:
            match = self._matcher.match(
                host_pools.from_pci_stats(
                    pci_stats, taken=self._taken(host_state, question)
                ),
                question.requests,
                [candidate["mappings"] for candidate in candidates],
            )
            accepted = [candidates[index] for index in match.accepted]
        except Exception:
            LOG.exception(
                "The pool matcher %r ([gpu_filter]pool_matcher) failed on %s;"
                " asking Nova's own PCI statistics instead. Please report this"
                " to those who provide the matcher.",
                CONF.gpu_filter.pool_matcher,
                host_state,
            )
            return self._ask_nova(host_state, question.spec_obj)
        host_state.allocation_candidates = accepted
        if accepted:
            if self._matcher.orders:
                self._offer(host_state, question)
            return None
        return match.refusal or refusal.Refusal(refusal.Cause.UNEXPLAINED)

    def _taken(self, host_state, question) -> Mapping[str, int]:
        """Count the other instances that may claim devices any moment."""
        if (
            not self._matcher.orders
            or not self._in_flight
            or question.instance_uuid is None
        ):
            return {}
        return self._in_flight.taken(
            question.instance_uuid,
            host_state.uuid,
            {
                pool.get("rp_uuid")
                for pool in host_state.pci_stats.pools
                if pool["count"]
            },
        )

    @staticmethod
    def _offer(host_state, question) -> None:
        """Note which devices the instance would claim on this host."""
        mapping = host_state.allocation_candidates[0]["mappings"]
        # Of several VFs behind one provider there is one for others, too.
        shared = {
            pool.get("rp_uuid")
            for pool in host_state.pci_stats.pools
            if pool["count"] > 1
        }
        devices = question.requests.rp_uuids_in(mapping) - shared
        if devices:
            question.offered[host_state.uuid] = devices

    def _ask_nova(self, host_state, spec_obj) -> refusal.Refusal | None:
        """Decide exactly as nova's filter does."""
        if self.filter_candidates(
            host_state,
            lambda candidate: host_state.pci_stats.support_requests(
                spec_obj.pci_requests.requests,
                provider_mapping=candidate["mappings"],
            ),
        ):
            return None
        return refusal.Refusal(refusal.Cause.UNEXPLAINED)
