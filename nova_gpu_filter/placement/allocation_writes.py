# SPDX-License-Identifier: Apache-2.0

"""Write allocations so that a lost race does not give a device twice.

Placement (13.0 to 16.0, ``placement/objects/allocation.py``) notices by the
generations of the resource providers that another request has written in
between, and then tries again: within the same database transaction, as
``handlers/allocation.py`` has opened one around it. There the second try sees

* under REPEATABLE READ, the default of MySQL and MariaDB, the usage as it was
  before the other request, beside the generation as it is now;
* its own rows of the first try, as "previous usage". A provider may stay as
  full as it was, so these excuse what is more than its capacity.

So the same device is given to several consumers. Eight claims of one device
at a time were granted up to eight times on MariaDB 10.11, READ COMMITTED made
no difference. Any two requests for one compute host can race, as both take
CPU and memory from its root provider.

Here a request is tried once in its transaction, and the whole of it again if
it lost a race, as often as ``[placement]allocation_conflict_retry_count``
says.
"""

from collections.abc import Iterable
import contextvars
import dataclasses
import random
import threading
import time
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from placement import exception
from placement.objects import allocation
import webob

from nova_gpu_filter.placement import inner

LOG = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 0.05
"""Before a request is tried again; a write takes a few milliseconds."""


@dataclasses.dataclass(slots=True)
class _Attempt:
    """One try of a request, in a transaction of its own."""

    has_lost_race: bool = False


# Set while a request is tried by us. Placement without the extension may run
# in the same process, as in our tests, and has to stay as it is.
_attempt: contextvars.ContextVar[_Attempt | None] = contextvars.ContextVar(
    "attempt", default=None
)

_stock_replace_all = allocation.replace_all


def _replace_all(context: Any, alloc_list: list[Any]) -> None:
    """Do what ``placement.objects.allocation.replace_all`` does, but once.

    :raises ResourceProviderConcurrentUpdateDetected: another request was
        faster.
    """
    attempt = _attempt.get()
    if attempt is None:
        _stock_replace_all(context, alloc_list)
        return
    try:
        allocation._set_allocations(context, alloc_list)
    except exception.ResourceProviderConcurrentUpdateDetected:
        attempt.has_lost_race = True
        raise


allocation.replace_all = _replace_all


class Repeater:
    """A Placement application that tries writes again from the beginning."""

    def __init__(
        self, application: inner.Application, conf: cfg.ConfigOpts
    ) -> None:
        """Wrap an application.

        :param application: the whole of Placement.
        :param conf: its configuration.
        """
        self._application = application
        self._conf = conf
        self._turn = threading.Lock()

    def __call__(
        self, environ: inner.Environ, start_response: inner.StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        if not _writes_allocations(environ):
            return self._application(environ, start_response)
        reply = self._write(webob.Request(environ))
        start_response(reply.status, reply.headers)
        return [reply.body]

    def _write(self, request: webob.Request) -> inner.Reply:
        reply, has_lost_race = self._try(request)
        if not has_lost_race:
            return reply
        # Those that lost go one by one, or they would race again.
        with self._turn:
            return self._repeat(request, reply)

    def _repeat(
        self, request: webob.Request, reply: inner.Reply
    ) -> inner.Reply:
        most = self._conf.placement.allocation_conflict_retry_count
        for tried in range(1, most):
            LOG.debug(
                "%s %s: another request was faster, %d of %d tries",
                request.method,
                request.path_info,
                tried,
                most,
            )
            reply, has_lost_race = self._try(request)
            if not has_lost_race:
                return reply
            # To another process, whose requests do not wait for their turn.
            time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311
        LOG.warning(
            "%s %s: other requests were faster %d times; the client is told"
            " so, with status %s. Where that is frequent, raise"
            " [placement]allocation_conflict_retry_count.",
            request.method,
            request.path_info,
            max(1, most),
            reply.status,
        )
        return reply

    def _try(self, request: webob.Request) -> tuple[inner.Reply, bool]:
        """Answer a request, and say whether it lost a race."""
        attempt = _Attempt()
        token = _attempt.set(attempt)
        try:
            # The copy has a body of its own to be read.
            reply = inner.call(self._application, request.copy().environ)
        finally:
            _attempt.reset(token)
        return reply, attempt.has_lost_race


def _writes_allocations(environ: inner.Environ) -> bool:
    method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", "")
    return (method == "PUT" and path.startswith("/allocations/")) or (
        method == "POST" and path in ("/allocations", "/reshaper")
    )
