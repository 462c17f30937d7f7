# SPDX-License-Identifier: Apache-2.0

"""Many consumers write allocations of one device at the same time.

Placement as it is and with the extension run in this process, on a database
of their own beside that of the cloud: over HTTP the requests of one client
come too far apart from each other.
"""

import collections
from concurrent import futures
import threading
import uuid

import pytest

from tests.cloud import views
from tests.functional.placement import service

CLAIMS = 8
ROUNDS = 5
DATABASE = "placement_races"
DEVICE = "CUSTOM_DEVICE"


@pytest.fixture
def placement(cloud):
    """Placement on MariaDB, with one host that has single devices."""
    views.rows(cloud, f"CREATE OR REPLACE DATABASE {DATABASE}")
    url = (
        f"mysql+pymysql://openstack:{cloud.state.password}@127.0.0.1:"
        f"{cloud.state.port('mariadb')}/{DATABASE}?charset=utf8mb4"
    )
    with service.Placement(database=url) as started:
        started.replace_providers(
            [
                service.Provider(
                    "host", inventories={"VCPU": service.Inventory(1000)}
                ),
                *(
                    service.Provider(
                        f"device-{number}",
                        "host",
                        {DEVICE: service.Inventory(1)},
                    )
                    for number in range(2 * ROUNDS)
                ),
            ]
        )
        yield started
    views.rows(cloud, f"DROP DATABASE {DATABASE}")


def granted(ask, device):
    """Claim a device for many consumers at once; count who gets it."""
    together = threading.Barrier(CLAIMS)

    def claim(_):
        together.wait()
        return ask(
            f"/allocations/{uuid.uuid4()}",
            method="PUT",
            body={
                "allocations": {
                    service.provider_uuid("host"): {"resources": {"VCPU": 1}},
                    service.provider_uuid(device): {"resources": {DEVICE: 1}},
                },
                "project_id": "project",
                "user_id": "user",
                "consumer_generation": None,
                "consumer_type": "INSTANCE",
            },
        ).status

    with futures.ThreadPoolExecutor(CLAIMS) as threads:
        codes = list(threads.map(claim, range(CLAIMS)))
    assert set(codes) <= {204, 409}, codes
    return codes.count(204)


def test_one_device_is_given_to_one_of_many(placement, note):
    found = {}
    for name, ask, numbers in (
        ("with the extension", placement.ours, range(ROUNDS)),
        ("stock", placement.stock, range(ROUNDS, 2 * ROUNDS)),
    ):
        found[name] = [granted(ask, f"device-{number}") for number in numbers]
        counted = sorted(collections.Counter(found[name]).items())
        note(
            f"{CLAIMS} claims of one device at once, {name}: "
            + ", ".join(f"{n} times {count} granted" for count, n in counted)
        )
    assert found["with the extension"] == [1] * ROUNDS
