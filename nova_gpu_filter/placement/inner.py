# SPDX-License-Identifier: Apache-2.0

"""Ask Placement over WSGI in the same process."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import json
from typing import Any
from typing import TypeAlias
import uuid

from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees

Environ: TypeAlias = dict[str, Any]
Headers: TypeAlias = list[tuple[str, str]]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A response, read to its end."""

    status: str
    """Code and reason, as in ``200 OK``."""
    headers: Headers
    body: bytes


def call(application: Application, environ: Environ) -> Reply:
    """Call an application and read its response.

    :param environ: middleware may write into it.
    :raises Exception: whatever the application raises.
    """
    status = ""
    headers: Headers = []
    written: list[bytes] = []

    def start_response(
        new_status: str, new_headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        nonlocal status, headers
        status, headers = new_status, list(new_headers)
        return written.append

    chunks = application(environ, start_response)
    try:
        body = list(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    return Reply(status, headers, b"".join((*written, *body)))


class Conversation:
    """What Placement is asked to answer one request of a client."""

    def __init__(
        self,
        application: Application,
        handler: Application,
        is_limited: bool,
        environ: Environ,
    ) -> None:
        """Nothing is asked yet.

        :param application: the whole of Placement.
        :param handler: Placement without authentication and request log, and
            without ``max_allocation_candidates``.
        :param is_limited: whether ``application`` could truncate an answer.
        :param environ: the client's request; it is not changed.
        """
        self._application = application
        self._handler = handler
        self._is_limited = is_limited
        self._environ = environ
        self._prepared: Environ = {}
        self.headers: Headers = []
        """Those of Placement's answer to the client."""
        self.asked = 0
        """How many questions Placement has worked on."""

    def ask_first(self, query_string: str) -> bytes:
        """Ask the question that decides whether the client gets an answer.

        :returns: the body of a 200 answer.
        :raises NotComposableError: another status.
        """
        if self._is_limited:
            self._prepared = {
                **self._environ,
                "QUERY_STRING": _unanswerable(self._environ["QUERY_STRING"]),
            }
            self.headers = _ok(call(self._application, self._prepared)).headers
            return self._ask_handler(query_string)
        self._prepared = {**self._environ, "QUERY_STRING": query_string}
        self.asked += 1
        reply = _ok(call(self._application, self._prepared))
        self.headers = reply.headers
        return reply.body

    def ask(self, query_string: str) -> trees.Answer:
        """Ask a further question.

        :raises NotComposableError: the answer is not 200.
        """
        answer: trees.Answer = json.loads(self._ask_handler(query_string))
        return answer

    def who_could_give(
        self, question: query.Question
    ) -> Callable[[query.GroupClass, str, int], set[str]]:
        """Return the function that :func:`trees.find_room` asks."""

        def ask(
            group_class: query.GroupClass, resource_class: str, amount: int
        ) -> set[str]:
            answer = self.ask(
                question.of_amount(group_class, resource_class, amount)
            )
            return {
                provider
                for request in answer["allocation_requests"]
                for provider in request["allocations"]
            }

        return ask

    def _ask_handler(self, query_string: str) -> bytes:
        self.asked += 1
        environ = {**self._prepared, "QUERY_STRING": query_string}
        return _ok(call(self._handler, environ)).body


def _ok(reply: Reply) -> Reply:
    code = reply.status.partition(" ")[0]
    if code != "200":
        raise query.NotComposableError(f"status {code}")
    return reply


def _unanswerable(query_string: str) -> str:
    """Add a group that no provider can serve, to be looked for first.

    Placement reads and checks all of the query, and gives up at the first
    group that nothing can serve.
    """
    nowhere = uuid.UUID(int=0)
    suffix = f"_{uuid.uuid4().hex}"
    return f"resources{suffix}=VCPU:1&in_tree{suffix}={nowhere}&{query_string}"
