# SPDX-License-Identifier: Apache-2.0

"""Serve WSGI applications to commands that run in their own processes."""

from collections.abc import Iterator
import contextlib
import threading
from typing import Any
from wsgiref import simple_server


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each request."""


@contextlib.contextmanager
def serve(application: Any) -> Iterator[str]:
    """Serve an application, one request after the other; give its URL."""
    server = simple_server.make_server(
        "127.0.0.1", 0, application, handler_class=_Quiet
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield "http://{}:{}".format(*server.server_address)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
