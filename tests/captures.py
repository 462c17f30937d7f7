# SPDX-License-Identifier: Apache-2.0

"""What ``nova-gpu-host capture`` writes, unpacked."""

import pathlib
import tarfile


def unpack(capture: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    """Unpack a capture as ``tar xf`` does.

    :param directory: a place of its own.
    :returns: the one directory that a capture has at its top.
    """
    with tarfile.open(capture) as archive:
        # An argument of this name would be unknown to the Python 3.11.2 of
        # Debian 12; see "Supporting older Python versions" in the
        # documentation of tarfile.
        archive.extraction_filter = getattr(tarfile, "tar_filter", None)
        archive.extractall(directory)  # noqa: S202
    (top,) = directory.iterdir()
    return top
