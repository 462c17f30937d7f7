# SPDX-License-Identifier: Apache-2.0

"""Asks the daemon over its socket, and checks what it answers.

A command imports nothing of the daemon for it. Something else may listen on
the socket, or a daemon of another release.
"""

from collections.abc import Mapping
import json
import socket
from typing import Any
from typing import Final

from nova_gpu_filter import files
from nova_gpu_filter.agent import errors
from nova_gpu_filter.host.saved import shape

Answer = dict[str, Any]
SECONDS: Final = 60.0
"""How long an answer may take: a pass may be waiting for Placement."""

_LAST_SECOND: Final = 253_402_300_799
"""9999-12-31T23:59:59Z: what can be written as a date."""
_TEXT: Final = shape.Text(most=1 << 20)
"""Of a reason or an error, which may be longer than a path."""
_MAYBE: Final = shape.Nullable(_TEXT)


class _Time(shape.Shape):
    """Seconds since 1970, and parts of one."""

    def load(self, data: Any, where: str) -> Any:
        """Check that it can be written as a date."""
        if (
            not isinstance(data, int | float)
            or isinstance(data, bool)
            # What is no number (NaN) is not between any.
            or not 0 <= data <= _LAST_SECOND
        ):
            raise ValueError(f"{where} is no time")
        return data


_DEVICE: Final = shape.Record(
    dict,
    {
        "device": _TEXT,
        "state": _TEXT,
        "reason": _TEXT,
        "since": _Time(),
        "by": _TEXT,
        "server": _MAYBE,
    },
)
_PARTITIONS: Final = shape.Many(
    shape.Record(
        dict,
        {
            "partition": shape.Number(),
            "active": shape.Flag(),
            "server": _MAYBE,
            "phase": _MAYBE,
            "since": shape.Nullable(_Time()),
            "devices": shape.Many(_TEXT),
            "modules": shape.Many(shape.Number()),
        },
    )
)
_PROBLEMS: Final = shape.Many(
    shape.Record(
        dict,
        {
            "problem": _TEXT,
            "partition": shape.Nullable(shape.Number()),
            "server": _MAYBE,
            "text": _TEXT,
        },
    )
)
_FORMS: Final[Mapping[str, shape.Record]] = {
    "list": shape.Record(
        dict, {"devices": shape.Many(_DEVICE), "blind": _MAYBE}
    ),
    "show": shape.Record(dict, {"history": shape.Many(_DEVICE)}),
    **dict.fromkeys(
        ("quarantine", "release", "clean"),
        shape.Record(dict, {"devices": shape.Many(_DEVICE, least=1)}),
    ),
    "fabric-list": shape.Record(dict, {"partitions": _PARTITIONS}),
    "fabric-audit": shape.Record(
        dict, {"problems": _PROBLEMS, "placement": shape.Flag()}
    ),
}
"""What the answers look like, by the command that was given."""


def ask(path: str, command: str, **request: Any) -> Answer:
    """Ask the daemon.

    :returns: an answer with all that is made of it.
    :raises NoAgent: it does not answer.
    :raises AgentError: it says why it does not do it, or its answer is none
        to this command.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(path)
            line = json.dumps({"command": command, **request})
            connection.sendall(line.encode() + b"\n")
            with connection.makefile("rb") as file:
                answer = json.loads(file.readline(files.DOCUMENT_BYTES))
    except OSError as error:
        raise errors.NoAgent(
            path=path, error=error.strerror or error
        ) from error
    except (ValueError, RecursionError) as error:
        raise errors.NoAgent(path=path, error="it hung up") from error
    if isinstance(answer, dict) and "error" in answer:
        raise errors.AgentError(reason=answer["error"])
    try:
        _FORMS[command].load(answer, "")
    except ValueError as error:
        raise errors.StrangeAnswer(path=path, error=error) from error
    found: Answer = answer
    return found
