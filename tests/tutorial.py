# SPDX-License-Identifier: Apache-2.0

"""The commands of the tutorial in the documentation."""

from collections.abc import Iterator
import pathlib
import shlex
from typing import Any
from typing import Protocol

PATH = (
    pathlib.Path(__file__).parents[1]
    / "doc"
    / "source"
    / "install"
    / "tutorial.rst"
)
_PROMPT = "   $ "
_CONTINUED = "       "
# Read from /etc/nova/nova.conf of a controller, which a test has not.
_READ_ALIASES = ("capacity", "explain")


class User(Protocol):
    """Somebody who types commands."""

    def openstack(self, *arguments: str) -> Any:
        """Run an ``openstack`` command, and return what it prints."""


def lines(*programs: str) -> list[str]:
    """List the commands that are one of these programs, as they are typed."""
    found: list[str] = []
    for line in PATH.read_text().splitlines():
        if line.startswith(_PROMPT):
            found.append(line.removeprefix(_PROMPT))
        elif found and found[-1].endswith("\\"):
            assert line.startswith(_CONTINUED), line
            found[-1] = found[-1].removesuffix("\\") + line.strip()
    return [line for line in found if line.split()[0] in programs]


def commands(*programs: str) -> list[list[str]]:
    """List the commands that are one of these programs, split into words."""
    return [shlex.split(line) for line in lines(*programs)]


def use(user: User, nova_conf: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Type the commands of ``openstack``.

    :returns: each, without its first word, and what it prints.
    """
    for _, *words in commands("openstack"):
        arguments = list(words)
        if words[0] == "gpu" and words[1] in _READ_ALIASES:
            arguments += ["--nova-conf", str(nova_conf)]
        if words[:2] == ["gpu", "device"] or "host" in words:
            arguments += ["-f", "json"]
        yield " ".join(words), user.openstack(*arguments)
