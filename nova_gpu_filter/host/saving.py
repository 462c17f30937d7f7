# SPDX-License-Identifier: Apache-2.0

"""Writes a file without losing what was there."""

import datetime
import os
import shutil
import tempfile

from nova_gpu_filter.host import errors
from nova_gpu_filter.host import fragment


def save(path: str, text: str, force: bool = False) -> str | None:
    """Replace a file in one step, after a copy of the old one was made.

    A new file can be read by everybody: the fragments hold no secrets. One
    that was there keeps its owner and mode.

    :param force: replace also a file that we have not written.
    :returns: the path of the copy; None if there was no file.
    :raises BadInput: the file is not one of ours, and ``force`` is not given.
    :raises OSError: it cannot be written; the old file is as it was.
    """
    backup = None
    # Through a link the file is replaced, not the link.
    path = os.path.realpath(path)
    old = os.stat(path) if os.path.exists(path) else None
    if old is not None:
        with open(path, encoding="utf-8", errors="replace") as file:
            is_ours = file.readline().startswith(fragment.MARK)
        if not is_ours and not force:
            raise errors.BadInput(
                source=path,
                reason="this file was not written by nova-gpu-host, and would"
                " be replaced as a whole: name a file of its own, such as"
                " /etc/nova/nova.conf.d/50-gpu.conf, or use --force",
            )
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        backup = _unused(f"{path}.{now}.bak")
        shutil.copy2(path, backup)
        os.chown(backup, old.st_uid, old.st_gid)
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path) or "."
    )
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            os.chown(temporary, old.st_uid, old.st_gid)
            os.chmod(temporary, old.st_mode & 0o7777)
        else:
            os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return backup


def _unused(path: str) -> str:
    number, candidate = 1, path
    while os.path.exists(candidate):
        number += 1
        candidate = f"{path}.{number}"
    return candidate
