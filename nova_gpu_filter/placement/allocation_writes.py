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

So the same device is given to several consumers: eight claims of one device
at a time were granted up to eight times on MariaDB 10.11, with READ COMMITTED,
too. Any two requests for one compute host can race, as both take CPU and
memory from its root provider.

Here a request is tried once in its transaction, and the whole of it again if
it lost a race, as often as ``[placement]allocation_conflict_retry_count``
says. For that it goes to a Placement of its own, in which this option is 1.
A try that lost has authenticated the client and read the body, which WebOb
leaves in the WSGI environment as a file that can be read again
(``make_body_seekable`` in webob/request.py): the next try gets that file.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import json
import random
import time
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from placement import deploy
from placement import exception

from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import overrides
from nova_gpu_filter.placement import turns

LOG = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 0.05
"""Before a request is tried a third time; a write takes milliseconds."""

_ONE_TRY = {"placement": {"allocation_conflict_retry_count": 1}}

_IS_KEPT = "webob.is_body_seekable"
_BODY = ("wsgi.input", "CONTENT_LENGTH", _IS_KEPT)
"""Where WebOb keeps a body that it has read, and says that it has."""

_LOST_RACE = str(exception.ResourceProviderConcurrentUpdateDetected()).encode()
"""Part of the answer to a write that lost. The error code of these answers,
``placement.concurrent_update``, also stands for a client that sent an old
generation, and is left out below microversion 1.23."""


class Repeater:
    """A Placement application that tries writes again from the beginning."""

    def __init__(
        self, application: inner.Application, conf: cfg.ConfigOpts
    ) -> None:
        """Wrap an application.

        :param application: the whole of Placement, for all other requests.
        :param conf: its configuration, with our options.
        """
        self._application = application
        self._conf = conf
        self._writer: inner.Application = deploy.deploy(
            overrides.Overridden(conf, _ONE_TRY)
        )
        self._turns = turns.Turns()

    def __call__(
        self, environ: inner.Environ, start_response: inner.StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        if (
            not _writes_allocations(environ)
            or not self._conf.gpu_filter.retry_allocation_writes
        ):
            return self._application(environ, start_response)
        reply = self._write(environ)
        start_response(reply.status, reply.headers)
        return [reply.body]

    def _write(self, environ: inner.Environ) -> inner.Reply:
        # Middleware writes into the environment of its try.
        tried = dict(environ)
        reply = inner.call(self._writer, tried)
        if not _has_lost_race(reply) or not tried.get(_IS_KEPT):
            return reply
        # Those that lost go one by one, or they would race again; only what
        # takes of the same providers can race.
        with self._turns.take(_find_providers(_read_body(tried))):
            return self._repeat(environ, tried, reply)

    def _repeat(
        self,
        environ: inner.Environ,
        tried: inner.Environ,
        reply: inner.Reply,
    ) -> inner.Reply:
        """Try a write again that has lost a race.

        :param environ: of the client, as it came.
        :param tried: that of the first try.
        :param reply: the answer to it.
        """
        most = max(1, self._conf.placement.allocation_conflict_retry_count)
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        for count in range(1, most):
            if count > 1:
                # To another process, whose requests wait for no turn of ours.
                time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311
            LOG.debug(
                "%s %s: another request was faster, %d of %d tries",
                method,
                path,
                count,
                most,
            )
            tried = environ | {key: tried[key] for key in _BODY}
            reply = inner.call(self._writer, tried)
            if not _has_lost_race(reply):
                return reply
        LOG.warning(
            "%s %s: other requests were faster %d times; the client gets"
            " status %s. Where that is frequent, raise"
            " [placement]allocation_conflict_retry_count.",
            method,
            path,
            most,
            reply.status,
        )
        return reply


def _read_body(tried: inner.Environ) -> Any:
    """Read what Placement has read in a try, as JSON."""
    body = tried["wsgi.input"]
    body.seek(0)
    found = json.loads(body.read())
    body.seek(0)
    return found


def _find_providers(found: Any) -> Iterator[str]:
    """Yield the resource providers that a write names.

    In all forms that a body has had: of one consumer or of many, with
    providers as keys or in a list, with inventories.
    """
    if isinstance(found, Mapping):
        for name, value in found.items():
            if name == "resource_provider":
                yield value["uuid"]
            elif isinstance(value, Mapping) and (
                "resources" in value or "inventories" in value
            ):
                yield name
            else:
                yield from _find_providers(value)
    elif isinstance(found, list):
        for value in found:
            yield from _find_providers(value)


def _has_lost_race(reply: inner.Reply) -> bool:
    return reply.status.startswith("409 ") and _LOST_RACE in reply.body


def _writes_allocations(environ: inner.Environ) -> bool:
    method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", "")
    return (method == "PUT" and path.startswith("/allocations/")) or (
        method == "POST" and path in ("/allocations", "/reshaper")
    )
