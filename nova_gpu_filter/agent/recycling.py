# SPDX-License-Identifier: Apache-2.0

"""Cleans devices that were used, and gives them back to Placement."""

import logging

from nova_gpu_filter.agent import cleaning
from nova_gpu_filter.agent import domains as domains_lib
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent import reservations as reservations_lib
from nova_gpu_filter.agent.states import AGENT
from nova_gpu_filter.agent.states import Event
from nova_gpu_filter.agent.states import State

LOG = logging.getLogger(__name__)


class Recycler:
    """Takes a device from its release to the next offer."""

    def __init__(
        self,
        placement: providers_lib.Providers,
        domains: domains_lib.Domains,
        cleaner: cleaning.Cleaner,
        reservations: reservations_lib.ReservationWriter,
        transitions: ledger_lib.Transitions,
    ) -> None:
        self._placement = placement
        self._domains = domains
        self._cleaner = cleaner
        self._reservations = reservations
        self._transitions = transitions

    def recycle(
        self, provider: providers_lib.Provider, is_shared: bool
    ) -> None:
        """Clean a device, and offer it again unless something is wrong.

        :param is_shared: whether VFs of it are given away, and not it itself.
        :raises GpuFilterError: Placement or libvirt does not answer.
        """
        address = provider.address
        # From here on nobody can claim it: who has it now, has it.
        self._placement.reserve(provider.uuid)
        consumers = self._placement.read_consumers(provider.uuid)
        holders = self._domains.read_holders()
        if not is_shared and (consumers or address in holders):
            # The next pass writes down who it is.
            return
        record = self._transitions.move_if(
            address, State.RELEASED, Event.CLEAN, "it was used"
        )
        if record is None:
            return
        try:
            result = self._cleaner.clean(record, set(holders), is_shared)
        except Exception as error:
            LOG.exception("Device %s cannot be cleaned", address)
            result = cleaning.Result(f"it cannot be cleaned: {error!r}")
        with self._transitions.lock:
            # Nobody can quarantine it between the check and the offer.
            self._conclude(provider, result)

    def _conclude(
        self, provider: providers_lib.Provider, result: cleaning.Result
    ) -> None:
        address = provider.address
        if result.problem is not None:
            self._transitions.move_if(
                address, State.CLEANING, Event.QUARANTINE, result.problem
            )
            return
        passed = self._transitions.move_if(
            address,
            State.CLEANING,
            Event.PASS,
            "it was reset, and all checks have passed",
            result.baseline,
        )
        if passed and self._reservations.offer(provider):
            self._transitions.move(
                passed,
                Event.GIVE_BACK,
                "reset and offered again, its memory was not cleared"
                if result.keeps_memory
                else "clean, and offered again",
                AGENT,
            )
