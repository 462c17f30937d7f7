# SPDX-License-Identifier: Apache-2.0

"""What Placement has to say of a device, and whether it can be believed."""

import logging
from typing import Final

from nova_gpu_filter import exception
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.fleet.reserving import Mark

LOG = logging.getLogger(__name__)

_ANY: Final = -1
"""Instead of a generation: the agent itself has changed the provider."""


class ReservationWriter:
    """Has Placement agree with the ledger, and finds what others changed."""

    def __init__(
        self, placement: providers_lib.Providers, reserve_in_use: bool
    ) -> None:
        """Nothing is written yet.

        :param reserve_in_use: whether a device is reserved while a server has
            it.
        """
        self._placement = placement
        self._reserve_in_use = reserve_in_use
        self._generations: dict[str, int] = {}
        """Of the providers of free devices that are not of one-time use."""

    def find_doubt(self, provider: providers_lib.Provider) -> str | None:
        """Say why a device may have been used although nobody has seen it."""
        if not provider.inventory.has(Mark.MANAGED):
            return "its provider in Placement was made anew"
        if provider.is_one_time_use:
            # Nova leaves it reserved then.
            return None
        known = self._generations.get(provider.address)
        if known is None:
            return "not known whether it was used while no agent was running"
        if known not in (_ANY, provider.inventory.generation):
            # A claim changes it, and so do others.
            return "its provider in Placement has changed"
        return None

    def write(
        self, provider: providers_lib.Provider, record: states.Record
    ) -> bool:
        """Have Placement agree with the ledger.

        :returns: whether it could be written.
        """
        try:
            is_written = self._write(provider, record)
        except exception.GpuFilterError as error:
            LOG.warning("Device %s: %s", record.address, error)
            self._generations.pop(record.address, None)
            return False
        if record.state is State.FREE:
            self._generations[record.address] = (
                _ANY if is_written else provider.inventory.generation
            )
        else:
            self._generations.pop(record.address, None)
        return True

    def _write(
        self, provider: providers_lib.Provider, record: states.Record
    ) -> bool:
        is_written = False
        is_quarantined = record.state is State.QUARANTINED
        must = record.state in states.MUST_BE_RESERVED or (
            record.state in states.HELD and self._reserve_in_use
        )
        if must and not provider.inventory.is_reserved:
            is_written = self._placement.reserve(provider.uuid)
        add = {Mark.MANAGED}
        remove = {Mark.RELEASE_ASKED}
        (add if is_quarantined else remove).add(Mark.QUARANTINED)
        if not all(map(provider.inventory.has, add)) or any(
            map(provider.inventory.has, remove)
        ):
            is_written |= self._placement.mark(
                provider.uuid, frozenset(add), frozenset(remove)
            )
        return is_written

    def offer(self, provider: providers_lib.Provider) -> bool:
        """Give a clean device back; whether Placement took it."""
        if not self._placement.offer(provider.uuid):
            return False
        self._generations[provider.address] = _ANY
        return True
