# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with a scenario."""

from nova_gpu_filter import exception


class BadScenario(exception.GpuFilterError):
    """An inventory, a workload or a scenario cannot be used."""

    message = "%(source)s: %(problem)s"


class PlotUnavailable(exception.GpuFilterError):
    """Matplotlib is not installed, or cannot write that format."""

    message = "%(problem)s"
