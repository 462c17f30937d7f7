# SPDX-License-Identifier: Apache-2.0

"""Picks the Python packages that nova-gpu-host needs.

A machine has them in its memory: the environment that the tests run in has
hundreds, and to look through them takes an emulated machine a minute.
"""

import importlib.metadata
import json
import pathlib
import shutil
import subprocess
import sys

OURS = "nova-gpu-filter"

_TELL = """
import contextlib, importlib, io, json, pkgutil, sys
from nova_gpu_filter.cmd import host
from nova_gpu_filter.cmd.host import app
for module in pkgutil.iter_modules(host.__path__, host.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
with contextlib.redirect_stdout(io.StringIO()):
    app.main(["inventory", "--help"])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


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


def copy(target: pathlib.Path) -> None:
    """Copy the packages."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL],
        capture_output=True,
        text=True,
        check=True,
    )
    by_module = importlib.metadata.packages_distributions()
    names = {OURS}
    for module in json.loads(done.stdout.splitlines()[-1]):
        names.update(by_module.get(module, ()))
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for path in distribution.files or ():
            source = pathlib.Path(str(distribution.locate_file(path)))
            # Scripts lie elsewhere.
            if ".." not in path.parts and source.is_file():
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                # With its time, by which Python knows compiled files.
                shutil.copy2(source, place)
