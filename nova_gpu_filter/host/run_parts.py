# SPDX-License-Identifier: Apache-2.0

"""Which files of a directory of programs are run."""

import os


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
