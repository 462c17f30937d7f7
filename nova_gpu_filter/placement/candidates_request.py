# SPDX-License-Identifier: Apache-2.0

"""What candidates are composed of, how many, and with how much effort."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools

from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import remaining_capacity
from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import fragmentation

_EFFORT = 20_000
_EFFORT_FOR_PROVIDER = 20


class Effort:
    """Bounds the work that is done for one request.

    In units of about 5 microseconds, of what is tried; the same request has
    the same answer on every machine.
    """

    def __init__(self, providers: int) -> None:
        """Begin a request, with more to spend if Placement needs more.

        :param providers: how many Placement has told of.
        """
        self._left = _EFFORT + _EFFORT_FOR_PROVIDER * providers

    def spend(self, units: int) -> bool:
        """Spend some; return whether it was there."""
        self._left -= units
        return self._left >= 0


@dataclasses.dataclass(frozen=True)
class Request:
    """The candidates of one request that are to be composed."""

    question: query.Question
    summaries: trees.Summaries
    remaining_capacity: remaining_capacity.RemainingCapacity
    max_sets: int | None
    """How many candidates of a tree are wanted; None for all. There are more
    where NUMA nodes would be left out."""
    seed: int
    """Permutes sets that are equally good, and trees that are."""
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX
    """Request sizes to expect."""
    most: int | None = None
    """How many candidates the operator allows, unless there are more trees;
    None for any number."""

    is_truncated: bool = False
    """Whether trees may have more ways to serve the groups in no class than
    were read."""

    @functools.cached_property
    def effort(self) -> Effort:
        """What is left to be spent on this request."""
        return Effort(len(self.summaries))

    def count_wanted(self, trees_found: int) -> int | None:
        """Return how many candidates are wanted of all trees; None for all."""
        limits = [self.question.limit]
        if self.most is not None:
            limits.append(max(self.most, trees_found))
        return min(
            (limit for limit in limits if limit is not None), default=None
        )

    @functools.cached_property
    def most_per_tree(self) -> int | None:
        """No tree needs more candidates than this; None for all."""
        wanted = (self.max_sets, self.question.limit, self.most)
        return min((most for most in wanted if most is not None), default=None)

    @functools.cached_property
    def providers_by_root(self) -> Mapping[str, Sequence[Sequence[str]]]:
        """For each tree and class: the providers with what the class asks."""
        asked = [
            frozenset(resource_class for resource_class, _ in found.resources)
            for found in self.question.classes
        ]
        found: dict[str, list[list[str]]] = {}
        for provider, summary in self.summaries.items():
            resources = summary["resources"].keys()
            for index, resource_classes in enumerate(asked):
                if resources >= resource_classes:
                    root = summary["root_provider_uuid"]
                    if root not in found:
                        found[root] = [[] for _ in asked]
                    found[root][index].append(provider)
        return found
