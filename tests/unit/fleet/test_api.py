# SPDX-License-Identifier: Apache-2.0

"""Every failure of a service is one clear line."""

import keystoneauth1.exceptions
import pytest

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors


class _Response:
    def __init__(self, status_code, body=None):
        self.status_code = status_code
        self.reason = "Reason"
        self.headers = {}
        self._body = body

    def json(self):
        if self._body is None:
            raise ValueError("no JSON")
        return self._body


class _Adapter:
    def __init__(self, answer):
        self._answer = answer

    def get(self, path, raise_exc, headers, microversion=None):
        self.asked = (path, headers["Accept"], microversion)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def _get(answer, microversion="1.31"):
    return api.make_getter(_Adapter(answer), "Placement", microversion)("/x")


def test_the_answer_is_the_json_object():
    assert _get(_Response(200, {"a": 1})) == {"a": 1}


@pytest.mark.parametrize("microversion", ["1.31", None])
def test_the_microversion_is_sent_where_there_is_one(microversion):
    adapter = _Adapter(_Response(200, {}))
    api.make_getter(adapter, "Placement", microversion)("/x")
    assert adapter.asked == ("/x", "application/json", microversion)


_PLACEMENT_ERROR = {
    "errors": [{"detail": "The server\n could not comply.", "status": 406}]
}
_NOVA_ERROR = {"computeFault": {"code": 500, "message": "Out of\n luck."}}


@pytest.mark.parametrize(
    ("answer", "error", "line"),
    [
        (
            _Response(403, {}),
            errors.NotAllowed,
            "Placement refuses GET /x (HTTP 403): this needs a user",
        ),
        (
            keystoneauth1.exceptions.Unauthorized("no"),
            errors.NotAllowed,
            "Placement refuses GET /x (HTTP 401)",
        ),
        (
            _Response(404, {}),
            errors.NotFound,
            "Placement: GET /x: not found",
        ),
        (
            _Response(406, _PLACEMENT_ERROR),
            errors.TooOld,
            "Placement does not offer microversion 1.31, which is needed"
            " here: The server could not comply.",
        ),
        (
            _Response(500, _NOVA_ERROR),
            errors.Failed,
            "Placement: GET /x: HTTP 500: Out of luck.",
        ),
        (
            _Response(502),
            errors.Failed,
            "Placement: GET /x: HTTP 502: Reason",
        ),
        (
            _Response(200),
            errors.Failed,
            "Placement: GET /x: HTTP 200: the answer is no JSON",
        ),
        *(
            (
                _Response(200, body),
                errors.Failed,
                "Placement: GET /x: HTTP 200: the answer is no JSON object",
            )
            for body in ([], "null", 5)
        ),
        (
            keystoneauth1.exceptions.EndpointNotFound("no\n endpoint"),
            errors.Unreachable,
            "Placement cannot be reached: no endpoint",
        ),
        (
            ConnectionError(),
            errors.Unreachable,
            "Placement cannot be reached: ConnectionError",
        ),
    ],
)
def test_a_failure_is_one_line(answer, error, line):
    with pytest.raises(error) as caught:
        _get(answer)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_an_answer_without_what_every_one_has_is_a_failure():
    """Of a proxy, or of another service at the wrong endpoint."""
    answer = _get(_Response(200, {"versions": []}))
    assert answer.get("resource_providers") is None
    with pytest.raises(errors.Failed) as caught:
        answer["resource_providers"]
    assert str(caught.value) == (
        "Placement: GET /x: HTTP 200: the answer has no 'resource_providers'"
    )


@pytest.mark.parametrize("number", [0, 1, 40])
def test_several_questions_are_answered_in_their_order(number):
    found = list(api.ask_all(lambda n: n * n, range(number)))
    assert found == [(n, n * n) for n in range(number)]


def test_the_first_failure_of_several_questions_is_raised():
    def ask(number):
        if number == 3:
            raise errors.NotFound(service="Nova", path="/3")
        return number

    with pytest.raises(errors.NotFound, match="GET /3"):
        list(api.ask_all(ask, range(100)))
