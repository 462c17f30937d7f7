# SPDX-License-Identifier: Apache-2.0

"""Fixtures of the tests that run on the embedded cloud.

They run in the threading model that nova-scheduler of the series has. Where
that is eventlet, Nova's fixtures turn the threads of a process into green
threads when they are imported. The processes of pytest-xdist would wait for
each other forever then, so nothing of nova is imported here, and where xdist
hands out the tests, or unit tests have decided against green threads, modules
that import nova run in processes of their own.
"""

from collections.abc import Callable
import os
import pathlib

import pytest

from tests import temporary
from tests.functional import own_process

temporary.keep_in_memory()

if own_process.has_native_threads():
    os.environ[own_process.NO_GREEN_THREADS] = "1"
    # Before anything imports eventlet, which Nova does not have then.
    from demo import threads  # noqa: F401

CONF_DIR = pathlib.Path(__file__).parents[2] / "demo" / "conf"

Edit = tuple[str, str]


def pytest_pycollect_makemodule(module_path, parent):
    """Leave the modules to other processes where this one is of no use."""
    if (
        not own_process.has_native_threads()
        and (
            hasattr(parent.config, "workerinput")
            or own_process.NO_GREEN_THREADS in os.environ
        )
        and own_process.imports_nova(module_path)
    ):
        return own_process.OwnProcessModule.from_parent(
            parent, path=module_path
        )
    return None


def pytest_collection_modifyitems(items):
    """Ignore what libraries under Nova warn of: it is not ours to fix.

    And run modules together that a process of their own runs.
    """
    here = pathlib.Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("ignore"))
    own_process.group(items)


@pytest.fixture(scope="session", autouse=True)
def _check_schemas_once():
    """Have Placement check its schemas once."""
    from tests import checked_schemas

    yield from checked_schemas.replace()


@pytest.fixture
def edited_conf(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Return a function that copies a nova.conf of the demo with edits."""

    def edit(name: str, *edits: Edit) -> pathlib.Path:
        text = (CONF_DIR / name).read_text()
        for old, new in edits:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return edit
