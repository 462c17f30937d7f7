# SPDX-License-Identifier: Apache-2.0

"""The pool matcher contract: which allocation candidates a host can serve."""

import abc
from collections.abc import Sequence
from typing import NamedTuple

from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request

NAMESPACE = "nova_gpu_filter.pool_matchers"
"""Stevedore namespace; the entry point names are what operators configure."""


# Made for every host of every request: a frozen dataclass takes three times as
# long to make as a named tuple.
class HostPools(NamedTuple):
    """A read-only view of the free PCI devices of one host state."""

    pools: Sequence[request.Pool]
    """``PciDeviceStats.pools``, in its order, not copied."""


class Match(NamedTuple):
    """What a matcher says of one host."""

    accepted: Sequence[int]
    """Indexes into the candidates that were asked about, best first.

    The scheduler claims the first one.
    """
    refusal: "refusal.Refusal | None" = None
    """Why the host is refused; set if and only if nothing is accepted."""


class PoolMatcher(abc.ABC):
    """Decides which allocation candidates the pools of a host can serve.

    One instance serves the whole scheduler process and is called from several
    threads at once: it keeps no state between calls that a second call could
    disturb. A matcher may only refuse or reorder what stock Nova accepts: a
    candidate that ``PciDeviceStats.support_requests`` refuses must be refused.
    """

    orders = True
    """Whether the matcher chooses the order of the candidates.

    Then the filter lists a host again for its further device sets, too.
    """

    @abc.abstractmethod
    def match(
        self,
        host: HostPools,
        requests: request.DeviceRequests,
        mappings: Sequence[request.ProviderMapping | None],
    ) -> Match:
        """Ask about all candidates of one host; nothing is consumed.

        :param host: the pools of the host; must not be changed.
        :param requests: what the instance asks for, at least one request.
        :param mappings: for each candidate its ``mappings``; None or empty
            when the requests themselves name the providers.
        :returns: the candidates that can be met, best first, or the refusal.
        """
