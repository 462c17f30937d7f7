# SPDX-License-Identifier: Apache-2.0

"""The commands of the tutorial in the documentation."""

import pathlib
import shlex

PATH = (
    pathlib.Path(__file__).parents[1]
    / "doc"
    / "source"
    / "install"
    / "tutorial.rst"
)
_PROMPT = "   $ "
_CONTINUED = "       "


def commands(*programs: str) -> list[list[str]]:
    """List the commands that are one of these programs, split into words."""
    found: list[str] = []
    for line in PATH.read_text().splitlines():
        if line.startswith(_PROMPT):
            found.append(line.removeprefix(_PROMPT))
        elif found and found[-1].endswith("\\"):
            assert line.startswith(_CONTINUED), line
            found[-1] = found[-1].removesuffix("\\") + line.strip()
    split = [shlex.split(command) for command in found]
    return [words for words in split if words[0] in programs]
