# SPDX-License-Identifier: Apache-2.0

"""Writes of allocations, good and bad, against stock Placement.

The same bytes are sent to both, from the same state of the database. Status,
headers and text must be the same, and so must be how much of the body was
read: an application in front of Placement must not read what Placement, which
authenticates first, would not.
"""

import io
import json
import os
import random
import re
import uuid

from demo import threads  # noqa: F401

# isort: split

from placement import db_api
from placement.db.sqlalchemy import models
import pytest
import sqlalchemy as sa

from tests.functional.placement import service

CASES = int(os.environ.get("PLACEMENT_WRITE_CASES", "150"))

DEVICE = "CUSTOM_DEVICE"
PROVIDERS = [
    service.Provider("host", inventories={"VCPU": service.Inventory(8)}),
    service.Provider("gpu", "host", {DEVICE: service.Inventory(1)}),
]
CONSUMERS = [str(uuid.UUID(int=number)) for number in (1, 2)]
NOWHERE = str(uuid.UUID(int=99))


class Body(io.BytesIO):
    """A body that notes how much of it was read."""

    def __init__(self, body):
        super().__init__(body)
        self.taken = 0

    def read(self, size=-1):
        """Read as a file does."""
        found = super().read(size)
        self.taken += len(found)
        return found

    def readline(self, size=-1):
        """Read a line as a file does."""
        found = super().readline(size)
        self.taken += len(found)
        return found


def mostly(rng, good, *others):
    """Draw the good value, or in one of ten cases another."""
    return rng.choice(others) if rng.randrange(10) == 0 else good


def _allocations(rng):
    amounts = {
        service.provider_uuid("host"): {
            "VCPU": mostly(rng, 1, 3, 4, 8, 0, "a")
        },
        service.provider_uuid("gpu"): {DEVICE: mostly(rng, 1, 2, 0)},
        NOWHERE: {"VCPU": 1},
    }
    used = list(amounts)[: mostly(rng, 2, 0, 1, 3)]
    return {provider: {"resources": amounts[provider]} for provider in used}


def _consumer(rng):
    found = {
        "allocations": _allocations(rng),
        "project_id": "project",
        "user_id": "user",
        "consumer_generation": mostly(rng, None, 0, 1, "x"),
        "consumer_type": "INSTANCE",
        "mappings": {"": [service.provider_uuid("host")]},
    }
    for name in rng.sample(list(found), mostly(rng, 0, 1, 2)):
        del found[name]
    return found


def _body(rng, path):
    if path == "/reshaper":
        found = {
            "inventories": {},
            "allocations": {CONSUMERS[0]: _consumer(rng)},
        }
    elif path == "/allocations":
        found = {name: _consumer(rng) for name in CONSUMERS}
    else:
        found = _consumer(rng)
    text = json.dumps(found).encode()
    return mostly(
        rng,
        text,
        text[:-1],
        text * 2,
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"allocations": ' + b"[" * 2000,
        b" " * 70_000 + text,
    )


def draw(seed):
    """Draw the environment of a write, without its input, and its body."""
    rng = random.Random(seed)
    method, path = rng.choice(
        (
            *(("PUT", f"/allocations/{CONSUMERS[0]}"),) * 6,
            ("PUT", "/allocations/no-uuid"),
            ("PUT", "/allocations/"),
            ("PUT", "/allocations/a/b"),
            ("PUT", "/allocations/\xe4"),
            *(("POST", "/allocations"),) * 3,
            ("POST", "/reshaper"),
        )
    )
    body = _body(rng, path)
    good = str(len(body))
    too_long = str(len(body) + 100)
    bad = ("abc", "-1", "", "0", None, "3", "1 ", too_long, "9" * 5000)
    length = mostly(rng, good, *bad)
    versions = ("1.0", "1.8", "1.12", "1.13", "1.28", "1.30", "1.34", "latest")
    version = mostly(rng, "1.39", *versions, "1.99", "x", "1." + "9" * 5000)
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": mostly(rng, "", "a=1", "%ff"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "HTTP_HOST": "localhost",
        "HTTP_OPENSTACK_API_VERSION": f"placement {version}",
        "CONTENT_TYPE": mostly(
            rng, "application/json", "text/plain", "", "application/json;"
        ),
        "HTTP_X_AUTH_TOKEN": mostly(rng, "admin", "bob:bob", "", None),
        "HTTP_ACCEPT": mostly(rng, None, "application/json", "*/*", "a/b"),
        "CONTENT_LENGTH": length,
    }
    if rng.randrange(12) == 0:
        environ |= {
            "HTTP_TRANSFER_ENCODING": "chunked",
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": None,
        }
    return {k: v for k, v in environ.items() if v is not None}, body


@pytest.fixture
def reset(placement):
    """Give a function that undoes what was written."""
    placement.replace_providers(PROVIDERS)
    holder = placement.allocate(
        {
            "allocations": {
                service.provider_uuid("host"): {"resources": {"VCPU": 1}}
            },
            "mappings": {"": [service.provider_uuid("host")]},
        }
    )

    def undo():
        with db_api.get_placement_engine().begin() as connection:
            connection.execute(
                sa.delete(models.Allocation).where(
                    models.Allocation.consumer_id != holder
                )
            )
            connection.execute(
                sa.delete(models.Consumer).where(
                    models.Consumer.uuid != holder
                )
            )
            connection.execute(
                sa.update(models.ResourceProvider).values(generation=0)
            )

    return undo


def send(application, environ, body):
    """Return all that a client and an operator could see of an answer."""
    stream = Body(body)
    started = []

    def start_response(status, headers, exc_info=None):
        started.append((status, headers))

    chunks = application(environ | {"wsgi.input": stream}, start_response)
    text = b"".join(chunks)
    [(status, headers)] = started
    return {
        "status": status,
        "headers": sorted(
            (name.lower(), re.sub("^req-.*", "req-", value))
            for name, value in headers
        ),
        "text": re.sub(rb"req-[0-9a-f-]{36}", b"req-", text),
        "taken": stream.taken,
    }


def test_a_write_has_the_answer_of_placement(placement, reset):
    statuses = set()
    for seed in range(CASES):
        environ, body = draw(seed)
        reset()
        stock = send(placement.applications["stock"], environ, body)
        reset()
        ours = send(placement.applications["ours"], environ, body)
        assert ours == stock, (seed, environ, body)
        statuses.add(stock["status"][:3])
    assert {"204", "400", "401", "403", "409"} <= statuses


@pytest.mark.parametrize(
    ("token", "status"), [(None, "401"), ("bob:bob", "403")]
)
def test_nothing_is_read_of_who_may_not_write(placement, token, status):
    environ, _ = draw(0)
    environ |= {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": f"/allocations/{CONSUMERS[0]}",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(300 << 20),
        "HTTP_OPENSTACK_API_VERSION": "placement 1.39",
    }
    environ.pop("HTTP_X_AUTH_TOKEN", None)
    if token:
        environ["HTTP_X_AUTH_TOKEN"] = token
    answer = send(placement.applications["ours"], environ, b"x" * 1000)
    assert answer["status"].startswith(status)
    assert answer["taken"] == 0
