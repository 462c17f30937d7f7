# SPDX-License-Identifier: Apache-2.0

"""Allocation candidates with other devices than those that were listed.

Placement lists some of the device sets of a host. Any devices that it listed
for a request can serve it together: the groups of an alias are all alike.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any
from typing import TypeAlias

from nova_gpu_filter.pools import request

Candidate: TypeAlias = Mapping[str, Any]
"""An allocation candidate: ``allocations`` and ``mappings``."""


def substitute(
    candidates: Sequence[Candidate],
    requests: request.DeviceRequests,
    free: frozenset[str],
) -> Iterator[dict[str, Any]]:
    """Generate what the first candidate is with any other devices.

    :param candidates: what Placement listed for one host.
    :param free: providers that still have a device.
    :returns: none where devices cannot be told apart: one provider has
        several (as a PF has VFs), or more than devices.
    """
    template = candidates[0]
    suffixes_by_request: list[tuple[str, ...]] = []
    choices: list[Iterator[tuple[str, ...]]] = []
    for asked in requests.requests:
        suffixes = asked.suffixes_in(template["mappings"])
        if not suffixes:
            continue
        [resources, *others] = (
            _resources_of(template, suffix) for suffix in suffixes
        )
        if not _is_one_device(resources) or others.count(resources) != len(
            others
        ):
            return
        devices = dict.fromkeys(
            candidate["mappings"][suffix][0]
            for candidate in candidates
            for suffix in suffixes
            if _resources_of(candidate, suffix) == resources
        )
        suffixes_by_request.append(suffixes)
        choices.append(
            itertools.combinations(
                [device for device in devices if device in free],
                len(suffixes),
            )
        )
    taken = requests.rp_uuids_in(template["mappings"])
    all_suffixes = list(itertools.chain.from_iterable(suffixes_by_request))
    if len(taken) != len(all_suffixes):
        return
    rest = {
        provider: allocation
        for provider, allocation in template["allocations"].items()
        if provider not in taken
    }
    for sets in itertools.product(*choices):
        devices_ = list(itertools.chain.from_iterable(sets))
        if len(set(devices_)) == len(devices_):
            by_suffix = dict(zip(all_suffixes, devices_, strict=True))
            yield {
                **template,
                "allocations": rest
                | {
                    device: {"resources": _resources_of(template, suffix)}
                    for suffix, device in by_suffix.items()
                },
                "mappings": {
                    **template["mappings"],
                    **{suffix: [one] for suffix, one in by_suffix.items()},
                },
            }


def _resources_of(candidate: Candidate, suffix: str) -> dict[str, int]:
    """Read what a candidate takes of the provider of one device."""
    provider = candidate["mappings"][suffix][0]
    resources: dict[str, int] = candidate["allocations"][provider]["resources"]
    return resources


def _is_one_device(resources: Mapping[str, int]) -> bool:
    return list(resources.values()) == [1]
