# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with what the operator gave us to read."""

from nova_gpu_filter import exception


class HostError(exception.GpuFilterError):
    """Input that cannot be used; the message says which, and what to do."""

    message = "%(reason)s"


class FileUnreadable(HostError):
    """A file that was named on the command line cannot be read."""

    message = "%(path)s: %(error)s"


class BadInput(HostError):
    """A file was read, but does not hold what it should."""

    message = "%(source)s: %(reason)s"
