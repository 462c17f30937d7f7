# SPDX-License-Identifier: Apache-2.0

"""Let threads that need the same things go one by one."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import threading


class Turns:
    """Locks by name, which exist while somebody holds them or waits."""

    def __init__(self) -> None:
        """Nobody holds anything."""
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def take(self, names: Iterable[str]) -> Iterator[None]:
        """Wait until nobody else has any of the names, and hold them."""
        # All threads take them in one order, so that none waits for another
        # that waits for it.
        with contextlib.ExitStack() as held:
            for name in sorted(set(names)):
                held.enter_context(self._take(name))
            yield

    @contextlib.contextmanager
    def _take(self, name: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._locks.get(name, (threading.Lock(), 0))
            self._locks[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = lock, users - 1

    def __len__(self) -> int:
        """Return how many names are held or waited for."""
        with self._guard:
            return len(self._locks)
