# SPDX-License-Identifier: Apache-2.0

"""The extension: equal devices in linear time, in front of Placement.

How Placement is asked
----------------------

The client's request is turned into smaller ones (query.py, search.py). The
first goes through the whole of Placement, with the client's headers. The
context that this leaves in the WSGI environment (placement/auth.py) serves the
others, which go to Placement's handler alone: a token is validated once a
request, and one request is one line in the log.

``[placement]max_allocation_candidates`` would truncate the answer to an inner
query: 1,000 candidates, breadth-first, on 1,000 hosts are one device a host,
and four of one host then look impossible. Handlers read their options from
``context.config``, which ``placement.handler.PlacementHandler`` sets to the
configuration that it was made with. So where the option is set, what goes
through the whole of Placement is the client's own query, made unanswerable by
one more group in a tree that does not exist (which takes a few milliseconds),
and all inner queries go to a handler whose configuration is the given one with
another limit. A second ``deploy.deploy`` pipeline would validate tokens twice,
and changing the option itself the limit of requests that are not composed.

What the operator bounds stays bounded
--------------------------------------

An inner query for one device a group has an answer that grows with the
devices. One whose groups can be served in many ways, since ``same_subtree``
binds them or the unsuffixed one asks for a device, would grow with the product
of these ways: of it as much is read as the operator's limit, or 8 ways a host
(search.py). What is then tried to put device sets together is bounded, too
(candidates_request.py). Where a host of which enough devices are free is
without a candidate after that, the request is left to Placement.
"""

from collections.abc import Iterable
import contextlib
import copy
import itertools
import time
import zlib

import microversion_parse
from oslo_config import cfg
from oslo_log import log as logging
from placement import handler
from placement import microversion

from nova_gpu_filter import exception
from nova_gpu_filter.conf import gpu_filter
from nova_gpu_filter.conf import placement_extension
from nova_gpu_filter.placement import allocation_writes
from nova_gpu_filter.placement import answer
from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import compose
from nova_gpu_filter.placement import earlier_answers
from nova_gpu_filter.placement import garbage_collection
from nova_gpu_filter.placement import header
from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import overrides
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import remaining_capacity
from nova_gpu_filter.placement import search

LOG = logging.getLogger(__name__)

_PATH = "/allocation_candidates"

_MANY_PROVIDERS = 500
"""In a cloud with fewer, as 50 hosts have, garbage is collected as always: it
takes no more time, and half the memory."""


def wrap(application: inner.Application, conf: cfg.ConfigOpts) -> "Wrapped":
    """Wrap a Placement application.

    :param application: what ``placement.deploy.loadapp(conf)`` returns.
    :param conf: the configuration it was made with. Our options are
        registered with it.
    :returns: a WSGI application that answers requests for allocation
        candidates with equal groups itself, has writes of allocations tried
        again where they lost a race, by a pipeline that ``placement.deploy``
        makes with the same configuration, and leaves all else to
        ``application``. Middleware of your own belongs around it.
    """
    placement_extension.register_opts(conf)
    return Wrapped(allocation_writes.Repeater(application, conf), conf)


class Wrapped:
    """A Placement application with the extension in front of it."""

    def __init__(
        self, application: inner.Application, conf: cfg.ConfigOpts
    ) -> None:
        """See :func:`wrap`."""
        self._application = application
        self._conf = conf
        self._handler = handler.PlacementHandler(config=conf)
        self._is_usable = _are_options_good(conf)
        self._numbers = itertools.count(1)
        self._earlier_answers = earlier_answers.EarlierAnswers()

    def __call__(
        self, environ: inner.Environ, start_response: inner.StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        if (
            self._is_usable
            and environ.get("PATH_INFO") == _PATH
            and environ.get("REQUEST_METHOD") == "GET"
        ):
            reply = self._try_to_compose(environ)
            if reply is not None:
                start_response(reply.status, reply.headers)
                return [reply.body]
        return self._application(environ, start_response)

    def _try_to_compose(self, environ: inner.Environ) -> inner.Reply | None:
        is_large = self._earlier_answers.providers >= _MANY_PROVIDERS
        try:
            with (
                garbage_collection.pause()
                if is_large
                else contextlib.nullcontext()
            ):
                return self._compose(environ)
        except query.TooManyError as exc:
            LOG.warning(
                "Allocation candidates are not composed, %s; Placement answers"
                " within [placement]max_allocation_candidates ="
                " %d. Request %d of this kind since the start: GET %s?%s",
                exc,
                self._conf.placement.max_allocation_candidates,
                next(self._numbers),
                _PATH,
                environ.get("QUERY_STRING", ""),
            )
        except query.NotComposableError as exc:
            LOG.debug(
                "Allocation candidates are left to Placement, %s: GET %s?%s",
                exc,
                _PATH,
                environ.get("QUERY_STRING", ""),
            )
        except Exception:
            LOG.exception(
                "Cannot compose allocation candidates; the request is left to"
                " Placement: GET %s?%s",
                _PATH,
                environ.get("QUERY_STRING", ""),
            )
        return None

    def _compose(self, environ: inner.Environ) -> inner.Reply:
        """Answer a request for allocation candidates.

        :raises NotComposableError: Placement shall answer it.
        """
        started = time.monotonic()
        max_sets = self._conf.gpu_filter.max_sets_per_tree
        if max_sets == 0:
            raise query.NotComposableError("turned off")
        query_string = environ.get("QUERY_STRING", "")
        question = query.parse(query_string, read_microversion(environ))
        limit = self._conf.placement.max_allocation_candidates
        # Placement gives one candidate where 0 is set.
        limit = None if limit < 0 else max(1, limit)
        placement = inner.PlacementQueries(
            self._application,
            self._make_handler,
            limit,
            self._earlier_answers,
            environ,
        )
        found = search.find_trees(question, placement, limit)
        asked = candidates_request.Request(
            question=question,
            summaries=found.summaries,
            remaining_capacity=remaining_capacity.find(
                question,
                found.provider_trees,
                found.summaries,
                placement.list_capable_providers(question),
            ),
            max_sets=None if max_sets < 0 else max_sets,
            seed=_derive_seed(environ),
            mix=gpu_filter.read_request_mix(self._conf),
            most=limit,
            is_truncated=found.is_truncated,
        )
        candidates = compose.compose(
            asked,
            found.provider_trees,
            self._conf.placement.randomize_allocation_candidates,
        )
        body = answer.encode(question, candidates, found.summaries)
        LOG.debug(
            "Composed %d allocation candidates from %d provider trees with"
            " %d inner queries in %.3f seconds for GET %s?%s",
            len(candidates),
            len(found.provider_trees),
            placement.asked,
            time.monotonic() - started,
            _PATH,
            query_string,
        )
        headers = [
            (name, value)
            for name, value in placement.headers
            if name.lower() != "content-length"
        ]
        headers.append(("Content-Length", str(len(body))))
        headers.append((header.NAME, header.VALUE))
        return inner.Reply("200 OK", headers, body)

    def _make_handler(self, most: int, in_turn: bool) -> inner.Application:
        made = copy.copy(self._handler)
        made.config = overrides.Overridden(
            self._conf,
            {
                "placement": {
                    "max_allocation_candidates": most,
                    "allocation_candidates_generation_strategy": (
                        "breadth-first" if in_turn else "depth-first"
                    ),
                },
                # It cuts combinations of many groups short, and doubles the
                # time of a question with few.
                "workarounds": {"optimize_for_wide_provider_trees": False},
            },
        )
        return made


def _are_options_good(conf: cfg.ConfigOpts) -> bool:
    """Whether our options can be read; tell the operator if they cannot.

    Then every request is left to Placement: hosts without GPUs depend on it,
    too, so a typo in our options must not stop it.
    """
    try:
        conf.gpu_filter.max_sets_per_tree  # noqa: B018 (parses it)
        gpu_filter.read_request_mix(conf)
    except (cfg.ConfigFileValueError, exception.BadRequestMix) as exc:
        problem = str(exc)
    else:
        return True
    # Not within "except": oslo.log would append the exception once more.
    LOG.error(
        "[gpu_filter]: %s. The GPU extension is off until this is corrected"
        " and Placement is started again.",
        problem,
    )
    return False


def read_microversion(environ: inner.Environ) -> tuple[int, int]:
    """Return the microversion that is asked for, as Placement reads it."""
    try:
        version = microversion_parse.extract_version(
            microversion_parse.headers_from_wsgi_environ(environ),
            microversion.SERVICE_TYPE,
            microversion.VERSIONS,
        )
    except (ValueError, TypeError):
        raise query.NotComposableError("bad microversion") from None
    if version < query.MINIMUM_MICROVERSION:
        raise query.NotComposableError(
            "microversion below {}.{}".format(*query.MINIMUM_MICROVERSION)
        )
    return version.major, version.minor


def _derive_seed(environ: inner.Environ) -> int:
    """Return what permutes equally good device sets.

    Nova sends the id of the request that it works on, another one for each
    server that is created. Without an id, equal questions have equal answers.
    """
    return zlib.crc32(environ.get("HTTP_X_OPENSTACK_REQUEST_ID", "").encode())
