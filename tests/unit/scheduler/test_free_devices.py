# SPDX-License-Identifier: Apache-2.0

"""What Placement says of the devices that are free, or does not."""

from unittest import mock

from keystoneauth1 import exceptions
from nova.scheduler.client import report
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter.scheduler import free_devices

GPU = ("CUSTOM_GPU", 1)
VFS = ("CUSTOM_VF", 2)


@pytest.fixture
def client(monkeypatch):
    found = mock.Mock()
    monkeypatch.setattr(report, "report_client_singleton", lambda: found)
    return found.get


def answer(status=200, text="", **body):
    return mock.Mock(
        status_code=status, text=text, json=mock.Mock(return_value=body)
    )


def test_each_class_and_amount_is_asked_for(client):
    client.side_effect = [
        answer(resource_providers=[{"uuid": uuids.one}, {"uuid": uuids.two}]),
        answer(resource_providers=[]),
    ]
    assert free_devices.list_free(uuids.root, [GPU, VFS]) == {
        GPU: {uuids.one, uuids.two},
        VFS: frozenset(),
    }
    assert [call.args[0].partition("?")[2] for call in client.mock_calls] == [
        f"in_tree={uuids.root}&resources=CUSTOM_GPU:1",
        f"in_tree={uuids.root}&resources=CUSTOM_VF:2",
    ]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ([answer(503, "<html>\n\x1b[31mbusy\n")], "503, <html> \\x1b[31mbusy"),
        ([answer(resource_classes=[])], "KeyError: 'resource_providers'"),
        (exceptions.ConnectFailure("Connection refused"), "ConnectFailure"),
        (exceptions.EndpointNotFound(), "EndpointNotFound"),
        ([answer(500, "x" * 100_000)], "status 500, xxx"),
    ],
)
def test_a_placement_that_does_not_say_is_one_line(
    client, caplog, said, error
):
    client.side_effect = said
    assert free_devices.list_free(uuids.root, [GPU, VFS]) is None
    [message] = caplog.messages
    assert message.isprintable()
    assert len(message) < 5000
    assert error in message
    assert uuids.root in message
