# SPDX-License-Identifier: Apache-2.0

"""The scheduler filter, a drop-in for nova's PciPassthroughFilter."""

import dataclasses
import functools

from nova.scheduler import filters
from nova.scheduler import utils
from nova.scheduler import weights
from oslo_config import cfg
from oslo_log import log as logging

from nova_gpu_filter import conf
from nova_gpu_filter.pools import alike
from nova_gpu_filter.pools import loader
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import host_pools
from nova_gpu_filter.scheduler import latest_candidates
from nova_gpu_filter.scheduler import vgpu_spread
from nova_gpu_filter.scheduler import views
from nova_gpu_filter.scheduler.weights import gpu_further_set

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
    def from_spec_obj(cls, spec_obj) -> "_Question":
        """Read the requests of a request spec, once for all hosts."""
        return cls(
            spec_obj,
            device_requests.read_spec_obj(spec_obj),
            device_requests.get_instance_uuid(spec_obj),
        )


class GpuPciPassthroughFilter(
    filters.BaseHostFilter,
    filters.CandidateFilterMixin,
):
    """Passes hosts whose free PCI devices can serve the request.

    Takes the place of ``PciPassthroughFilter`` of Nova, for PCI aliases of the
    flavor and Neutron SR-IOV ports, with and without PCI in Placement. It
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
        # Without their weigher, views would be compared with other hosts.
        self._lists_views = self._matcher.orders and any(
            issubclass(weigher, gpu_further_set.GpuFurtherSetWeigher)
            for weigher in weights.HostWeightHandler().get_matching_classes(
                CONF.filter_scheduler.weight_classes
            )
        )

    def filter_all(self, filter_obj_list, spec_obj):
        """Return the hosts that pass, and log why the others do not.

        After them they stand again, once for each further device set, see
        :mod:`nova_gpu_filter.scheduler.views`.
        """
        host_states = views.drop_views(filter_obj_list)
        # The same for all hosts, so it is asked here, not for each.
        if utils.request_is_rebuild(spec_obj):
            return host_states
        if self._matcher.orders and not device_requests.names_alias(spec_obj):
            vgpu_spread.order_candidates(host_states, spec_obj)
        if not device_requests.asks_for_devices(spec_obj):
            return host_states
        question = _Question.from_spec_obj(spec_obj)
        passed = [
            host_state
            for host_state in host_states
            if self._passes(host_state, question)
        ]
        if question.refusals:
            LOG.info(
                "%s: %s",
                type(self).__name__,
                refusal.summarize(question.refusals, len(host_states)),
                instance_uuid=question.instance_uuid,
            )
        return self._add_views(passed, question)

    def _add_views(self, host_states, question):
        """Add what to claim when others have the first choice of a host."""
        requests = question.requests
        # A server that moves gets the first devices, whatever is claimed. And
        # a random one of so many must be one of the hosts.
        if (
            not self._lists_views
            or requests.first_fit
            or CONF.filter_scheduler.host_subset_size > len(host_states)
        ):
            return host_states
        return views.add_views(
            host_states,
            lambda candidate: requests.collect_rp_uuids(candidate["mappings"]),
            CONF.gpu_filter.candidates_to_try,
            latest_candidates.LatestCandidates(
                question.spec_obj,
                requests,
                functools.partial(self._accept, requests),
            ).choose_on,
        )

    def _accept(self, requests, host_state, candidates):
        """List the candidates that a host can serve, best first."""
        if not host_pools.is_readable(host_state.pci_stats):
            return []
        match = self._matcher.match(
            host_pools.read_pci_stats(host_state.pci_stats),
            requests,
            [candidate["mappings"] for candidate in candidates],
        )
        return [candidates[index] for index in match.accepted]

    def host_passes(self, host_state, spec_obj):
        """Return whether a host has the devices; drop unfit candidates."""
        return not device_requests.asks_for_devices(spec_obj) or self._passes(
            host_state, _Question.from_spec_obj(spec_obj)
        )

    def _passes(self, host_state, question) -> bool:
        """Return whether a host passes; keep and log why it does not."""
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
        pools = host_pools.read_pci_stats(pci_stats)
        mappings = [candidate["mappings"] for candidate in candidates]
        try:
            match = self._matcher.match(pools, question.requests, mappings)
            accepted = [candidates[index] for index in match.accepted]
        except Exception:
            self._log_failed_matcher(host_state)
            return self._ask_nova(host_state, question.spec_obj)
        if self._matcher.orders and device_requests.is_guest_on_cells(
            question.spec_obj
        ):
            try:
                accepted = [
                    candidates[index]
                    for index in alike.keep_some_of_each_kind(
                        pools, question.requests, mappings, match.accepted
                    )
                ]
            except Exception:
                LOG.exception(
                    "Candidates of %s cannot be narrowed; all are kept.",
                    host_state,
                )
        host_state.allocation_candidates = accepted
        if accepted:
            return None
        return match.refusal or refusal.Refusal(refusal.Cause.UNEXPLAINED)

    def _log_failed_matcher(self, host_state):
        """Log the exception, and who can do something about it."""
        module = type(self._matcher).__module__
        is_ours = module.startswith("nova_gpu_filter.")
        LOG.exception(
            "The pool matcher %r ([gpu_filter]pool_matcher) failed on %s;"
            " asking Nova's own PCI statistics instead. Please report this%s.",
            CONF.gpu_filter.pool_matcher,
            host_state,
            "" if is_ours else f" to the providers of {module}",
        )

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
