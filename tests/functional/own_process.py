# SPDX-License-Identifier: Apache-2.0

"""Run modules of functional tests in processes of their own, on eventlet."""

import ast
import functools
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

NO_GREEN_THREADS = "OS_NOVA_DISABLE_EVENTLET_PATCHING"
"""The environment variable that nova/monkey_patch.py reads."""

_ROOT = pathlib.Path(__file__).parents[2]

TIMEOUT = 900
"""Seconds that a process may take; the longest takes about two minutes."""

_TOGETHER = 3
"""Modules that one process runs: it takes 5 s to import Nova."""

_NOVA = frozenset({"demo", "nova"})


@functools.cache
def imports_nova(path: pathlib.Path) -> bool:
    """Whether a module imports Nova, itself or by its neighbours here.

    What functions import, as fixtures do, does not count.
    """
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in _NOVA:
                return True
            found = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
            is_ours = name.startswith("tests.functional.") and found.exists()
            if is_ours and imports_nova(found):
                return True
    return False


@functools.cache
def has_native_threads() -> bool:
    """Whether nova-scheduler of this Nova has native threads by default.

    Nova 34 does: nova/cmd/scheduler.py says so.
    """
    nova = importlib.util.find_spec("nova")
    assert nova is not None
    assert nova.origin is not None
    service = pathlib.Path(nova.origin).parent / "cmd" / "scheduler.py"
    return "patch(backend='threading')" in service.read_text()


class OwnProcessModule(pytest.File):
    """A test module that is not imported here: one item, all of its tests."""

    def collect(self):
        """Return the one item."""
        yield OwnProcessItem.from_parent(self, name="in its own process")


def group(items):
    """Have one process run the modules of several items.

    :param items: list of pytest.Item; changed in place.
    """
    alone = [item for item in items if isinstance(item, OwnProcessItem)]
    for first in range(0, len(alone), _TOGETHER):
        leader, *others = alone[first : first + _TOGETHER]
        leader.paths += [other.path for other in others]
        for other in others:
            items.remove(other)


class OwnProcessItem(pytest.Item):
    """All tests of some modules; passes if all of them do."""

    def __init__(self, **kwargs):
        """Take the module that the item was collected from."""
        super().__init__(**kwargs)
        self.paths = [self.path]

    def runtest(self):
        """Run pytest on the modules and wait for it.

        :raises OwnProcessError: a test failed.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if name != NO_GREEN_THREADS and not name.startswith("PYTEST_")
        }
        try:
            done = self._run(environment)
        except subprocess.TimeoutExpired as exc:
            output = (exc.stdout or b"").decode(errors="replace")
            raise OwnProcessError(
                f"not ended after {exc.timeout} seconds", output
            ) from None
        print(done.stdout)
        if done.returncode != 0:
            raise OwnProcessError(
                f"exited with {done.returncode}", done.stdout
            )

    def _run(self, environment):
        return subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "pytest"),
                *("-p", "no:xdist", "-p", "no:cacheprovider", "-W", "ignore"),
                *("-q", "--no-header", "--rootdir", str(self.config.rootpath)),
                *map(str, self.paths),
            ],
            cwd=self.config.rootpath,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )

    def repr_failure(self, excinfo, style=None):
        """Show what the other process said."""
        if isinstance(excinfo.value, OwnProcessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        """Say what failed: the modules."""
        names = " ".join(path.name for path in self.paths)
        return pathlib.Path(self.path), None, names


class OwnProcessError(Exception):
    """A test of a module failed, or hung."""

    def __init__(self, end: str, output: str) -> None:
        super().__init__(f"{output}\npytest {end}")
