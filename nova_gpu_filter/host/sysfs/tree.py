# SPDX-License-Identifier: Apache-2.0

"""Reads files below a root, the way chroot would, and never outside it."""

from collections.abc import Iterator
import errno
import os
import re
import stat

_LIMIT = 1 << 20
_MAX_PATH = 4096
"""PATH_MAX of Linux."""
_MAX_LINKS = 40
"""As many symbolic links as Linux follows (MAXSYMLINKS)."""
_MAX_NODES = 1 << 10
"""NODES_SHIFT is at most 10 (arch/*/Kconfig of the kernel)."""


class Tree:
    """The files of one host: ``/`` itself, or a copy of parts of it.

    Paths are those of the host (``/sys/bus/pci/devices``). A symbolic link of
    a copy leads to another place in the copy, never to the machine on which
    it is examined. A file that is not there reads as None; one that is there
    and cannot be read is noted in ``problems``.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.realpath(root)
        self.problems: dict[str, str] = {}
        """Path on the host -> why it could not be read."""
        self._places: dict[str, str | None] = {"/": "/"}

    @property
    def is_live(self) -> bool:
        """Whether this is the machine that we run on."""
        return self.root == "/"

    def resolve(self, path: str, links: int = _MAX_LINKS) -> str | None:
        """Follow every symbolic link of a path, inside the root.

        :param links: how many may follow one another.
        :returns: the path on the host; None if a link leads nowhere, or round
            and round.
        """
        # normpath keeps two slashes at the front, which mean one.
        path = "/" + os.path.normpath(path).lstrip("/")
        if len(path) > _MAX_PATH:
            return None
        # Down from the last directory whose place is known: a link can name
        # a path of thousands of parts.
        known, names = path, []
        while known not in self._places:
            known, name = os.path.split(known)
            names.append(name)
        place = self._places[known]
        while names:
            name = names.pop()
            known = f"{known.rstrip('/')}/{name}"
            if place is not None:
                place = self._step(place, name, links)
            self._places[known] = place
        return place

    def _step(self, place: str, name: str, links: int) -> str | None:
        step = f"{place.rstrip('/')}/{name}"
        try:
            target = os.readlink(self._locate(step))
        except OSError:
            return step
        if not links:
            return None
        # normpath keeps ".." from climbing over the root: it is "/".
        return self.resolve(os.path.join(place, target), links - 1)

    def _locate(self, path: str) -> str:
        return path if self.root == "/" else self.root + path

    def read(self, path: str) -> str | None:
        """Read a text file, without white space around the text.

        Bytes that are not UTF-8 become replacement characters: a board's
        vendor may have written anything into its ROM.

        :returns: None if it is missing or cannot be read.
        """
        data = self.read_bytes(path)
        if data is None:
            return None
        return data.decode("utf-8", "replace").replace("\0", " ").strip()

    def read_bytes(self, path: str, limit: int = _LIMIT) -> bytes | None:
        """Read a file as it is, at most ``limit`` bytes of it."""
        try:
            descriptor = self._open(path)
            if descriptor is None:
                return None
            try:
                chunks = []
                while limit > 0:
                    chunk = os.read(descriptor, min(limit, 65536))
                    chunks.append(chunk)
                    limit -= len(chunk)
                    if len(chunk) < 4096:
                        # A short read of a regular file is its end, and sysfs
                        # gives no more than a page.
                        break
                return b"".join(chunks)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._note(path, error)
            return None

    def _open(self, path: str) -> int | None:
        head, name = os.path.split(path)
        place = self.resolve(head)
        if place is None:
            return None
        step = self._locate(f"{place.rstrip('/')}/{name}")
        # A copy may hold a FIFO where a file should be: do not wait for it.
        flags = os.O_RDONLY | os.O_NONBLOCK
        try:
            return os.open(step, flags | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        # It is itself a link, which few files of sysfs are.
        place = self.resolve(path)
        return None if place is None else os.open(self._locate(place), flags)

    def _note(self, path: str, error: OSError) -> None:
        absent = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)
        if error.errno not in absent:
            self.problems[path] = error.strerror or str(error)

    def list_entries(self, path: str) -> tuple[str, ...]:
        """List a directory, sorted; nothing if there is none."""
        place = self.resolve(path)
        if place is None:
            return ()
        try:
            return tuple(sorted(os.listdir(self._locate(place))))
        except OSError as error:
            self._note(path, error)
            return ()

    def list_configuration_files(self, *places: str) -> Iterator[str]:
        """Yield the ``*.conf`` of some directories, by their names.

        A file hides those of its name in later directories.
        """
        paths: dict[str, str] = {}
        for place in places:
            for name in self.list_entries(place):
                if name.endswith(".conf"):
                    paths.setdefault(name, f"{place}/{name}")
        for _, path in sorted(paths.items()):
            yield path

    def read_link_target(self, path: str) -> str | None:
        """Give what a symbolic link says; None if it is none."""
        head, name = os.path.split(path)
        place = self.resolve(head)
        if place is None:
            return None
        try:
            return os.readlink(self._locate(f"{place.rstrip('/')}/{name}"))
        except OSError:
            return None

    def read_link_name(self, path: str) -> str | None:
        """Give the last part of what a symbolic link points to.

        sysfs says so which driver, which IOMMU group and which PF a device
        has. The target need not be in the copy.
        """
        target = self.read_link_target(path)
        return None if target is None else os.path.basename(target)

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or directory of that name."""
        return self._read_status(path) is not None

    def is_directory(self, path: str) -> bool:
        """Tell whether there is a directory of that name."""
        status = self._read_status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def is_executable(self, path: str) -> bool:
        """Tell whether a file may be run as a program."""
        status = self._read_status(path)
        return status is not None and bool(status.st_mode & 0o111)

    def read_modification_time(self, path: str) -> float | None:
        """Give the time of a file's last change, in seconds since 1970."""
        status = self._read_status(path)
        return None if status is None else status.st_mtime

    def _read_status(self, path: str) -> os.stat_result | None:
        place = self.resolve(path)
        if place is None:
            return None
        try:
            return os.stat(self._locate(place))
        except OSError:
            return None

    def read_number(self, path: str) -> int | None:
        """Read a number, decimal or with ``0x``; None if there is none."""
        text = self.read(path)
        if text is None:
            return None
        try:
            return int(text, 0)
        except ValueError:
            self.problems[path] = f"'{text[:40]}' is not a number"
            return None

    def read_node_list(self, path: str) -> tuple[int, ...]:
        """Read a list of NUMA nodes: ``0-1,4`` is (0, 1, 4).

        :raises ValueError: there are more than Linux can have.
        """
        nodes: set[int] = set()
        for part in (self.read(path) or "").split(","):
            match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
            if match:
                first, last = int(match[1]), int(match[2] or match[1])
                if last >= _MAX_NODES:
                    raise ValueError(
                        f"{last} is above {_MAX_NODES - 1}, the last NUMA"
                        " node that Linux can have"
                    )
                nodes.update(range(first, last + 1))
        return tuple(sorted(nodes))
