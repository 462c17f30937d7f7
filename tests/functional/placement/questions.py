# SPDX-License-Identifier: Apache-2.0

"""Hosts with GPUs, what Nova asks of them, and how to read the answers."""

from tests.functional.placement import service

GPU = "CUSTOM_GPU"


def query(k, *others, policy="none"):
    """Ask for a server with k GPUs, as Nova does."""
    groups = [f"resources_{i}={GPU}:1" for i in range(k)]
    return "&".join(
        ["resources=VCPU:1", *groups, f"group_policy={policy}", *others]
    )


def hosts(count, gpus, used=0, **gpu):
    """Make equal hosts, the first GPUs of which are in use."""
    for number in range(count):
        name = f"host{number}"
        yield service.Provider(
            name, inventories={"VCPU": service.Inventory(64)}
        )
        for i in range(gpus):
            yield service.Provider(
                f"{name}-gpu{i}",
                name,
                {GPU: service.Inventory(1, used=int(i < used))},
                **gpu,
            )


def roots(response):
    """List the trees of the devices of each candidate, in order."""
    answer = response.json
    return [
        answer["provider_summaries"][candidate["mappings"]["_0"][0]][
            "root_provider_uuid"
        ]
        for candidate in answer["allocation_requests"]
    ]


def device_sets(response):
    """List the device set of each candidate, in order."""
    return [
        frozenset(
            provider
            for suffix, found in candidate["mappings"].items()
            if suffix
            for provider in found
        )
        for candidate in response.json["allocation_requests"]
    ]
