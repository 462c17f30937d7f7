# SPDX-License-Identifier: Apache-2.0

"""Whatever keeps a command from an answer is one clear line, and exit 1."""

import types

from keystoneauth1 import adapter
from keystoneauth1 import session
from keystoneauth1 import token_endpoint
import pytest

from tests.functional.fleet import adapters
from tests.functional.osc import shell
from tests.functional.osc import worlds
from tests.functional.placement import service

COMMANDS = (
    "gpu device list",
    "gpu device show hgx-1_0000:1b:00.0",
    "gpu device quarantine hgx-1_0000:1b:00.0",
    "gpu pool show remote",
    "gpu host list",
    "gpu host show hgx-1",
    "gpu topology show hgx-1",
    "gpu capacity --flavor small",
    "gpu explain --flavor small",
    "gpu flavor check small",
    'gpu quota --alias {"name":"h100","resource_class":"x"}',
    'gpu drift --alias {"name":"h100","resource_class":"x"}',
)


@pytest.fixture(scope="module")
def placement():
    """Run a Placement with the small cloud."""
    with service.Placement() as running:
        worlds.build(running)
        yield running


@pytest.fixture(scope="module")
def empty_placement():
    """Run a Placement with nothing in it, in place of the other one."""
    with service.Placement() as running:
        running.replace_providers([])
        yield running


def _fails(asked, arguments):
    openstack = shell.Shell(
        types.SimpleNamespace(
            placement=asked,
            compute=worlds.nova(),
            identity=adapters.Keystone({worlds.PROJECT: "lab"}),
        )
    )
    result = openstack.run(*arguments.split())
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    return result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_user_without_permission_is_told(placement, command):
    asked = adapters.PlacementAdapter(placement)
    asked.token = "someone"  # noqa: S105
    assert "Placement refuses GET /" in _fails(asked, command)
    assert "HTTP 403): this needs a user whom its policy lets do it" in _fails(
        asked, command
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_placement_that_is_too_old_is_told(placement, command):
    asked = adapters.PlacementAdapter(placement)
    asked.is_old = True
    assert _fails(asked, command).startswith(
        "Placement does not offer microversion 1.31, which is needed here: "
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_placement_that_is_not_there_for_now_is_told(placement, command):
    """A balancer that has nothing behind it."""
    asked = adapters.PlacementAdapter(placement)
    asked.answer = adapters.Response(503, {}, "Service Unavailable")
    line = _fails(asked, command)
    assert line.startswith("Placement: GET /")
    assert line.endswith(": HTTP 503: Service Unavailable\n")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"versions": []}, ": HTTP 200: the answer has no '"),
        ([], ": HTTP 200: the answer is no JSON object\n"),
        (None, ": HTTP 200: the answer is no JSON object\n"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_another_service_in_place_of_placement_is_told(
    placement, command, body, line
):
    asked = adapters.PlacementAdapter(placement)
    asked.answer = adapters.Response(200, body)
    found = _fails(asked, command)
    assert found.startswith("Placement: GET /")
    assert line in found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cloud_without_placement_is_told(command):
    nowhere = adapter.Adapter(
        session.Session(
            auth=token_endpoint.Token("http://127.0.0.1:9", "token")
        ),
        service_type="placement",
    )
    assert _fails(nowhere, command).startswith(
        "Placement cannot be reached: Unable to establish connection to"
        " http://127.0.0.1:9/"
    )


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("gpu device list", "Placement has no PCI devices: no provider below"),
        ("gpu host list", "Placement has no PCI devices: no provider below"),
        ("gpu host show a", "no host 'a'\n"),
    ],
)
def test_an_empty_cloud_is_told(empty_placement, command, line):
    asked = adapters.PlacementAdapter(empty_placement)
    assert _fails(asked, command).startswith(line)
