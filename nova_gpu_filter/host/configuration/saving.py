# SPDX-License-Identifier: Apache-2.0

"""Writes a file without losing what was there.

Only regular files are replaced, and only where they were named: a link is
followed within its directory, since another user may have made it. Whoever
reads the file sees the old one or the new one, never a part.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
import errno
import itertools
import os
import secrets
import shutil
import stat
from typing import BinaryIO

from nova_gpu_filter import exception
from nova_gpu_filter.host.configuration import fragment

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Place:
    """A name in a directory that stays the same, whatever is renamed."""

    def __init__(self, path: str) -> None:
        self.path = path
        directory = os.path.realpath(os.path.dirname(path) or ".")
        self.name = os.path.basename(path)
        if self.name in ("", ".", ".."):
            raise exception.BadInput(source=path, reason="is a directory")
        if os.path.islink(path):
            target = os.path.realpath(path)
            if os.path.dirname(target) != directory:
                raise exception.BadInput(
                    source=path,
                    reason=f"is a link to {target}, in another directory:"
                    " name that file",
                )
            self.name = os.path.basename(target)
        self.directory = os.open(
            directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        self.target = os.path.join(directory, self.name)
        self.old: os.stat_result | None = None
        try:
            with contextlib.suppress(FileNotFoundError):
                self.old = os.lstat(self.name, dir_fd=self.directory)
                self._require_regular(self.old)
        except BaseException:
            self.close()
            raise

    def _require_regular(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise exception.BadInput(
                source=self.path, reason="is no regular file"
            )

    def close(self) -> None:
        """Close the directory."""
        os.close(self.directory)

    def open(self) -> BinaryIO:
        """Open the file that is there."""
        file = os.fdopen(
            os.open(self.name, _READ, dir_fd=self.directory), "rb"
        )
        try:
            # It may be another one by now.
            self._require_regular(os.fstat(file.fileno()))
        except BaseException:
            file.close()
            raise
        return file

    def create(self, name: str) -> BinaryIO:
        """Make a new file beside it, which nobody else can read yet."""
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=self.directory)
        return os.fdopen(descriptor, "wb")

    def remove(self, name: str) -> None:
        """Remove a file that was made beside it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.directory)

    def rename(self, temporary: str, exclusive: bool) -> None:
        """Give a file that was made beside it its name.

        :param exclusive: unless there is a file of that name by now.
        """

        def give_name(how: Callable[..., None]) -> None:
            place = self.directory
            how(temporary, self.name, src_dir_fd=place, dst_dir_fd=place)

        if exclusive:
            try:
                give_name(os.link)
                return
            except OSError as error:
                # vfat and some network file systems have no hard links.
                if error.errno not in (errno.EPERM, errno.ENOTSUP):
                    raise
        give_name(os.replace)


def save(path: str, text: str, force: bool = False) -> str | None:
    """Replace a file in one step, after a copy of the old one was made.

    A new file can be read by everybody: the fragments hold no secrets. One
    that was there keeps its owner and mode.

    :param force: replace also a file that we have not written.
    :returns: the path of the copy; None if there was no file.
    :raises BadInput: it is no regular file, or not one of ours and ``force``
        is not given.
    :raises OSError: it cannot be written; the old file is as it was.
    """
    with contextlib.closing(_Place(path)) as place:
        backup = None
        if place.old is not None:
            with place.open() as file:
                first = file.readline(256).decode("utf-8", "replace")
                if not first.startswith(fragment.MARK) and not force:
                    raise exception.BadInput(
                        source=path,
                        reason="this file was not written by nova-gpu-host,"
                        " and would be replaced as a whole: name a file of"
                        " its own, such as /etc/nova/nova.conf.d/50-gpu.conf,"
                        " or use --force",
                    )
                file.seek(0)
                backup = _copy(place, file)
        try:
            with _write(place, exclusive=False) as new:
                new.write(text.encode("utf-8", "backslashreplace"))
        except BaseException:
            if backup is not None:
                place.remove(backup)
            raise
        return (
            None
            if backup is None
            else os.path.join(os.path.dirname(place.target), backup)
        )


@contextlib.contextmanager
def replace(path: str, force: bool = False) -> Iterator[BinaryIO]:
    """Write a file that appears under its name once it is complete.

    :param force: replace a file that is there.
    :raises BadInput: there is one, or what is there is no regular file.
    :raises OSError: it cannot be written; nothing is left of it.
    """
    with contextlib.closing(_Place(path)) as place:
        there = exception.BadInput(
            source=path, reason="is there already; use --force"
        )
        if place.old is not None and not force:
            raise there
        try:
            with _write(place, exclusive=not force) as file:
                yield file
        except FileExistsError:
            raise there from None


@contextlib.contextmanager
def _write(place: _Place, exclusive: bool) -> Iterator[BinaryIO]:
    """Write a file beside another, and give it the name of that one."""
    temporary = f".nova-gpu-host.{secrets.token_hex(8)}"
    with place.create(temporary) as file:
        try:
            yield file
            file.flush()
            if place.old is None:
                os.fchmod(file.fileno(), 0o644)
            else:
                _copy_status(place.old, place.target, file)
            os.fsync(file.fileno())
            place.rename(temporary, exclusive)
        finally:
            place.remove(temporary)


def _copy(place: _Place, file: BinaryIO) -> str:
    """Copy the old file beside itself.

    :returns: the name of the copy.
    """
    assert place.old is not None
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = first = f"{place.name}.{now}.bak"
    for number in itertools.count(2):
        try:
            copy = place.create(name)
            break
        except FileExistsError:
            name = f"{first}.{number}"
    with copy:
        try:
            shutil.copyfileobj(file, copy)
            copy.flush()
            _copy_status(place.old, place.target, copy)
            times = (place.old.st_atime_ns, place.old.st_mtime_ns)
            os.utime(copy.fileno(), ns=times)
        except BaseException:
            place.remove(name)
            raise
    return name


def _copy_status(old: os.stat_result, path: str, file: BinaryIO) -> None:
    """Give a new file the owner, mode, ACL and label of the old one."""
    descriptor = file.fileno()
    os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    # Not all file systems have them, nor may everybody set them.
    with contextlib.suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            value = os.getxattr(path, name, follow_symlinks=False)
            os.setxattr(descriptor, name, value)
