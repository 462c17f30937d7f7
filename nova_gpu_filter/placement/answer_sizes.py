# SPDX-License-Identifier: Apache-2.0

"""Which questions Placement answers in full within the operator's limit."""

from nova_gpu_filter.placement import trees

_MOST_KEPT = 1000
"""Questions that are known to have larger answers; all are forgotten then."""


class AnswerSizes:
    """What earlier answers told, of one process.

    A wrong guess costs the time of one question; no answer depends on it.
    Threads may share it.
    """

    def __init__(self) -> None:
        """Nothing is known; all answers are taken for small."""
        self.providers = 0
        """The most providers that an answer had."""
        self._too_large: set[str] = set()

    def is_small(self, query_string: str, limit: int) -> bool:
        """Tell whether an answer should have fewer candidates than a limit.

        It should in a cloud with fewer providers than that, unless the answer
        to the same question was larger before.
        """
        return self.providers < limit and query_string not in self._too_large

    def note(
        self, query_string: str, answer: trees.Answer, is_small: bool
    ) -> None:
        """Remember how large an answer is.

        :param is_small: whether it has fewer candidates than the limit.
        """
        # Providers may go; the cloud is taken for as large as it was.
        self.providers = max(self.providers, len(answer["provider_summaries"]))
        if is_small:
            self._too_large.discard(query_string)
            return
        if len(self._too_large) >= _MOST_KEPT:
            self._too_large.clear()
        self._too_large.add(query_string)
