# SPDX-License-Identifier: Apache-2.0

"""The programs that an operator has nova-gpu-agent run around a cleaning."""

import os
from typing import Final

BEFORE: Final = "before.d"
AFTER: Final = "after.d"
"""Directories in ``[gpu_agent]hooks``: before the reset, after the checks."""


def list_all(directory: str) -> list[str]:
    """List the programs of both directories.

    :param directory: that of ``[gpu_agent]hooks``.
    :returns: paths.
    :raises OSError: a directory cannot be read.
    """
    return [
        path
        for name in (BEFORE, AFTER)
        for path in list_programs(os.path.join(directory, name))
    ]


def list_programs(directory: str) -> list[str]:
    """List the executable files of a directory, by their names.

    Hidden files, backups (``~``) and files that are not executable are left
    out, as by run-parts(8).

    :returns: paths; none where there is no such directory.
    :raises OSError: the directory cannot be read.
    """
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    paths = [
        os.path.join(directory, name)
        for name in names
        if not name.startswith(".") and not name.endswith("~")
    ]
    return [
        path
        for path in paths
        if os.path.isfile(path) and os.access(path, os.X_OK)
    ]
