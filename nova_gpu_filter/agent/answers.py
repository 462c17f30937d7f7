# SPDX-License-Identifier: Apache-2.0

"""What the answers of the daemon look like, by the command that was given.

Something else may listen on the socket, or a daemon of another release.
"""

from collections.abc import Mapping
from typing import Any
from typing import Final

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


def check(command: str, answer: Any) -> None:
    """Check that an answer has what is made of it.

    :raises ValueError: it does not; the message names the field.
    """
    _FORMS[command].load(answer, "")
