# SPDX-License-Identifier: Apache-2.0

"""Writes to the ledger what happens to devices, and counts it."""

from collections.abc import Callable
import logging
import threading

from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.states import AGENT
from nova_gpu_filter.agent.states import Event
from nova_gpu_filter.agent.states import State

LOG = logging.getLogger(__name__)


class Transitions:
    """The changes of the states of devices."""

    def __init__(
        self, ledger: ledger_lib.Ledger, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self.lock = threading.RLock()
        """Held from the reading of a state until it is changed."""
        self.counts: dict[str, int] = dict.fromkeys(Event, 0)
        """How often each event has happened since the start."""

    def write(self, record: states.Record) -> None:
        """Write the state of a device to the ledger."""
        self._ledger.change(record)
        LOG.info(
            "Device %s is %s: %s (%s)",
            record.address,
            record.state,
            record.reason,
            record.owner or "no server",
        )

    def move(
        self,
        record: states.Record,
        event: Event,
        reason: str,
        by: str,
        owner: str | None = None,
        baseline: str | None = None,
    ) -> states.Record:
        """Have an event happen to a device.

        :param by: who or what has done it.
        :param owner: the UUID of the server that has it now.
        :param baseline: the health that it is compared with from now on.
        """
        new = states.move(
            record,
            event,
            reason=reason,
            by=by,
            now=self._clock(),
            owner=owner,
            baseline=baseline,
        )
        self.write(new)
        self.counts[event] += 1
        return new

    def move_if(
        self,
        address: str,
        state: State,
        event: Event,
        reason: str,
        baseline: str | None = None,
    ) -> states.Record | None:
        """Change the state of a device, unless it has changed meanwhile."""
        with self.lock:
            record = self._ledger.get(address)
            if record is None or record.state is not state:
                return None
            return self.move(record, event, reason, AGENT, baseline=baseline)
