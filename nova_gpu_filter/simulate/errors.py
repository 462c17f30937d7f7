# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with a scenario."""

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

    def __init__(self, source: str, problem: object) -> None:
        super().__init__(source=source, problem=problem)


class PlotUnavailable(exception.GpuFilterError):
    """Matplotlib is not installed, or cannot write that format."""

    message = "%(problem)s"
