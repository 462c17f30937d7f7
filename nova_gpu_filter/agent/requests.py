# SPDX-License-Identifier: Apache-2.0

"""Answers what people ask of the daemon over its socket.

One JSON object a line, both ways: ``{"command": "quarantine", "device": ...,
"reason": ...}`` and ``{"devices": [...]}`` or ``{"error": "..."}``.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import logging
import os
import pwd
import socket
import socketserver
import struct
import threading
from typing import Any
from typing import Final

from nova_gpu_filter import exception
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import keeper as keeper_lib
from nova_gpu_filter.agent import socket_client
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.fabric import service as fabric_lib

LOG = logging.getLogger(__name__)

_LINE: Final = 1 << 20
"""Bytes of a request at most."""
_CREDENTIALS: Final = "3i"
"""Of SO_PEERCRED in socket(7): pid, uid, gid."""


def describe(record: states.Record) -> fabric_lib.Answer:
    """Make an answer of a record."""
    return {
        "device": record.address,
        "state": record.state.value,
        "reason": record.reason,
        "since": record.since,
        "by": record.by,
        "server": record.owner,
    }


@dataclasses.dataclass
class Requests:
    """Answers requests; decides nothing."""

    wake: Callable[[], None]
    """Has the daemon make a pass."""
    fabric: fabric_lib.Service | None = None
    """None: partitions are not managed."""
    keeper: keeper_lib.Keeper | None = None
    """None: libvirt has not said yet which compute node this is. Guests start
    without it."""

    def answer(
        self, request: Mapping[str, Any], user: str
    ) -> fabric_lib.Answer:
        """Answer one request.

        :param user: who asks.
        """
        try:
            if str(request.get("command")).startswith("fabric-"):
                return self._answer_of_fabric(request)
            if self.keeper is None:
                return {"error": "libvirt has not answered yet, see the log"}
            return self._answer(self.keeper, request, user)
        except exception.GpuFilterError as error:
            return {"error": str(error)}

    def _answer_of_fabric(
        self, request: Mapping[str, Any]
    ) -> fabric_lib.Answer:
        if self.fabric is None:
            problem = (
                "partitions are left alone: [gpu_agent]fabric_manager is"
                " empty; set it, or remove the hook of libvirt"
            )
            if request.get("command") in ("fabric-prepare", "fabric-release"):
                # A hook that is on all hosts keeps no guest from starting.
                LOG.warning("Request of the hook ignored: %s", problem)
                return {}
            return {"error": problem}
        keeper = self.keeper
        consumers = None if keeper is None else keeper.get_consumers()
        return self.fabric.answer(request, consumers)

    def _answer(
        self, keeper: keeper_lib.Keeper, request: Mapping[str, Any], user: str
    ) -> fabric_lib.Answer:
        command = str(request.get("command"))
        device = str(request.get("device", ""))
        reason = str(request.get("reason") or f"asked for by {user}")
        if command == "list":
            return {
                "devices": list(map(describe, keeper.list_records())),
                "blind": keeper.blind,
                "counts": keeper.counts,
            }
        if command == "show":
            return {
                "devices": [describe(keeper.find(device))],
                "history": list(map(describe, keeper.list_history(device))),
            }
        changes = {
            "quarantine": keeper.quarantine,
            "release": keeper.release,
            "clean": keeper.clean,
        }
        if change := changes.get(command):
            record = change(device, reason, user)
            self.wake()
            return {"devices": [describe(record)]}
        return {"error": f"no command '{command}'"}


class _Handler(socketserver.StreamRequestHandler):
    timeout = socket_client.SECONDS

    def handle(self) -> None:
        """Answer the requests of one connection."""
        server = self.server
        assert isinstance(server, Server)
        uid = self._get_peer_uid()
        if uid not in (0, os.geteuid()):
            self._say({"error": "only root may ask"})
            return
        # The other end may go at any time.
        with contextlib.suppress(OSError):
            while line := self.rfile.readline(_LINE):
                self._say(self._answer(server.requests, line, _name_user(uid)))

    def _answer(
        self, requests: Requests, line: bytes, user: str
    ) -> fabric_lib.Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is no JSON"}
        if not isinstance(request, dict):
            return {"error": "the request is no JSON object"}
        try:
            return requests.answer(request, user)
        except Exception as error:
            LOG.exception("A request cannot be answered")
            return {"error": f"unexpected error: {error!r}"}

    def _get_peer_uid(self) -> int:
        size = struct.calcsize(_CREDENTIALS)
        found = self.connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, size
        )
        return int(struct.unpack(_CREDENTIALS, found)[1])

    def _say(self, answer: fabric_lib.Answer) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _name_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on the socket, for root only."""

    daemon_threads = True

    def __init__(self, path: str, requests: Requests) -> None:
        """Make the socket, and its directory.

        :raises AgentError: it cannot be made.
        """
        self.requests = requests
        try:
            os.makedirs(os.path.dirname(path) or ".", 0o755, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                # Left by a daemon that was killed; that no other one is
                # running is made sure of before.
                os.unlink(path)
            super().__init__(path, _Handler)
            os.chmod(path, 0o600)
        except OSError as error:
            raise errors.AgentError(
                reason=f"[gpu_agent]socket = {path}: {error.strerror or error}"
            ) from error

    def start(self) -> None:
        """Answer in threads of its own."""
        threading.Thread(
            target=self.serve_forever, name="requests", daemon=True
        ).start()
