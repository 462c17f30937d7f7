# SPDX-License-Identifier: Apache-2.0

import json
import urllib.parse

import pytest

from nova_gpu_filter.placement import earlier_answers
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
        self.answer = candidates(0) if answer is None else answer
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


def ask_placement(application, handler, limit=None, sizes=None):
    limits = []

    def make_handler(most, in_turn):
        limits.append((most, in_turn))
        return handler

    placement = inner.PlacementQueries(
        application,
        make_handler,
        limit,
        sizes or earlier_answers.EarlierAnswers(),
        dict(ENVIRON),
    )
    return placement, limits


def candidates(count, providers=0):
    """An answer with some allocation candidates and summaries."""
    return {
        "allocation_requests": [{}] * count,
        "provider_summaries": {str(i): {} for i in range(providers)},
    }


def test_the_first_question_goes_through_all_of_placement():
    application = Application(candidates(1), headers=[("Vary", "x")])
    handler = Application(candidates(2))
    placement, _ = ask_placement(application, handler)
    placement.open("q=1")
    assert placement.headers == [("Vary", "x")]
    assert placement.find_candidates("q=1", 5) == candidates(1)
    assert placement.find_candidates("q=2", 5) == candidates(2)
    assert application.queries == ["q=1"]
    assert handler.queries == ["q=2"]
    assert placement.asked == 2


def test_later_questions_have_the_context_of_the_first():
    application = Application()
    handler = Application({"resource_providers": []})
    placement, _ = ask_placement(application, handler)
    placement.open("q=1")
    placement.find_providers("q=2")
    [asked] = handler.environs
    assert asked["placement.context"] == "context"
    assert asked["PATH_INFO"] == "/resource_providers"


def test_the_request_of_the_client_is_not_changed():
    environ = dict(ENVIRON)
    placement = inner.PlacementQueries(
        Application(),
        lambda *_: Application(),
        None,
        earlier_answers.EarlierAnswers(),
        environ,
    )
    placement.open("q=1")
    placement.find_candidates("q=2", None)
    assert environ == ENVIRON


def test_where_placement_truncates_only_the_handler_is_asked_in_earnest():
    application = Application({"a": 1}, headers=[("Vary", "x")])
    found = candidates(3)
    handler = Application(found)
    placement, limits = ask_placement(application, handler, 100)
    placement.open("q=1")
    assert placement.headers == [("Vary", "x")]
    assert handler.queries == []
    assert placement.find_candidates("q=1", 70) == found
    assert handler.queries == ["q=1"]
    assert limits[-1] == (70, False)
    placement.find_candidates("q=2", 80, in_turn=True)
    assert limits[-1] == (80, True)
    [asked] = application.queries
    assert asked.endswith("&original=1")
    (resources, _), (in_tree, tree), _ = urllib.parse.parse_qsl(asked)
    assert resources.removeprefix("resources") == in_tree.removeprefix(
        "in_tree"
    )
    assert set(tree) == {"0", "-"}


@pytest.mark.parametrize("limit", [None, 100])
def test_an_answer_that_should_be_small_is_asked_for_at_once(limit):
    found = candidates(99, 50)
    application, handler = Application(found), Application(found)
    placement, limits = ask_placement(application, handler, limit)
    placement.open("q=1")
    assert placement.find_whole("q=1") == found
    assert handler.queries == ["q=1"] * (limit is not None)
    assert limits[-1] == ((100, False) if limit else (-1, False))


def test_one_that_was_taken_for_small_is_not_asked_for_again():
    sizes = earlier_answers.EarlierAnswers()
    handler = Application(candidates(100, 50))
    for _ in range(2):
        placement, _ = ask_placement(Application(), handler, 100, sizes)
        placement.open("q=1")
        assert placement.find_whole("q=1") is None
        assert handler.queries == ["q=1"]


def test_in_a_large_cloud_none_is_taken_for_small():
    sizes = earlier_answers.EarlierAnswers()
    handler = Application(candidates(1, 100))
    placement, _ = ask_placement(Application(), handler, 100, sizes)
    placement.open("q=1")
    placement.find_candidates("q=1", None)
    assert placement.find_whole("q=2") is None
    assert handler.queries == ["q=1"]


def test_what_placement_does_not_limit_we_do_not():
    placement, limits = ask_placement(Application(), Application())
    placement.open("q=1")
    placement.find_candidates("q=2", 70)
    assert set(limits) == {(-1, False)}


@pytest.mark.parametrize("limit", [None, 100])
def test_an_error_of_placement_is_left_to_placement(limit):
    application = Application(status="400 Bad Request")
    placement, _ = ask_placement(application, Application(), limit)
    with pytest.raises(query.NotComposableError, match="status 400"):
        placement.open("q=1")


def test_an_error_of_the_handler_is_left_to_placement():
    placement, _ = ask_placement(Application(), Application(status="404 No"))
    placement.open("q=1")
    with pytest.raises(query.NotComposableError, match="status 404"):
        placement.find_providers("q=2")


def listed(root, *uuids):
    """Providers as GET /resource_providers lists them."""
    return [
        {
            "uuid": uuid,
            "name": uuid,
            "generation": 1,
            "root_provider_uuid": root,
            "parent_provider_uuid": None,
            "links": [{"rel": "self", "href": f"/resource_providers/{uuid}"}],
        }
        for uuid in uuids
    ]


def test_providers_are_grouped_by_their_roots():
    handler = Application(
        {"resource_providers": [*listed("r", "a", "b"), *listed("s", "c")]}
    )
    placement, _ = ask_placement(Application(), handler)
    placement.open("q=1")
    found = placement.find_providers("q=2")
    assert found == {"r": ["a", "b"], "s": ["c"]}
    assert placement.find_providers("q=2") is found
    assert placement.asked == 2  # the first question is one


def test_providers_of_an_amount_are_asked_for():
    question = builders.question(2)
    handler = Application({"resource_providers": listed("r", "a", "b")})
    placement, _ = ask_placement(Application(), handler)
    placement.open("q=1")
    ask = placement.list_capable_providers(question)
    assert ask(question.classes[0], builders.GPU, 2) == {"a", "b"}
    assert handler.queries == [f"resources={builders.GPU}:2"]
