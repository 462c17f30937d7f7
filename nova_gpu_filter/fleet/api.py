# SPDX-License-Identifier: Apache-2.0

"""Asks one OpenStack service; every failure is one clear line."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
from typing import Any
from typing import Final
from typing import TypeAlias
from typing import TypeVar

from keystoneauth1 import exceptions as ksa_exceptions

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import forms

Get: TypeAlias = Callable[[str], Any]
"""Asks a service for a path; returns the :class:`Answer`.

:raises FleetError: there is none; the message is for an operator.
"""

Send: TypeAlias = Callable[[str, Any], Any]
"""Sends a JSON object, or None, to a path of a service; returns that of the
answer, or None.

:raises FleetError: it was not taken; ``Conflict``: it has changed meanwhile.
"""

PLACEMENT_MICROVERSION: Final = "1.31"
"""First one whose allocation candidates can be asked of one tree; all of its
providers are in them since 1.29."""
COMPUTE_MICROVERSION: Final = "2.69"
"""First one that tells of a cell that is down what it knows, and not nothing
(Nova 19; lists of flavors have extra specs since 2.61)."""
IMAGE_PROPERTIES_MICROVERSION: Final = "2.98"
"""First one that shows the properties of a server's image (Nova 31)."""

WORKERS: Final = 8
"""Requests at once. As many as the workers of a small control plane, so that
a status command does not keep the scheduler waiting."""

_NO_JSON: Final = (ValueError, RecursionError)
"""What is raised for a text that is no JSON, or nested too deeply."""
_WITHOUT_ANSWER: Final = frozenset({201, 204})
"""What was made or deleted, of which nothing more is said."""

_REFUSALS: Final[Mapping[int, type[errors.FleetError]]] = {
    401: errors.NotAuthenticated,
    403: errors.NotAllowed,
    404: errors.NotFound,
    406: errors.TooOld,
    409: errors.Conflict,
}

_A = TypeVar("_A")
_B = TypeVar("_B")


def make_getter(adapter: Any, service: str, microversion: str | None) -> Get:
    """Make a function that asks a service.

    :param adapter: a keystoneauth ``Adapter``, or a proxy of openstacksdk.
        Several threads use it at once.
    :param service: what messages call it: ``Placement``.
    :param microversion: None for a service without microversions.
    """

    def get(path: str) -> Any:
        asked = {"service": service, "method": "GET", "path": path}
        return _ask(adapter, asked, microversion)

    return get


def make_sender(
    adapter: Any, service: str, microversion: str | None, method: str = "PUT"
) -> Send:
    """Make a function that writes to a service; see :func:`make_getter`."""

    def send(path: str, body: Any) -> Any:
        asked = {"service": service, "method": method, "path": path}
        return _ask(adapter, asked, microversion, json=body)

    return send


def _ask(
    adapter: Any,
    asked: Mapping[str, str],
    microversion: str | None,
    **what: Any,
) -> Any:
    """Ask a service.

    :param asked: ``service``, ``method`` and ``path``, as messages need them.
    """
    try:
        response = getattr(adapter, asked["method"].lower())(
            asked["path"],
            raise_exc=False,
            headers={"Accept": "application/json"},
            **({"microversion": microversion} if microversion else {}),
            **what,
        )
    except ksa_exceptions.Unauthorized as exc:
        raise errors.NotAuthenticated(**asked, status=401) from exc
    except Exception as exc:
        # Those of keystoneauth, openstacksdk and requests have no other base
        # class in common.
        text = " ".join(str(exc).split()) or type(exc).__name__
        raise errors.Unreachable(**asked, error=text) from exc
    status = response.status_code
    if status in _WITHOUT_ANSWER and asked["method"] != "GET":
        return None
    if status == 200:
        return Answer(response, asked)
    raise _REFUSALS.get(status, errors.Failed)(
        **asked,
        status=status,
        microversion=microversion,
        error=_read_detail(response),
    )


class Answer(dict[str, Any]):
    """The JSON object that a service answers with.

    What answers with something else, and HTTP 200, is another service, or a
    proxy before it.
    """

    def __init__(self, response: Any, asked: Mapping[str, str]) -> None:
        """Read it.

        :param asked: see :func:`_ask`.
        :raises Failed: it is no JSON object, or has not the form of the
            answers of that service.
        """
        self._asked = asked
        try:
            found = response.json()
        except _NO_JSON as exc:
            raise self._make_failure("the answer is no JSON") from exc
        if not isinstance(found, dict):
            raise self._make_failure("the answer is no JSON object")
        try:
            forms.check(asked["service"], asked["path"], found)
        except forms.Wrong as exc:
            raise self._make_failure(f"in the answer {exc}") from exc
        super().__init__(found)
        self.headers: Mapping[str, str] = response.headers

    def __missing__(self, key: str) -> Any:
        """Refuse to look for what every answer has.

        :raises Failed: always.
        """
        raise self._make_failure(f"the answer has no '{key}'")

    def _make_failure(self, error: str) -> errors.Failed:
        return errors.Failed(**self._asked, status=200, error=error)


def _read_detail(response: Any) -> str:
    """Find what the service says, in the form of Placement or of Nova."""
    try:
        body = response.json()
    except _NO_JSON:
        body = None
    if isinstance(body, dict):
        found = body.get("errors")
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return " ".join(str(found[0].get("detail", "")).split())
        for value in body.values():
            if isinstance(value, dict) and "message" in value:
                return " ".join(str(value["message"]).split())
    return str(getattr(response, "reason", "") or "no reason given")


def choose_one(
    kind: str,
    name: str,
    found: Sequence[Mapping[str, Any]],
    read_names: Callable[[], Iterable[str]],
) -> Any:
    """Choose what has a name, of what a service found with it.

    :param read_names: reads which names there are, where none was found.
    :raises Unknown: nothing was found.
    :raises Ambiguous: several have that name.
    """
    if len(found) > 1:
        raise errors.Ambiguous(kind, name, [one["id"] for one in found])
    if not found:
        raise errors.Unknown(kind, name, read_names())
    return found[0]


class Together:
    """Asks questions that do not wait for each other at the same time."""

    def __enter__(self) -> "Together":
        self._pool = futures.ThreadPoolExecutor(WORKERS)
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def ask(self, what: Callable[[], _B]) -> Callable[[], _B]:
        """Begin to ask.

        :returns: waits for the answer, or raises what asking has raised.
        """
        return self._pool.submit(what).result


def ask_all(
    ask: Callable[[_A], _B], questions: Iterable[_A]
) -> Iterator[tuple[_A, _B]]:
    """Ask several questions at once.

    :returns: (question, answer), in the order of the questions.
    :raises FleetError: the first of the questions that failed.
    """
    asked = list(questions)
    if len(asked) < 2:
        yield from ((question, ask(question)) for question in asked)
        return
    with futures.ThreadPoolExecutor(WORKERS) as pool:
        try:
            yield from zip(asked, pool.map(ask, asked), strict=True)
        except BaseException:
            # Thousands may still wait for their turn.
            pool.shutdown(cancel_futures=True)
            raise
