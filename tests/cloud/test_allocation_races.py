# SPDX-License-Identifier: Apache-2.0

"""Many consumers write allocations of one device at the same time."""

import collections
from concurrent import futures
import threading
import uuid

import pytest

from tests.cloud import stock

CLAIMS = 8
ROUNDS = 10
_CLASS = "CUSTOM_RACE"


@pytest.fixture
def devices(user):
    """Make a host with single devices, as nova-compute would; a call each."""
    root = str(uuid.uuid4())
    made = []

    def provider(parent=None):
        name = str(uuid.uuid4())
        body = {"uuid": name, "name": name}
        if parent:
            body["parent_provider_uuid"] = parent
        send(user, "POST", "/resource_providers", body)
        made.append(name)
        return name

    def inventory(name, resource_class, total):
        path = f"/resource_providers/{name}"
        generation = user.placement.get(path).json()["generation"]
        send(
            user,
            "PUT",
            f"{path}/inventories",
            {
                "resource_provider_generation": generation,
                "inventories": {resource_class: {"total": total}},
            },
        )

    send(user, "PUT", f"/resource_classes/{_CLASS}")
    root = provider()
    inventory(root, "VCPU", 1000)

    def device():
        name = provider(root)
        inventory(name, _CLASS, 1)
        return root, name

    yield device
    for name in reversed(made):
        send(user, "DELETE", f"/resource_providers/{name}")
    send(user, "DELETE", f"/resource_classes/{_CLASS}")


def send(user, method, path, body=None):
    """Ask Placement for something that it cannot refuse."""
    reply = user.placement.request(
        path, method, json=body, raise_exc=True, microversion="1.38"
    )
    assert reply.ok
    return reply


def granted(user, root, device):
    """Claim a device for many consumers at once; count who gets it."""
    together = threading.Barrier(CLAIMS)
    consumers = [str(uuid.uuid4()) for _ in range(CLAIMS)]

    def claim(consumer):
        together.wait()
        return user.placement.request(
            f"/allocations/{consumer}",
            "PUT",
            json={
                "allocations": {
                    root: {"resources": {"VCPU": 1}},
                    device: {"resources": {_CLASS: 1}},
                },
                "project_id": "race",
                "user_id": "race",
                "consumer_generation": None,
                "consumer_type": "INSTANCE",
            },
            raise_exc=False,
            microversion="1.38",
        ).status_code

    with futures.ThreadPoolExecutor(CLAIMS) as threads:
        codes = list(threads.map(claim, consumers))
    assert set(codes) <= {204, 409}, codes
    for consumer, code in zip(consumers, codes, strict=True):
        if code == 204:
            send(user, "DELETE", f"/allocations/{consumer}")
    return codes.count(204)


def test_one_device_is_given_to_one_of_many(cloud, user, devices, note):
    ours = [granted(user, *devices()) for _ in range(ROUNDS)]
    with stock.placement(cloud):
        theirs = [granted(user, *devices()) for _ in range(ROUNDS)]
    for name, counts in (("with the extension", ours), ("stock", theirs)):
        note(
            f"{CLAIMS} claims of one device at once, {name}: "
            + ", ".join(
                f"{times} times {count} granted"
                for count, times in sorted(collections.Counter(counts).items())
            )
        )
    assert ours == [1] * ROUNDS
