# SPDX-License-Identifier: Apache-2.0

"""A tar archive of a host's files, and its text for people."""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import io
import tarfile
from typing import IO


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the archive: a file, a link or a directory."""

    path: str
    content: bytes | None = None
    target: str | None = None
    modified: float = 0.0
    is_executable: bool = False


def write(
    entries: Iterable[Entry], top: str, file: IO[bytes], is_packed: bool
) -> int:
    """Write an archive.

    :param top: the one directory at its top.
    :returns: how many files, links and directories it has.
    """
    count = 0
    with tarfile.open(
        fileobj=file, mode="w|gz" if is_packed else "w|"
    ) as archive:
        for entry in entries:
            member = tarfile.TarInfo(f"{top}{entry.path}")
            member.mtime = int(entry.modified)
            if entry.target is not None:
                member.type = tarfile.SYMTYPE
                member.linkname = entry.target
                archive.addfile(member)
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
                member.mode = 0o755
                archive.addfile(member)
            else:
                member.size = len(entry.content)
                if entry.is_executable:
                    member.mode = 0o755
                archive.addfile(member, io.BytesIO(entry.content))
            count += 1
    return count


def show(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the lines that show what an archive would hold."""
    for entry in entries:
        if entry.target is not None:
            yield f"{entry.path} -> {entry.target}"
        elif entry.content is None:
            yield f"{entry.path}/"
        else:
            yield entry.path
            try:
                text = entry.content.decode("utf-8")
            except UnicodeDecodeError:
                text = entry.content.hex(" ", 2)
            if not all(char.isprintable() or char in "\n\t" for char in text):
                text = entry.content.hex(" ", 2)
            for line in text.splitlines():
                yield f"    {line}"
