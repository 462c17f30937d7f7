# SPDX-License-Identifier: Apache-2.0

from concurrent import futures
import io
import json
import logging
import threading
from unittest import mock

from placement import exception
import pytest
import webob

from nova_gpu_filter.conf import placement_extension
from nova_gpu_filter.placement import allocation_writes

CAPACITY = "Unable to allocate inventory: no room"
GENERATION = "consumer generation conflict - expected 1 but got null"


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were made, which take no time."""
    sleep = mock.Mock()
    monkeypatch.setattr(allocation_writes.time, "sleep", sleep)
    return sleep.mock_calls


class Placement:
    """A Placement whose first writes fail, as a rule for a lost race."""

    def __init__(self, failing, why=None):
        self.failing = failing
        self.why = why or str(
            exception.ResourceProviderConcurrentUpdateDetected()
        )
        self.bodies = []

    def __call__(self, environ, start_response):
        self.bodies.append(webob.Request(environ).body)
        headers = [("X-Try", str(len(self.bodies)))]
        if len(self.bodies) <= self.failing:
            start_response("409 Conflict", headers)
            return [json.dumps({"errors": [{"detail": self.why}]}).encode()]
        start_response("204 No Content", headers)
        return []


@pytest.fixture
def repeat(monkeypatch, conf):
    """Give a function that puts a Repeater in front of a Placement."""
    conf.set_override("allocation_conflict_retry_count", 3, group="placement")
    placement_extension.register_opts(conf)

    def make(writer, application=None):
        monkeypatch.setattr(
            allocation_writes.deploy, "deploy", mock.Mock(return_value=writer)
        )
        return allocation_writes.Repeater(application or mock.Mock(), conf)

    return make


def send(application, method="PUT", path="/allocations/1", body=b"{}"):
    start_response = mock.Mock()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    answer = b"".join(application(environ, start_response))
    [(status, headers)] = [call.args for call in start_response.mock_calls]
    return status, dict(headers), answer


WRITES = [
    ("PUT", "/allocations/6f1c2a"),
    ("POST", "/allocations"),
    ("POST", "/reshaper"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_write_that_lost_is_sent_again_whole(
    repeat, pauses, method, path, lost
):
    placement = Placement(lost)
    answer = send(repeat(placement), method, path, b'{"a": 1}')
    assert answer == ("204 No Content", {"X-Try": str(lost + 1)}, b"")
    assert placement.bodies == [b'{"a": 1}'] * (lost + 1)
    assert len(pauses) == max(0, lost - 1)


@pytest.mark.parametrize(("tries", "expected"), [(0, 1), (1, 1), (3, 3)])
def test_the_client_is_told_when_all_tries_were_lost(
    repeat, conf, caplog, tries, expected
):
    conf.set_override(
        "allocation_conflict_retry_count", tries, group="placement"
    )
    placement = Placement(failing=99)
    with caplog.at_level(logging.WARNING):
        status, headers, body = send(repeat(placement))
    assert (status, headers) == ("409 Conflict", {"X-Try": str(expected)})
    assert b"Please retry your update" in body
    assert len(placement.bodies) == expected
    [record] = caplog.records
    assert (
        f"PUT /allocations/1: other requests were faster {expected} times"
        in record.getMessage()
    )
    assert "[placement]allocation_conflict_retry_count" in record.getMessage()


@pytest.mark.parametrize("why", [CAPACITY, GENERATION])
def test_a_conflict_that_is_no_race_is_not_repeated(repeat, why):
    placement = Placement(failing=1, why=why)
    status, _, _ = send(repeat(placement))
    assert status == "409 Conflict"
    assert len(placement.bodies) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/allocations/1"),
        ("DELETE", "/allocations/1"),
        ("PUT", "/resource_providers/1/inventories"),
        ("POST", "/resource_providers"),
    ],
)
def test_other_requests_reach_placement_as_they_are(repeat, method, path):
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    start_response = mock.Mock()
    writer, application = mock.Mock(), mock.Mock(return_value=[b"stock"])
    answer = repeat(writer, application)(environ, start_response)
    assert answer == [b"stock"]
    [asked] = application.mock_calls
    assert asked.args == (environ, start_response)
    assert asked.args[0] is environ
    assert not writer.mock_calls


def test_placement_tries_once_and_is_not_changed(repeat, conf):
    repeat(Placement(failing=0))
    [made] = allocation_writes.deploy.deploy.mock_calls
    [writer_conf] = made.args
    assert writer_conf.placement.allocation_conflict_retry_count == 1
    assert conf.placement.allocation_conflict_retry_count == 3


BODIES = {
    "PUT": {"allocations": {"rp": {"resources": {"VCPU": 1}}}},
    "PUT below 1.12": {
        "allocations": [
            {"resource_provider": {"uuid": "rp"}, "resources": {"VCPU": 1}}
        ]
    },
    "POST": {"consumer": {"allocations": {"rp": {"resources": {"VCPU": 1}}}}},
    "reshaper": {
        "inventories": {"rp": {"inventories": {}}},
        "allocations": {},
    },
}


def race(repeat, bodies, timeout_s):
    """Have writes lose at the same time; return whether they overlap after.

    Each second try waits for the other, and gives up after a while.
    """
    both = threading.Barrier(2)
    tries = threading.local()
    overlapped = []

    def write(environ, start_response):
        webob.Request(environ).body  # noqa: B018 (reads it)
        tries.count = getattr(tries, "count", 0) + 1
        if tries.count == 1:
            both.wait(30)
            return Placement(1)(environ, start_response)
        try:
            both.wait(timeout_s)
            overlapped.append(True)
        except threading.BrokenBarrierError:
            overlapped.append(False)
        start_response("204 No Content", [])
        return []

    repeater = repeat(write)
    with futures.ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(
                lambda body: send(repeater, body=json.dumps(body).encode()),
                bodies,
            )
        )
    assert [status for status, _, _ in answers] == ["204 No Content"] * 2
    return all(overlapped)


@pytest.mark.parametrize("form", BODIES)
def test_writes_for_one_provider_that_lost_go_one_by_one(repeat, form):
    both = [BODIES[form], BODIES["PUT"]]
    assert not race(repeat, both, timeout_s=0.2)


@pytest.mark.parametrize("form", BODIES)
def test_writes_for_different_providers_do_not_wait(repeat, form):
    other = {"allocations": {"other": {"resources": {"VCPU": 1}}}}
    assert race(repeat, [BODIES[form], other], timeout_s=30)


def test_a_write_whose_body_was_not_kept_is_not_sent_again(repeat):
    def lose(environ, start_response):
        environ["wsgi.input"].read()
        return Placement(1)(environ | {"CONTENT_LENGTH": "0"}, start_response)

    status, _, _ = send(repeat(lose))
    assert status == "409 Conflict"


def test_without_the_option_writes_reach_placement_as_they_are(repeat, conf):
    writer, application = mock.Mock(), mock.Mock(return_value=[b"stock"])
    repeater = repeat(writer, application)
    conf.set_override("retry_allocation_writes", False, group="gpu_filter")
    environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/allocations/1"}
    assert repeater(environ, mock.Mock()) == [b"stock"]
    assert not writer.mock_calls
