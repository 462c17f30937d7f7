# SPDX-License-Identifier: Apache-2.0

import io
import logging
from unittest import mock

from oslo_config import cfg
from placement import conf as placement_conf
from placement import exception
from placement.objects import allocation
import pytest

from nova_gpu_filter.placement import allocation_writes


@pytest.fixture
def conf():
    """The options of Placement, with three tries a write."""
    config = cfg.ConfigOpts()
    placement_conf.register_opts(config)
    config.set_default("connection", "sqlite://", group="placement_database")
    config([], default_config_files=[])
    config.set_override(
        "allocation_conflict_retry_count", 3, group="placement"
    )
    yield config
    # Configurations of one process share groups, with what was overridden.
    config.clear_override("allocation_conflict_retry_count", group="placement")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(allocation_writes.time, "sleep", mock.Mock())


class Placement:
    """A Placement whose first writes lose their races."""

    def __init__(self, monkeypatch, lost):
        self.lost = lost
        self.bodies = []
        self.tries = 0
        monkeypatch.setattr(allocation, "_set_allocations", self._set)

    def _set(self, context, alloc_list):
        self.tries += 1
        if self.tries <= self.lost:
            raise exception.ResourceProviderConcurrentUpdateDetected()

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        self.bodies.append(environ["wsgi.input"].read(length))
        try:
            allocation.replace_all(None, [])
        except exception.ConcurrentUpdateDetected:
            start_response("409 Conflict", [("X-Try", str(self.tries))])
            return [b"lost"]
        start_response("204 No Content", [("X-Try", str(self.tries))])
        return []


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
    monkeypatch, conf, method, path, lost
):
    placement = Placement(monkeypatch, lost)
    answer = send(
        allocation_writes.Repeater(placement, conf), method, path, b'{"a": 1}'
    )
    assert answer == ("204 No Content", {"X-Try": str(lost + 1)}, b"")
    assert placement.bodies == [b'{"a": 1}'] * (lost + 1)


@pytest.mark.parametrize(("tries", "expected"), [(0, 1), (1, 1), (3, 3)])
def test_the_client_is_told_when_all_tries_were_lost(
    monkeypatch, conf, caplog, tries, expected
):
    conf.set_override(
        "allocation_conflict_retry_count", tries, group="placement"
    )
    placement = Placement(monkeypatch, lost=99)
    with caplog.at_level(logging.WARNING):
        answer = send(allocation_writes.Repeater(placement, conf))
    assert answer == ("409 Conflict", {"X-Try": str(expected)}, b"lost")
    assert placement.tries == expected
    [record] = caplog.records
    assert (
        f"PUT /allocations/1: other requests were faster {expected} times"
        in record.getMessage()
    )
    assert "[placement]allocation_conflict_retry_count" in record.getMessage()


def test_a_conflict_that_is_no_race_is_not_repeated(monkeypatch, conf):
    placement = Placement(monkeypatch, lost=0)
    monkeypatch.setattr(
        allocation,
        "_set_allocations",
        mock.Mock(side_effect=exception.ConcurrentUpdateDetected()),
    )
    status, _, _ = send(allocation_writes.Repeater(placement, conf))
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
def test_other_requests_reach_placement_as_they_are(conf, method, path):
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    start_response = mock.Mock()
    application = mock.Mock(return_value=[b"stock"])
    answer = allocation_writes.Repeater(application, conf)(
        environ, start_response
    )
    assert answer == [b"stock"]
    [asked] = application.mock_calls
    assert asked.args == (environ, start_response)
    assert asked.args[0] is environ


def test_placement_without_the_extension_stays_as_it_is(monkeypatch):
    stock = mock.Mock()
    monkeypatch.setattr(allocation_writes, "_stock_replace_all", stock)
    allocation.replace_all("context", ["allocation"])
    stock.assert_called_once_with("context", ["allocation"])


def test_requests_that_lost_wait_for_their_turn(monkeypatch, conf):
    """While one is sent again, another that loses is not."""
    placement = Placement(monkeypatch, lost=1)
    repeater = allocation_writes.Repeater(placement, conf)
    held = []
    stock_try = repeater._try

    def note(request):
        held.append(repeater._turn.locked())
        return stock_try(request)

    monkeypatch.setattr(repeater, "_try", note)
    send(repeater)
    assert held == [False, True]
    assert not repeater._turn.locked()
