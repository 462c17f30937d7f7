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

    def find_new(self, address: str, baseline: str) -> tuple[str, ...]:
        """Say which errors there were since the last reading, where they are
        too many.

        :param baseline: the health of the device when it was last clean, with
            which the first reading is compared; "": with nothing.
        """
        now = self._bus.read_counters(address)
        before = self._last.get(address) or bus_lib.Health.load(baseline)
        self._last[address] = now
        if before is None:
            return ()
        return bus_lib.find_new_errors(before, now, self._corrected_errors)

    def forget(self, address: str) -> None:
        """Compare the next reading with the baseline."""
        self._last.pop(address, None)
