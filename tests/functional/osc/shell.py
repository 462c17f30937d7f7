# SPDX-License-Identifier: Apache-2.0

"""Runs ``openstack gpu`` commands in this process, by their entry points."""

from collections.abc import Callable
import dataclasses
import io
import logging
import threading
import types
from typing import Any

from cliff import app
from cliff import commandmanager
from keystoneauth1 import session
from keystoneauth1 import token_endpoint
from openstack import connection as openstack_connection

from nova_gpu_filter.fleet import connection as fleet_connection

PROJECT = "6f70656e737461636b20342065766572"
"""Nova's fixtures give it to all that they make."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str


class _App(app.App):
    """OpenStackClient as far as our commands need it."""

    LOG = logging.getLogger("tests.openstack")

    def __init__(
        self,
        services: fleet_connection.Services,
        region: str | None,
        **streams: Any,
    ) -> None:
        super().__init__(
            "openstack",
            "0",
            commandmanager.CommandManager("openstack.gpu.v1"),
            **streams,
        )
        self.client_manager = types.SimpleNamespace(
            gpu=services, region_name=region
        )

    handler: logging.Handler | None = None

    def end_logging(self) -> None:
        """Log to our standard error no more; --help ends before it begins."""
        if self.handler is not None:
            for name in ("tests.openstack", "nova_gpu_filter"):
                logging.getLogger(name).removeHandler(self.handler)

    def configure_logging(self) -> None:
        """Log to our standard error only, and warnings without their level,
        as OpenStackClient does."""
        self.handler = logging.StreamHandler(self.stderr)
        self.handler.setLevel(logging.WARNING)
        for name in ("tests.openstack", "nova_gpu_filter"):
            logging.getLogger(name).addHandler(self.handler)


class Shell:
    """Runs commands on some services."""

    def __init__(
        self, adapters: Any, access: Callable[[], Any] = lambda: None
    ) -> None:
        """Nothing is asked yet.

        :param adapters: has an adapter as attribute for each service.
        :param access: returns what the token says.
        """
        self.adapters = adapters
        self.region: str | None = None
        self.services = fleet_connection.Services(adapters, access)

    def run(self, *arguments: str) -> Result:
        """Run one command: ``run("gpu", "device", "list")``."""
        out, err = io.StringIO(), io.StringIO()
        openstack = _App(self.services, self.region, stdout=out, stderr=err)
        try:
            code = openstack.run(list(arguments))
        except SystemExit as exc:  # of argparse
            code = int(exc.code or 0)
        finally:
            openstack.end_logging()
        return Result(code, out.getvalue(), err.getvalue())


def connection(
    cloud: Any, user: str = "admin"
) -> openstack_connection.Connection:
    """Connect to an embedded cloud as OpenStackClient does.

    :param user: of whom to ask.
    """
    return openstack_connection.Connection(
        session=_OneByOne(
            auth=token_endpoint.Token("http://unused", user),
            # In place of Keystone's middleware: Placement takes the token for
            # the user, Nova's fixture these.
            additional_headers={
                "X-Auth-User": user,
                "X-Auth-Project-Id": PROJECT,
                "X-Roles": user,
            },
        ),
        compute_endpoint_override=cloud.services.api.base_url,
        placement_endpoint_override=cloud.services.placement.fixture.endpoint,
    )


class _OneByOne(session.Session):
    """A session for services on SQLite in memory, which is one connection for
    all threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not at import, when Nova may not have its green threads yet.
        self._lock = threading.RLock()

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Ask when nobody else does."""
        with self._lock:
            return super().request(*args, **kwargs)
