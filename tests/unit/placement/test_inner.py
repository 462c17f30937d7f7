# SPDX-License-Identifier: Apache-2.0

import json
import urllib.parse

import pytest

from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import query
from tests.unit.placement import builders

ENVIRON = {"REQUEST_METHOD": "GET", "QUERY_STRING": "original=1"}


class Chunks:
    """A response body that wants to be closed."""

    def __init__(self, *chunks):
        self.chunks = chunks
        self.is_closed = False

    def __iter__(self):
        return iter(self.chunks)

    def close(self):
        self.is_closed = True


class Application:
    """A WSGI application that notes what it is asked."""

    def __init__(self, answer=None, status="200 OK", headers=()):
        self.answer = {} if answer is None else answer
        self.status = status
        self.headers = list(headers)
        self.queries = []
        self.environs = []

    def __call__(self, environ, start_response):
        self.queries.append(environ["QUERY_STRING"])
        self.environs.append(dict(environ))
        environ["placement.context"] = "context"
        start_response(self.status, self.headers)
        return [json.dumps(self.answer).encode()]


def test_a_response_is_read_to_its_end_and_closed():
    body = Chunks(b"two", b"three")

    def application(environ, start_response):
        write = start_response("200 OK", [("A", "b")])
        write(b"one")
        return body

    reply = inner.call(application, {})
    assert reply == inner.Reply("200 OK", [("A", "b")], b"onetwothree")
    assert body.is_closed


def test_a_response_is_closed_when_it_breaks_off():
    class Breaking(Chunks):
        def __iter__(self):
            raise OSError

    body = Breaking()
    with pytest.raises(OSError):  # noqa: PT011 (any)
        inner.call(lambda environ, start: body, {})
    assert body.is_closed


def conversation(application, handler, is_limited=False):
    return inner.Conversation(application, handler, is_limited, dict(ENVIRON))


def test_the_first_question_goes_through_all_of_placement():
    application = Application({"a": 1}, headers=[("Vary", "x")])
    handler = Application({"b": 2})
    placement = conversation(application, handler)
    assert json.loads(placement.ask_first("q=1")) == {"a": 1}
    assert placement.headers == [("Vary", "x")]
    assert placement.ask("q=2") == {"b": 2}
    assert application.queries == ["q=1"]
    assert handler.queries == ["q=2"]
    assert placement.asked == 2


def test_later_questions_have_the_context_of_the_first():
    application, handler = Application(), Application()
    placement = conversation(application, handler)
    placement.ask_first("q=1")
    placement.ask("q=2")
    assert handler.environs[0]["placement.context"] == "context"


def test_the_request_of_the_client_is_not_changed():
    environ = dict(ENVIRON)
    placement = inner.Conversation(
        Application(), Application(), False, environ
    )
    placement.ask_first("q=1")
    placement.ask("q=2")
    assert environ == ENVIRON


def test_where_placement_truncates_only_the_handler_is_asked_in_earnest():
    application = Application({"a": 1}, headers=[("Vary", "x")])
    handler = Application({"b": 2})
    placement = conversation(application, handler, is_limited=True)
    assert json.loads(placement.ask_first("q=1")) == {"b": 2}
    assert placement.headers == [("Vary", "x")]
    assert handler.queries == ["q=1"]
    [asked] = application.queries
    assert asked.endswith("&original=1")
    (resources, _), (in_tree, tree), _ = urllib.parse.parse_qsl(asked)
    assert resources.removeprefix("resources") == in_tree.removeprefix(
        "in_tree"
    )
    assert set(tree) == {"0", "-"}


@pytest.mark.parametrize("is_limited", [False, True])
def test_an_error_of_placement_is_left_to_placement(is_limited):
    application = Application(status="400 Bad Request")
    placement = conversation(application, Application(), is_limited)
    with pytest.raises(query.NotComposableError, match="status 400"):
        placement.ask_first("q=1")


def test_an_error_of_the_handler_is_left_to_placement():
    placement = conversation(Application(), Application(status="404 No"))
    placement.ask_first("q=1")
    with pytest.raises(query.NotComposableError, match="status 404"):
        placement.ask("q=2")


def test_providers_of_an_amount_are_those_of_the_candidates():
    question = builders.question(2)
    handler = Application(
        {
            "allocation_requests": [
                builders.request({name: {builders.GPU: 2}}, {"_g0": [name]})
                for name in "ab"
            ]
        }
    )
    placement = conversation(Application(), handler)
    placement.ask_first("q=1")
    ask = placement.who_could_give(question)
    assert ask(question.classes[0], builders.GPU, 2) == {"a", "b"}
    assert handler.queries == [f"resources_g0={builders.GPU}:2"]
