# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with a scenario."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Final

from nova_gpu_filter import exception

OF_BAD_ROWS: Final = (
    AttributeError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What is raised while something is made of a row that is not well formed."""


class BadScenario(exception.GpuFilterError):
    """An inventory, a workload or a scenario cannot be used."""

    message = "%(source)s: %(problem)s"


class PlotUnavailable(exception.GpuFilterError):
    """Matplotlib is not installed, or cannot write that format."""

    message = "%(problem)s"


def check_rows(rows: Any, source: str) -> Iterable[Any]:
    """Refuse what stands where there should be a list.

    :param source: what the message calls it.
    :raises BadScenario: it is something else.
    """
    if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable):
        raise BadScenario(source=source, problem="must be a list")
    return rows
