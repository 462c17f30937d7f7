# SPDX-License-Identifier: Apache-2.0

"""A real Placement that works out an answer once, until something changes.

The agent reads everything at each pass, and its tests make thousands.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from typing import Any

from tests.functional.placement import service


class Placement(service.Placement):
    """Stock Placement; nobody else may write to its database."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[tuple[str, str], service.Response] = {}
        self._changes = 0

    def stock(self, path: str, **kwargs: Any) -> service.Response:
        """Ask Placement, or repeat what it has answered."""
        if kwargs.get("method", "GET") != "GET":
            with self._changing():
                return super().stock(path, **kwargs)
        key = path, repr(kwargs)
        answer = self._answers.get(key)
        if answer is None:
            changes = self._changes
            answer = super().stock(path, **kwargs)
            # Another thread may have written meanwhile.
            if changes == self._changes:
                self._answers[key] = answer
        return answer

    def replace_providers(self, providers: Iterable[service.Provider]) -> None:
        """Remove all providers and create others, parents before children."""
        with self._changing():
            super().replace_providers(providers)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        self._changes += 1
        try:
            yield
        finally:
            self._changes += 1
            self._answers.clear()
