# SPDX-License-Identifier: Apache-2.0

"""What the extension has done since its process started."""

import collections
from collections.abc import Mapping
import dataclasses
import threading


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The counters at one moment."""

    composed: int
    """Requests that were answered with composed candidates."""
    candidates: int
    """Candidates in those answers."""
    seconds: float
    """Time that those answers took, Placement's part in them included."""
    passed_through: Mapping[str, int]
    """Reason -> requests for allocation candidates left to Placement."""


class Counters:
    """Counts requests; threads share it."""

    def __init__(self) -> None:
        """Start at nought."""
        self._lock = threading.Lock()
        self._composed = 0
        self._candidates = 0
        self._seconds = 0.0
        self._passed_through: collections.Counter[str] = collections.Counter()

    def count_composed(self, candidates: int, seconds: float) -> None:
        """Count a request that was answered with composed candidates."""
        with self._lock:
            self._composed += 1
            self._candidates += candidates
            self._seconds += seconds

    def count_passed_through(self, reason: str) -> None:
        """Count a request that was left to Placement."""
        with self._lock:
            self._passed_through[reason] += 1

    def snapshot(self) -> Snapshot:
        """Return all counters as they are now."""
        with self._lock:
            return Snapshot(
                composed=self._composed,
                candidates=self._candidates,
                seconds=self._seconds,
                passed_through=dict(self._passed_through),
            )


counters = Counters()
"""Those of this process: one for all applications in it."""
