# SPDX-License-Identifier: Apache-2.0

"""A real Placement that works out an answer once for what was written.

The agent reads everything at each pass, and its tests make thousands. Many
begin alike: the same providers, and then the same requests, after which
Placement answers the same.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import hashlib
from typing import Any
import uuid

from tests.functional.placement import service

_MOST = 20_000
"""Answers that are kept."""


class Placement(service.Placement):
    """Stock Placement; nobody else may write to its database."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[tuple[str, str, str], service.Response] = {}
        self._written = ""
        """Stands for all that was written, in its order."""
        self._writing = 0

    def stock(self, path: str, **kwargs: Any) -> service.Response:
        """Ask Placement, or repeat what it has answered."""
        if kwargs.get("method", "GET") != "GET":
            with self._write(self._written, path, kwargs):
                return super().stock(path, **kwargs)
        written = self._written
        key = written, path, repr(kwargs)
        if self._writing or key not in self._answers:
            answer = super().stock(path, **kwargs)
            # Another thread may have written meanwhile.
            if self._writing or written != self._written:
                return answer
            if len(self._answers) > _MOST:
                self._answers.clear()
            self._answers[key] = answer
        return self._answers[key]

    def replace_providers(self, providers: Iterable[service.Provider]) -> None:
        """Remove all providers and create others, parents before children."""
        providers = list(providers)
        with self._write(providers):
            super().replace_providers(providers)

    @contextlib.contextmanager
    def _write(self, *what: Any) -> Iterator[None]:
        self._writing += 1
        is_alone = self._writing == 1
        digest = hashlib.sha256(repr(what).encode()).hexdigest()
        try:
            yield
        finally:
            # In which order several have written is not known.
            self._written = digest if is_alone else str(uuid.uuid4())
            self._writing -= 1
