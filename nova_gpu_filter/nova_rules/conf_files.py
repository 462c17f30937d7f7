# SPDX-License-Identifier: Apache-2.0

"""Reads the files that a service of OpenStack reads, and says what is wrong.

oslo.config is slow to import, and most commands read no such file: whoever
makes a ``ConfigOpts`` imports it.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import typing

from nova_gpu_filter import exception
from nova_gpu_filter import files

if typing.TYPE_CHECKING:
    from oslo_config import cfg


@contextlib.contextmanager
def read_into(
    conf: "cfg.ConfigOpts", paths: Sequence[str], project: str = "nova"
) -> Iterator[None]:
    """Read files into options, and let the caller take the values.

    oslo.config reads the text first, and makes a value of it when it is asked
    for: ask within the ``with``, so that a value that is none is told in the
    same way.

    :param paths: later ones go over earlier; a directory stands for its
        ``*.conf``.
    :param project: the service whose files they are.
    :raises FileUnreadable: one is not there, too large, or not ours to read.
    :raises BadInput: one is no configuration file, or a value makes no sense.
    """
    from oslo_config import cfg

    arguments = _list_arguments(paths)
    try:
        conf(
            arguments,
            project=project,
            default_config_files=[],
            default_config_dirs=[],
        )
        yield
    # The others: text that is no UTF-8, and an option that names itself.
    except (cfg.Error, ValueError, RecursionError) as error:
        raise exception.BadInput(
            source=", ".join(paths), reason=" ".join(str(error).split())
        ) from error


def _list_arguments(paths: Sequence[str]) -> list[str]:
    arguments = []
    for path in paths:
        try:
            if os.path.isdir(path):
                for name in os.listdir(path):
                    if name.endswith(".conf"):
                        files.check_size(os.path.join(path, name))
                arguments += ["--config-dir", path]
            else:
                files.check_size(path)
                arguments += ["--config-file", path]
        except OSError as error:
            hint = (
                ", nova.conf holds passwords: run this with sudo"
                if isinstance(error, PermissionError)
                else ""
            )
            raise exception.FileUnreadable(
                path=error.filename or path,
                error=f"{error.strerror or error}{hint}",
            ) from None
    return arguments
