# SPDX-License-Identifier: Apache-2.0

"""The scheduler filter, a drop-in for nova's PciPassthroughFilter."""

import contextvars
import dataclasses

from nova.scheduler import filters
from oslo_config import cfg
from oslo_log import log as logging

from nova_gpu_filter import conf
from nova_gpu_filter.pools import loader
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.scheduler import host_pools

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Question:
    """One run of the filter over the hosts of one request."""

    spec_obj: object
    requests: request.DeviceRequests
    instance_uuid: str | None
    refusals: list[refusal.Refusal] = dataclasses.field(default_factory=list)

    @classmethod
    def about(cls, spec_obj) -> "_Question":
        """Read the requests of a request spec, once for all hosts."""
        return cls(
            spec_obj,
            request.DeviceRequests.from_nova(spec_obj.pci_requests.requests),
            # Asking an object of nova for a field that was not set raises.
            spec_obj.instance_uuid if "instance_uuid" in spec_obj else None,
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
    """

    RUN_ON_REBUILD = False

    def __init__(self) -> None:
        super().__init__()
        conf.register_opts(CONF)
        self._matcher = loader.load(CONF.gpu_filter.pool_matcher)

    def filter_all(self, filter_obj_list, spec_obj):
        """Return the hosts that pass, and log why the others do not."""
        if not _asks_for_devices(spec_obj):
            return list(filter_obj_list)
        host_states = list(filter_obj_list)
        question = _Question.about(spec_obj)
        token = _question.set(question)
        try:
            passed = list(super().filter_all(host_states, spec_obj))
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
        if not _asks_for_devices(spec_obj):
            return True
        question = _question.get()
        if question is None or question.spec_obj is not spec_obj:
            question = _Question.about(spec_obj)
        refused = self._refuse(host_state, question)
        if refused is None:
            return True
        question.refusals.append(refused)
        LOG.debug(
            "%s refused: %s",
            host_state,
            _Described(refused),
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
                host_pools.from_pci_stats(pci_stats),
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
            return None
        return match.refusal or refusal.Refusal(refusal.Cause.UNEXPLAINED)

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


@dataclasses.dataclass(frozen=True, slots=True)
class _Described:
    """A refusal that becomes text only if the log line is written."""

    refused: refusal.Refusal

    def __str__(self) -> str:
        return refusal.describe(self.refused)


def _asks_for_devices(spec_obj) -> bool:
    return bool(spec_obj.pci_requests and spec_obj.pci_requests.requests)
