# SPDX-License-Identifier: Apache-2.0

"""Reads files that somebody named, and no more of them than is sensible."""

import errno
import io
import os
import stat
from typing import IO

from nova_gpu_filter import sizes

MIB = 1 << 20
DOCUMENT_BYTES = 64 * MIB
"""At most, of an inventory, a scenario or a table: those of 10,000 hosts."""
OUTPUT_BYTES = 4 * MIB
"""At most, of what a program has printed, or of a configuration file."""
_CHUNK = MIB


def read_bytes(path: str, limit: int = DOCUMENT_BYTES) -> bytes:
    """Read a whole file, or what comes out of a pipe.

    :param limit: bytes that it may have.
    :raises OSError: it cannot be read, or is larger.
    """
    with open(path, "rb") as file:
        return read_stream(file, path, limit)


def read_stream(
    file: IO[bytes], path: str, limit: int = DOCUMENT_BYTES
) -> bytes:
    """Read what is left of a stream.

    :param path: what the error calls it.
    :raises OSError: it cannot be read, or is larger than ``limit``.
    """
    whole = io.BytesIO()
    # The size of a pipe or a device is not known before.
    while chunk := file.read(_CHUNK):
        whole.write(chunk)
        if whole.tell() > limit:
            raise _make_too_large_error(path, limit)
    return whole.getvalue()


def check_size(path: str, limit: int = OUTPUT_BYTES) -> None:
    """Refuse a file that another library would read without an end.

    :raises OSError: it cannot be opened, is larger than ``limit`` bytes, or
        is a device.
    """
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "is a device", path)
    if status.st_size > limit:
        raise _make_too_large_error(path, limit)


def _make_too_large_error(path: str, limit: int) -> OSError:
    return OSError(
        errno.EFBIG,
        f"larger than {sizes.format_size(limit)}, and not read",
        path,
    )
