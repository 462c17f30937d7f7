# SPDX-License-Identifier: Apache-2.0

"""What is known of a cloud between two commands: a directory and a file."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import pathlib
import random
import secrets
import socket
import threading
from typing import Any

from cloud import errors

ROOT = pathlib.Path(__file__).parents[1]
"""The checkout."""

PORTS = (
    "mariadb",
    "epmd",
    "rabbitmq",
    "rabbitmq-distribution",
    "keystone",
    "glance",
    "placement",
    "neutron",
    "nova",
)

_PORT_RANGE = range(15000, 32000)
# Below what Linux takes for outgoing connections (ip_local_port_range).


def default_directory() -> pathlib.Path:
    """Where the cloud of this checkout is: ``CLOUD_DIR``, or ``.cloud``."""
    return pathlib.Path(os.environ.get("CLOUD_DIR") or ROOT / ".cloud")


class State:
    """The directory of a cloud.

    ``data`` is written to ``state.json`` with :meth:`save`. It holds
    ``ports`` (number by service), ``password`` (one for all accounts; the
    directory is for its owner alone), ``processes`` (records by name, in the
    order of their start), ``hosts`` (by compute host: its inventory and the
    options for its device spec) and ``ready``.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        """Read what is there; nothing is written yet."""
        self.directory = directory.resolve()
        self.lock = threading.RLock()
        self.data: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            self.data = json.loads(self._file.read_text())

    @property
    def _file(self) -> pathlib.Path:
        return self.directory / "state.json"

    @property
    def logs(self) -> pathlib.Path:
        """One file a process."""
        return self.directory / "log"

    @property
    def etc(self) -> pathlib.Path:
        """Configuration files, a directory a project."""
        return self.directory / "etc"

    def data_of(self, name: str) -> pathlib.Path:
        """Where a service keeps its data; is made."""
        path = self.directory / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def port(self, name: str) -> int:
        """Number of the TCP port of a service."""
        return self.data["ports"][name]

    def url(self, name: str) -> str:
        """URL of an API, without a path."""
        return f"http://127.0.0.1:{self.port(name)}"

    @property
    def password(self) -> str:
        """The password of every account."""
        return self.data["password"]

    def create(self) -> None:
        """Make a new cloud of which nothing runs yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        for path in (self.logs, self.etc):
            path.mkdir(exist_ok=True)
        self.data = {
            "ready": False,
            "ports": dict(zip(PORTS, _free_ports(len(PORTS)), strict=True)),
            "password": secrets.token_hex(12),
            "processes": {},
            "hosts": {},
        }
        self.save()

    def save(self) -> None:
        """Write ``data``; who reads sees the old one or the new one."""
        with self.lock:
            temporary = self._file.with_suffix(".new")
            temporary.write_text(json.dumps(self.data, indent=2) + "\n")
            temporary.replace(self._file)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other commands off this cloud.

        :raises CloudError: another command is at work on it.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise errors.CloudError(
                    f"another command is at work on {self.directory}"
                ) from None
            yield


def _free_ports(count: int) -> list[int]:
    """Choose ports of 127.0.0.1 that nobody listens on.

    :raises CloudError: there are not that many.
    """
    found: list[int] = []
    for port in random.sample(_PORT_RANGE, 50 * count):
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise errors.CloudError(f"no {count} free ports on 127.0.0.1")
