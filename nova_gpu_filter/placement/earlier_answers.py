# SPDX-License-Identifier: Apache-2.0

"""What Placement's earlier answers tell of those to come."""

import re

from nova_gpu_filter.placement import trees

_MOST_KEPT = 1000
"""Questions of a kind that are remembered; all are forgotten then."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
"""Of the port that a group is for: other servers ask the same with others."""


class EarlierAnswers:
    """What earlier answers told, of one process.

    A wrong guess costs the time of one question; no answer depends on it.
    Threads may share it.
    """

    def __init__(self) -> None:
        """Nothing is known; all answers are taken for small."""
        self.providers = 0
        """The most providers that an answer had."""
        self._too_large: set[str] = set()
        self._accepted: set[str] = set()

    def is_small(self, query_string: str, limit: int) -> bool:
        """Tell whether an answer should have fewer candidates than a limit.

        In a cloud with fewer providers, unless it was larger before.
        """
        return (
            self.providers < limit
            and _UUID.sub("", query_string) not in self._too_large
        )

    def note_providers(self, answer: trees.Answer) -> None:
        """Remember how many providers there are at least."""
        # Providers may go; the cloud is taken for as large as it was.
        self.providers = max(self.providers, len(answer["provider_summaries"]))

    def note_size(self, query_string: str, is_small: bool) -> None:
        """Remember whether an answer had fewer candidates than the limit."""
        key = _UUID.sub("", query_string)
        if is_small:
            self._too_large.discard(key)
        else:
            _keep(self._too_large, key)

    def is_accepted(self, query_string: str) -> bool:
        """Whether Placement took the question before.

        A trait or a resource class that was removed since then is taken for
        one that nothing has.
        """
        return query_string in self._accepted

    def note_accepted(self, query_string: str) -> None:
        """Remember that Placement took a question."""
        _keep(self._accepted, query_string)


def _keep(questions: set[str], question: str) -> None:
    if question not in questions:
        if len(questions) >= _MOST_KEPT:
            questions.clear()
        questions.add(question)
