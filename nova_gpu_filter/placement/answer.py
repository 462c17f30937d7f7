# SPDX-License-Identifier: Apache-2.0

"""Write the answer, in the JSON form of Placement."""

from collections.abc import Iterable
from typing import Any

from oslo_serialization import jsonutils

from nova_gpu_filter.placement import candidates as tree_candidates
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees


def encode(
    question: query.Question,
    candidates: Iterable[tree_candidates.Candidate],
    summaries: trees.Summaries,
) -> bytes:
    """Encode candidates with the summaries of the trees that they use.

    :param summaries: of all providers, as Placement gave them.
    """
    requests = []
    used = set()
    for candidate in candidates:
        requests.append(_write_request(question, candidate))
        used.add(candidate.sets[0][0])
        used.update(candidate.base.allocations)
    roots = {summaries[provider]["root_provider_uuid"] for provider in used}
    found = {
        "allocation_requests": requests,
        "provider_summaries": {
            provider: summary
            for provider, summary in summaries.items()
            if summary["root_provider_uuid"] in roots
        },
    }
    # As Placement does (handlers/allocation_candidate.py).
    encoded: bytes = jsonutils.dumps(found).encode()
    return encoded


def _write_request(
    question: query.Question, candidate: tree_candidates.Candidate
) -> dict[str, Any]:
    """Return an allocation request as a JSON object."""
    given = {
        provider: dict(resources)
        for provider, resources in candidate.base.allocations.items()
    }
    mappings = {
        suffix: list(providers)
        for suffix, providers in candidate.base.mappings.items()
    }
    for group_class, device_set in zip(
        question.classes, candidate.sets, strict=True
    ):
        for suffix, device in zip(
            group_class.suffixes, device_set, strict=True
        ):
            mappings[suffix] = [device]
            resources = given.setdefault(device, {})
            for resource_class, amount in group_class.resources:
                resources[resource_class] = (
                    resources.get(resource_class, 0) + amount
                )
    return {
        "allocations": {
            provider: {"resources": resources}
            for provider, resources in given.items()
        },
        "mappings": mappings,
    }
