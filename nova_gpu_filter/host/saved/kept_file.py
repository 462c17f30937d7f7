# SPDX-License-Identifier: Apache-2.0

"""Reads a file of a host, and gives what a capture keeps of it."""

from collections.abc import Iterable
from collections.abc import Iterator

from nova_gpu_filter.host import printed
from nova_gpu_filter.host.saved import kept
from nova_gpu_filter.host.saved.archive import Entry
from nova_gpu_filter.host.saved.tokens import Tokens
from nova_gpu_filter.host.sysfs import tree as tree_lib

_LIMIT = 1 << 20


def keep_lines(
    tree: tree_lib.Tree, tokens: Tokens, path: str, limit: int = _LIMIT
) -> list[str] | None:
    """Give the lines that are kept of a file.

    :param limit: bytes of it that are read.
    :returns: None if it is not there, or is no file that we keep.
    """
    keep_text = kept.find(path)
    data = tree.read_bytes(path, limit) if keep_text else None
    if keep_text is None or data is None:
        return None
    text = data.decode("utf-8", "replace").replace("\0", " ")
    return keep_text(tokens, text)


def make_entry(
    tree: tree_lib.Tree, path: str, kept_lines: Iterable[str]
) -> Entry:
    """Make a file of lines, with age and mode of the one they are from."""
    text = printed.join_lines(kept_lines)
    modified = tree.read_modification_time(path) or 0.0
    return Entry(
        path,
        text.encode("utf-8", "replace"),
        modified=modified,
        # systemd runs /etc/rc.local only if it is.
        is_executable=tree.is_executable(path),
    )


def keep(
    tree: tree_lib.Tree, tokens: Tokens, path: str, limit: int = _LIMIT
) -> Iterator[Entry]:
    """Yield what is kept of a file, if that is anything."""
    found = keep_lines(tree, tokens, path, limit)
    if found:
        yield make_entry(tree, path, found)


def keep_link(tree: tree_lib.Tree, path: str) -> Iterator[Entry]:
    """Yield a symbolic link, or a directory in its place."""
    target = tree.read_link_target(path)
    if target is not None:
        yield Entry(path, target=target)
    elif tree.is_directory(path):
        yield Entry(path)
