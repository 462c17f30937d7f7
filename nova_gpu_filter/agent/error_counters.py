# SPDX-License-Identifier: Apache-2.0

"""PCIe errors of devices while servers have them."""

from nova_gpu_filter.agent import bus as bus_lib


class ErrorCounters:
    """The error counters of devices as they were read last."""

    def __init__(self, bus: bus_lib.Bus, corrected_errors: int) -> None:
        """Nothing is read yet.

        :param corrected_errors: so many corrected errors between two readings
            are too many.
        """
        self._bus = bus
        self._corrected_errors = corrected_errors
        self._last: dict[str, bus_lib.Health] = {}

    def find_new(self, address: str) -> tuple[str, ...]:
        """Say which errors there were since the last reading, where they are
        too many; nothing with the first one."""
        now = self._bus.read_counters(address)
        before = self._last.get(address)
        self._last[address] = now
        if before is None:
            return ()
        return bus_lib.find_new_errors(before, now, self._corrected_errors)

    def forget(self, address: str) -> None:
        """Compare the next reading with nothing."""
        self._last.pop(address, None)
