# SPDX-License-Identifier: Apache-2.0

"""Holds ledger, Placement, libvirt and hardware together.

One pass reads all three worlds, writes to the ledger what has happened, and
has Placement agree with it. A pass that cannot read one of them changes
nothing: what is not known is not given away.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import logging
import time

from nova_gpu_filter import exception
from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import cleaning
from nova_gpu_filter.agent import domains as domains_lib
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import observing
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.states import AGENT
from nova_gpu_filter.agent.states import Event
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.agent.states import Step
from nova_gpu_filter.fleet.reserving import Mark
from nova_gpu_filter.host import address as address_lib

LOG = logging.getLogger(__name__)


class Keeper:
    """Manages the devices of a compute node."""

    def __init__(
        self,
        ledger: ledger_lib.Ledger,
        placement: providers_lib.Providers,
        domains: domains_lib.Domains,
        bus: bus_lib.Bus,
        cleaner: cleaning.Cleaner,
        submit: Callable[[Callable[[], None]], object],
        all_devices: bool,
        reserve_in_use: bool,
        corrected_errors: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read yet; see the options of ``[gpu_agent]``.

        :param submit: runs a cleaning, now or in another thread.
        :param all_devices: whether devices that are not of one-time use are
            managed, too (``devices = all``).
        """
        self._ledger = ledger
        self.placement = placement
        self._submit = submit
        self._clock = clock
        self._transitions = ledger_lib.Transitions(ledger, clock)
        self._lock = self._transitions.lock
        self.counts = self._transitions.counts
        self._cleaning: set[str] = set()
        self._unwritten: set[str] = set()
        """Devices that were reserved when the ledger could not be written."""
        self._errors = bus_lib.ErrorCounters(bus, corrected_errors)
        self._reservations = providers_lib.ReservationWriter(
            placement, reserve_in_use
        )
        self._recycler = cleaning.Recycler(
            placement, domains, cleaner, self._reservations, self._transitions
        )
        self._observer = observing.Observer(
            placement, domains, bus, all_devices
        )
        self.blind: str | None = "nothing has been read yet"
        """Why the last pass could not be made; None: it was made."""

    # -- a pass

    def run_once(self) -> bool:
        """Make one pass.

        :returns: whether everything could be read and written.
        """
        with self._lock:
            try:
                # The ledger says it, whether Placement answers or not.
                self._quarantine_suspects()
                self._observer.read(
                    self._ledger.read_records(), self._cleaning
                )
            except exception.GpuFilterError as error:
                self._set_blind(str(error))
                return False
            done = []
            problem = None
            for provider in self._observer.providers.values():
                try:
                    done.append(self._follow(provider))
                except errors.LedgerUnusable as error:
                    problem = str(error)
                    self._reserve_unwritten(provider)
            if problem is not None:
                self._set_blind(problem)
                return False
            if self.blind is not None:
                LOG.info("Placement, libvirt, sysfs and the ledger are there")
            self.blind = None
            # Those of which this pass has made the first record.
            for address, reason in self._quarantine_suspects():
                LOG.error(
                    "Device %s is not quarantined, since it is not"
                    " managed: %s",
                    address,
                    reason,
                )
                self._ledger.clear_suspect(address)
            records = self._ledger.read_records()
            waiting = [
                provider
                for address, provider in self._observer.providers.items()
                if address not in self._cleaning
                and records[address].state is State.RELEASED
            ]
            self._cleaning.update(one.address for one in waiting)
        for one in waiting:
            self._submit(lambda provider=one: self._clean(provider))  # type: ignore[misc]
        return all(done)

    def _set_blind(self, why: str) -> None:
        if self.blind != why:
            LOG.warning("Devices are left as they are: %s", why)
        self.blind = why

    def _reserve_unwritten(self, provider: providers_lib.Provider) -> None:
        """Have nobody get a device of which a change cannot be written down.

        It is offered again when that can be written, and it was cleaned.
        """
        is_held = self._observer.is_held(provider)
        if provider.inventory.is_reserved or (
            is_held and not self._reservations.reserve_in_use
        ):
            return
        try:
            self.placement.reserve(provider.uuid)
        except exception.GpuFilterError as error:
            LOG.warning("Device %s: %s", provider.address, error)
        else:
            self._unwritten.add(provider.address)

    def _follow(self, provider: providers_lib.Provider) -> bool:
        """Bring ledger and Placement up to what is seen of one device."""
        address = provider.address
        observation = self._observer.observe(
            provider,
            # What is reserved was used: by Nova, or since it was.
            provider.is_one_time_use or address in self._unwritten,
            self._reservations.find_doubt(provider),
        )
        record = self._ledger.get(address)
        is_held = bool(observation.guest or observation.consumer)
        is_wanted = is_held or observation.is_marked
        if address in self._cleaning and not is_wanted:
            # What was read of Placement may be from before it was offered.
            if record is not None and record.state in (
                State.RELEASED,
                State.CLEANING,
            ):
                # Its provider may have been made anew, or was changed.
                return self._reservations.write(provider, record)
            return True
        if record is None:
            now = self._clock()
            record = states.make_first_record(address, observation, now)
            self._transitions.write(record)
        elif not is_held and record.state in (State.CLEANING, State.CHECKED):
            # The agent was ended, or Placement has not answered: it may have
            # been offered, used, and given back since.
            record = self._transitions.move(
                record, Step(Event.INTERRUPT, "its cleaning was cut short")
            )
        if record.state is State.QUARANTINED and provider.inventory.has(
            Mark.RELEASE_ASKED
        ):
            record = self._end_quarantine(
                record, "released in Placement", "placement"
            )
            observation = dataclasses.replace(observation, is_marked=False)
        while step := states.find_next_step(record, observation):
            record = self._transitions.move(record, step)
        record = self._watch_errors(record)
        self._unwritten.discard(address)
        return self._reservations.write(provider, record)

    def _watch_errors(self, record: states.Record) -> states.Record:
        """Quarantine a device whose link makes errors now."""
        if record.state is State.QUARANTINED:
            self._errors.forget(record.address)
        # A reset can make errors; they are compared after it.
        elif record.address not in self._cleaning:
            found = self._errors.find_new(record.address, record.baseline)
            if found:
                step = Step(Event.QUARANTINE, "; ".join(found))
                return self._transitions.move(record, step)
        return record

    def _end_quarantine(
        self, record: states.Record, reason: str, by: str
    ) -> states.Record:
        # Somebody has accepted how it is.
        step = Step(Event.END_QUARANTINE, reason, by, baseline="")
        return self._transitions.move(record, step)

    def _quarantine_suspects(self) -> list[tuple[str, str]]:
        """Quarantine devices whose partition could not be activated.

        :returns: (address, reason) of those that the ledger does not know.
        """
        known = self._ledger.read_records()
        unknown = []
        for address, reason in self._ledger.read_suspects().items():
            if address in known:
                self.quarantine(address, reason, AGENT)
                self._ledger.clear_suspect(address)
            else:
                unknown.append((address, reason))
        return unknown

    # -- cleaning

    def _clean(self, provider: providers_lib.Provider) -> None:
        """Clean a device, and give it back."""
        try:
            self._recycler.recycle(
                provider, self._observer.is_shared(provider)
            )
        except exception.GpuFilterError as error:
            # It stays reserved, and is tried again with the next pass.
            LOG.warning("Device %s: %s", provider.address, error)
        finally:
            with self._lock:
                self._cleaning.discard(provider.address)
                self._errors.forget(provider.address)

    # -- what people ask

    def list_records(self) -> list[states.Record]:
        """List all devices, by address."""
        return list(self._ledger.read_records().values())

    def get_consumers(self) -> Mapping[str, tuple[str, ...]] | None:
        """Give who has each device allocated, as of the last pass.

        :returns: None: Placement could not be read.
        """
        if self.blind is not None:
            return None
        return {
            address: provider.consumers
            for address, provider in self._observer.all_providers.items()
        }

    def find(self, device: str) -> states.Record:
        """Find a device by its address, in any form.

        :raises UnknownDevice: there is none.
        """
        known = self._ledger.read_records()
        address = address_lib.find(device)
        try:
            return known[str(address)]
        except KeyError:
            raise errors.UnknownDevice(
                device=device, known=", ".join(known) or "none"
            ) from None

    def list_history(self, device: str) -> tuple[states.Record, ...]:
        """List what has happened to a device, the last first."""
        return self._ledger.read_history(self.find(device).address)

    def quarantine(self, device: str, reason: str, by: str) -> states.Record:
        """Give a device to nobody any more; a server that has it goes on.

        It is done when the ledger says so; Placement is told with the next
        pass that reaches it.
        """
        with self._lock:
            record = self.find(device)
            if record.state is State.QUARANTINED:
                return record
            return self._transitions.move(
                record, Step(Event.QUARANTINE, reason, by)
            )

    def release(self, device: str, reason: str, by: str) -> states.Record:
        """End a quarantine: the device is cleaned, then offered.

        Placement is asked first, since a mark that stayed there would
        quarantine the device again.

        :raises NotNow: Placement has no such provider any more.
        """
        with self._lock:
            record = self.find(device)
            if record.state is not State.QUARANTINED:
                return record
            provider = self._observer.providers.get(record.address)
            if provider is None:
                raise errors.NotNow(
                    device=record.address,
                    state=record.state,
                    problem="it is not in Placement; start nova-compute with"
                    " it in [pci]device_spec, or wait for the next pass",
                )
            self.placement.mark(
                provider.uuid,
                frozenset({Mark.RELEASE_ASKED}),
                frozenset({Mark.QUARANTINED}),
            )
            return self._end_quarantine(record, reason, by)

    def clean(self, device: str, reason: str, by: str) -> states.Record:
        """Clean a device that nobody has, at once.

        :raises NotNow: a server has it, or it is quarantined.
        """
        with self._lock:
            record = self.find(device)
            if record.state is State.FREE:
                # It is dirty from here on, as far as anybody can know;
                # whoever claims it before Placement is told, has it.
                return self._transitions.move(
                    record, Step(Event.FIND_USED, reason, by)
                )
            if record.state is State.QUARANTINED:
                problem = "release it first"
            elif record.state in states.HELD:
                problem = f"{record.owner} has it"
            else:
                return record
            raise errors.NotNow(
                device=record.address, state=record.state, problem=problem
            )
