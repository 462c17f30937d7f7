# SPDX-License-Identifier: Apache-2.0

"""Every way in which Placement does not answer is one line with a cure."""

import pytest
import requests
import requests_mock

from nova_gpu_filter.status import client

URL = "http://placement.example"
CONF = f"""
[placement]
auth_type = admin_token
endpoint = {URL}
token = secret
"""


@pytest.fixture
def web():
    with requests_mock.Mocker() as mocker:
        yield mocker


def test_an_answer_has_a_body_and_headers(make_node, web):
    web.get(f"{URL}/x", json={"a": 1}, headers={"X-Test": "yes"})
    answer = make_node(CONF).placement.get("/x")
    assert answer == {"a": 1}
    assert answer.headers["x-test"] == "yes"
    asked = web.last_request.headers
    assert asked["OpenStack-API-Version"] == "placement 1.36"
    assert asked["X-Auth-Token"] == "secret"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status_code": 401}, "refuses the credentials in [placement]"),
        ({"status_code": 403}, "give it the roles service and admin"),
        ({"status_code": 404}, "or [placement]endpoint_override"),
        ({"exc": requests.exceptions.ConnectionError}, "cannot be reached"),
        ({"exc": requests.exceptions.ConnectTimeout}, "cannot be reached"),
        ({"status_code": 500}, "GET /x: HTTP 500"),
        ({"text": "<html>"}, "the answer is no JSON. If this is no"),
        ({"text": "[]"}, "the answer is no JSON object. If"),
    ],
)
def test_what_is_no_answer_is_told_with_its_cure(
    make_node, web, answer, words
):
    web.get(f"{URL}/x", **answer)
    with pytest.raises(client.PlacementError) as raised:
        make_node(CONF).placement.get("/x")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_credentials_the_options_are_named(make_node):
    with pytest.raises(client.PlacementError) as raised:
        make_node().placement.get("/x")
    assert "set [placement]auth_type, auth_url" in str(raised.value)


def test_a_placement_that_cannot_be_reached_is_asked_once(make_node, web):
    web.get(f"{URL}/x", exc=requests.exceptions.ConnectionError)
    placement = make_node(CONF).placement
    for path in ("/x", "/x", "/y"):
        with pytest.raises(client.PlacementError, match="cannot be reached"):
            placement.get(path)
    assert web.call_count == 1
