# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with the way the product is set up."""

from collections.abc import Iterator
import contextlib


class GpuFilterError(Exception):
    """Base class: the message says what is wrong and how to repair it."""

    message = "An unknown error occurred."

    def __init__(self, **values: object) -> None:
        super().__init__(self.message % values)


class PoolMatcherNotFound(GpuFilterError):
    """``[gpu_filter]pool_matcher`` names no installed matcher."""

    message = (
        "[gpu_filter]pool_matcher = %(name)s: no such pool matcher is"
        " installed. Installed: %(installed)s. Correct the option, or install"
        " the package that provides the matcher as an entry point in"
        " %(namespace)s, then start the service again."
    )


class PoolMatcherBroken(GpuFilterError):
    """The configured matcher cannot be imported or made."""

    message = (
        "[gpu_filter]pool_matcher = %(name)s: this pool matcher cannot be"
        " loaded: %(error)s. Repair or reinstall the package that provides it,"
        " or choose another matcher, then start the service again."
    )


class PluginBroken(GpuFilterError):
    """A filter or weigher in one of our namespaces cannot be imported."""

    message = (
        "The entry point %(entry_point)s in %(namespace)s cannot be loaded:"
        " %(error)s. Repair or remove the package that provides it."
    )


class BadRequestMix(GpuFilterError):
    """``[gpu_filter]request_mix`` makes no sense."""

    message = (
        "[gpu_filter]request_mix: %(problem)s. Give pairs of a number of"
        " devices and a weight, such as 1:0.4,2:0.2,4:0.2,8:0.2, then start"
        " the service again."
    )


class FileUnreadable(GpuFilterError):
    """A file that the operator named cannot be read."""

    message = "%(path)s: %(error)s"


class BadInput(GpuFilterError):
    """A file or option was read, but does not hold what it should."""

    message = "%(source)s: %(reason)s"


class Malformed(Exception):
    """A text does not hold what it should; the message says only why.

    :func:`name_source` makes a :class:`BadInput` of it.
    """


@contextlib.contextmanager
def name_source(source: str) -> Iterator[None]:
    """Say which file or option the malformed text is of.

    :raises BadInput: something in the block raised :class:`Malformed`.
    """
    try:
        yield
    except Malformed as error:
        raise BadInput(source=source, reason=str(error)) from None
