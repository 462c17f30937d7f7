# SPDX-License-Identifier: Apache-2.0

"""Allocation candidates with other devices than those that were listed.

Any devices that Placement listed for a request can serve it together: the
groups of an alias are all alike.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

from nova_gpu_filter.pools import request
from nova_gpu_filter.topology.cliques import Steps

Candidate: TypeAlias = Mapping[str, Any]
"""An allocation candidate: ``allocations`` and ``mappings``."""

Amount: TypeAlias = tuple[str, int]
"""What is taken of a provider: a resource class, and how much of it."""


class _Choice(NamedTuple):
    """What one request can have."""

    suffixes: tuple[str, ...]
    """Its request groups, one a device."""
    devices: list[str]
    """Providers that can serve any of them."""


def list_amounts(candidate: Candidate, device: str) -> list[Amount]:
    """List what a candidate takes of the provider of a device."""
    return list(candidate["allocations"][device]["resources"].items())


def substitute(
    candidates: Sequence[Candidate],
    requests: request.DeviceRequests,
    free: Mapping[Amount, frozenset[str]],
    steps: Steps,
) -> Iterator[dict[str, Any]]:
    """Generate what the first candidate is with any other devices.

    The devices of the first request change first.

    :param candidates: what Placement listed for one host.
    :param free: the providers that have so much left.
    :param steps: a step is a choice for one request that is looked at.
    :returns: none where devices cannot be told apart: a provider has several
        for one server, or is more than its devices.
    """
    template = candidates[0]
    taken = requests.collect_rp_uuids(template["mappings"])
    rest = {
        provider: allocation
        for provider, allocation in template["allocations"].items()
        if provider not in taken
    }
    choices: list[_Choice] = []
    for asked in requests.requests:
        suffixes = asked.list_suffixes(template["mappings"])
        if not suffixes:
            continue
        [amounts, *others] = (
            _list_amounts_of_group(template, suffix) for suffix in suffixes
        )
        is_one_device = [amount for _, amount in amounts] == [1]
        if not is_one_device or any(other != amounts for other in others):
            return
        devices = dict.fromkeys(
            candidate["mappings"][suffix][0]
            for candidate in candidates
            for suffix in suffixes
            if _list_amounts_of_group(candidate, suffix) == amounts
        )
        left = free.get(amounts[0], frozenset())
        choices.append(
            _Choice(
                suffixes,
                # Another group of the flavor may have one of the same class.
                [d for d in devices if d in left and d not in rest],
            )
        )
    number = sum(len(choice.suffixes) for choice in choices)
    can_be_had = set().union(*(choice.devices for choice in choices))
    if len(taken) != number or len(can_be_had) < number:
        return
    for device_by_suffix in _combine(choices, frozenset(), steps):
        yield {
            **template,
            "allocations": rest
            | {
                device: {
                    "resources": dict(_list_amounts_of_group(template, suffix))
                }
                for suffix, device in device_by_suffix.items()
            },
            "mappings": {
                **template["mappings"],
                **{suffix: [one] for suffix, one in device_by_suffix.items()},
            },
        }


def _combine(
    choices: Sequence[_Choice], used: frozenset[str], steps: Steps
) -> Iterator[dict[str, str]]:
    """Generate the devices by suffix: each once, the first request's first."""
    if not choices:
        yield {}
        return
    *before, (suffixes, devices) = choices
    for chosen in itertools.combinations(
        [device for device in devices if device not in used], len(suffixes)
    ):
        if not steps.take():
            return
        mine = dict(zip(suffixes, chosen, strict=True))
        for others in _combine(before, used.union(chosen), steps):
            yield others | mine


def _list_amounts_of_group(candidate: Candidate, suffix: str) -> list[Amount]:
    return list_amounts(candidate, candidate["mappings"][suffix][0])
