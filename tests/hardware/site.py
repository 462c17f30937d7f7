# SPDX-License-Identifier: Apache-2.0

"""Picks the Python packages that nova-gpu-host needs.

A machine has them in its memory: the environment that the tests run in has
hundreds, and to look through them takes an emulated machine a minute.
"""

import compileall
import importlib.metadata
import pathlib
import shutil
import sys

from packaging import requirements
from packaging import utils

OURS = "nova-gpu-filter"


def key() -> str:
    """Tell what a copy depends on."""
    entry_points = importlib.metadata.distribution(OURS).read_text(
        "entry_points.txt"
    )
    versions = sorted(
        f"{one.name}=={one.version}"
        for one in importlib.metadata.distributions()
        # Ours has another version after every commit.
        if one.name != OURS
    )
    return "\n".join((sys.version, entry_points or "", *versions))


def _required(extra: str) -> set[str]:
    """Name us and what is installed with us, and with an extra of ours."""
    names: set[str] = set()
    pending = [OURS]
    while pending:
        name = pending.pop()
        if name in names:
            continue
        names.add(name)
        marks = {"extra": extra if name == OURS else ""}
        for line in importlib.metadata.requires(name) or ():
            needed = requirements.Requirement(line)
            if not needed.marker or needed.marker.evaluate(marks):
                pending.append(utils.canonicalize_name(needed.name))
    return names


def copy(target: pathlib.Path, extra: str = "") -> None:
    """Copy the packages that we need, or only those that an extra adds."""
    names = _required(extra)
    if extra:
        names -= _required("")
    for name in sorted(names):
        distribution = importlib.metadata.distribution(name)
        for path in distribution.files or ():
            source = pathlib.Path(str(distribution.locate_file(path)))
            # What is ours is read from the repository, as it is now.
            if name == OURS and not path.parts[0].endswith("-info"):
                continue
            # Scripts lie elsewhere.
            if ".." not in path.parts and source.is_file():
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place)
    # An emulated processor takes long for it, and cannot keep it.
    compileall.compile_dir(target, quiet=1)
