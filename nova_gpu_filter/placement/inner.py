# SPDX-License-Identifier: Apache-2.0

"""Ask Placement over WSGI in the same process."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import json
from typing import Any
from typing import TypeAlias
import uuid

from nova_gpu_filter.placement import earlier_answers
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees

Environ: TypeAlias = dict[str, Any]
Headers: TypeAlias = list[tuple[str, str]]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

_ALL = -1
"""As ``[placement]max_allocation_candidates``: no limit."""


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


@dataclasses.dataclass(eq=False)
class PlacementQueries:
    """What Placement is asked to answer one request of a client."""

    application: Application
    """The whole of Placement."""
    make_handler: Callable[[int, bool], Application]
    """Returns Placement without authentication and request log, which gives
    as many allocation candidates at most (-1 is all of them), and, if the
    second argument is true, of all hosts in turn."""
    limit: int | None
    """How many candidates ``application`` gives at most; None for any number.
    """
    earlier: earlier_answers.EarlierAnswers
    """What is known of earlier answers."""
    environ: Environ
    """The client's request; it is not changed."""

    def __post_init__(self) -> None:
        """Nothing is asked yet."""
        self._handler = self.make_handler(_ALL, False)
        self._prepared: Environ = {}
        self._first: tuple[str, bytes] | None = None
        self.headers: Headers = []
        """Those of Placement's answer to the client."""
        self._found: dict[str, dict[str, list[str]]] = {}
        self.asked = 0
        """How many questions Placement has worked on."""

    def open(self, query_string: str) -> None:
        """Find out whether the client gets an answer.

        :param query_string: what will be asked for first; where Placement does
            not truncate, now.
        :raises NotComposableError: Placement does not answer with 200.
        """
        asked = query_string
        if self.limit is not None:
            asked = _make_unanswerable(self.environ["QUERY_STRING"])
        self._prepared = {**self.environ, "QUERY_STRING": asked}
        reply = _check_ok(call(self.application, self._prepared))
        self.headers = reply.headers
        if self.limit is None:
            self.asked += 1
            self._first = query_string, reply.body

    def find_whole(self, query_string: str) -> trees.Answer | None:
        """Ask for all allocation candidates, if they should be few.

        :returns: None where they are, or could be, as many as the operator
            allows.
        :raises NotComposableError: the answer is not 200.
        """
        if self.limit is not None and not self.earlier.is_small(
            query_string, self.limit
        ):
            return None
        found = self.find_candidates(query_string, self.limit)
        is_small = (
            self.limit is None
            or len(found["allocation_requests"]) < self.limit
        )
        self.earlier.note_size(query_string, is_small)
        return found if is_small else None

    def find_candidates(
        self, query_string: str, most: int | None, in_turn: bool = False
    ) -> trees.Answer:
        """Ask for allocation candidates.

        :param most: how many are read where the operator limits them.
        :param in_turn: whether these are of all hosts in turn, so that what
            is cut off is not a whole host. Placement then takes time that
            grows with the square of the hosts (roundrobin in
            placement/util.py).
        :raises NotComposableError: the answer is not 200.
        """
        if self._first is not None and self._first[0] == query_string:
            body = self._first[1]
        else:
            handler = self._handler
            if self.limit is not None and most is not None:
                handler = self.make_handler(most, in_turn)
            body = self._ask(handler, query_string)
        answer: trees.Answer = json.loads(body)
        self.earlier.note_providers(answer)
        return answer

    def find_providers(self, query_string: str) -> dict[str, list[str]]:
        """Ask for resource providers, once for a query.

        :returns: root provider UUID -> UUIDs of providers in its tree.
        :raises NotComposableError: the answer is not 200.
        """
        found = self._found.get(query_string)
        if found is None:
            body = self._ask(
                self._handler, query_string, PATH_INFO="/resource_providers"
            )
            self.earlier.note_accepted(query_string)
            found = self._found[query_string] = {}
            for root, provider in json.loads(body, object_hook=_read_provider):
                found.setdefault(root, []).append(provider)
        return found

    def check_providers(self, query_string: str) -> None:
        """See that Placement does not refuse to look for resource providers.

        :raises NotComposableError: it does, as for a trait that does not
            exist.
        """
        if not self.earlier.is_accepted(query_string):
            self.find_providers(query_string)

    def list_capable_providers(
        self, question: query.Question
    ) -> Callable[[query.GroupClass, str, int], set[str]]:
        """Return what :func:`remaining_capacity.find` asks."""

        def ask(
            group_class: query.GroupClass, resource_class: str, amount: int
        ) -> set[str]:
            by_root = self.find_providers(
                question.build_capable_providers_query(
                    group_class, resource_class, amount
                )
            )
            return {p for found in by_root.values() for p in found}

        return ask

    def _ask(
        self, handler: Application, query_string: str, **environ: str
    ) -> bytes:
        self.asked += 1
        asked = {**self._prepared, "QUERY_STRING": query_string, **environ}
        return _check_ok(call(handler, asked)).body


def _read_provider(found: dict[str, Any]) -> Any:
    """Read an object of the answer to GET /resource_providers.

    Most of the answer are links, which are dropped at once.
    """
    if "uuid" in found:
        return found["root_provider_uuid"], found["uuid"]
    return found.get("resource_providers")


def _check_ok(reply: Reply) -> Reply:
    code = reply.status.partition(" ")[0]
    if code != "200":
        raise query.NotComposableError(f"status {code}")
    return reply


def _make_unanswerable(query_string: str) -> str:
    """Add a group that no provider can serve: Placement checks all of the
    query, and gives up at the first such group."""
    nowhere = uuid.UUID(int=0)
    suffix = f"_{uuid.uuid4().hex}"
    return f"resources{suffix}=VCPU:1&in_tree{suffix}={nowhere}&{query_string}"
