# SPDX-License-Identifier: Apache-2.0

"""Starts the cloud for the tests; each test leaves it as it was."""

import contextlib
import importlib.metadata
import os
import time

import pytest

from cloud import control
from cloud import errors
from tests.cloud import operators
from tests.cloud import report
from tests.cloud import user as users
from tests.cloud import views
from tests.cloud import waiting

REPORT = "report.txt"
_CASES: dict[str, report.Case] = {}
_CONTROL_PLANE = ("nova-api", "nova-conductor", "nova-scheduler")
_PACKAGES = ("nova", "openstack-placement", "keystone", "neutron", "glance")


_BEGIN = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    """Note when everything began."""
    config.stash[_BEGIN] = time.monotonic()
    config.pluginmanager.register(_Failures(config))


class _Failures:
    """Says at once why a test failed; the end of the run may be far away."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome in ("passed", "skipped"):
            return
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        terminal.ensure_newline()
        terminal.write_line(f"{report.nodeid} ({report.when}): {_why(report)}")


def _why(report: pytest.TestReport) -> str:
    """Find the line that says what is wrong."""
    lines = report.longreprtext.splitlines()
    why = next((line[1:] for line in lines if line[:2] == "E "), lines[-1])
    return why.strip()


def _case(node: str) -> report.Case:
    name = node.partition("::")[2].removeprefix("test_").replace("_", " ")
    return _CASES.setdefault(node, report.Case(name))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what came of a test."""
    case = _case(report.nodeid)
    case.seconds += report.duration
    if report.when == "call" or report.outcome != "passed":
        case.outcome = report.outcome
    if report.outcome == "rerun":
        case.notes.append(f"tried again, as it failed: {_why(report)}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, and write it into the directory of the cloud."""
    if not _CASES:
        return
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES
    )
    text = report.text(
        _CASES.values(),
        (
            "End-to-end tests of nova-gpu-filter on real services.",
            f"{versions}; {os.cpu_count()} CPUs.",
            f"All of it: {time.monotonic() - config.stash[_BEGIN]:.0f} s.",
        ),
    )
    terminalreporter.section("report")
    terminalreporter.write(text)
    (control.Cloud().state.directory / REPORT).write_text(text)


@pytest.fixture(scope="session")
def cloud(request):
    """A cloud that is up; ended again unless it was up before."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    cloud = control.Cloud(report=say)
    if cloud.is_up:
        yield cloud
        return
    with cloud.state.exclusive():
        cloud.up()
    yield cloud
    with cloud.state.exclusive():
        cloud.down()


@pytest.fixture(scope="session")
def user(cloud):
    """The administrator."""
    return users.User(cloud)


@pytest.fixture
def note(request):
    """Adds a line to the report."""
    return _case(request.node.nodeid).notes.append


@pytest.fixture(autouse=True)
def _leave_it_clean(cloud, user):
    """Check that a test found the cloud empty, and leaves it so."""
    with left_clean(cloud, user):
        yield


@contextlib.contextmanager
def left_clean(cloud, user):
    """Check that the cloud is empty, and empty it at the end."""
    assert user.servers() == {}
    yield
    assert user.delete(user.servers()) == []
    assert not cloud.dead
    try:
        assert_nothing_held(cloud)
    except AssertionError:
        # So that the tests that follow are not to blame.
        operators.free_what_nova_forgets(cloud, user)
        raise


def assert_nothing_held(cloud) -> None:
    """Wait until no device is held; nova-compute repairs in periodic tasks."""

    def is_free() -> bool:
        view = views.look(cloud)
        held = {**view.nova, **view.placement, **view.libvirt}
        return not held and view.pools == len(view.states)

    assert waiting.until(is_free), views.look(cloud)


def assert_audit_is_clean(cloud) -> None:
    """Let Nova look for allocations that belong to nothing."""
    try:
        cloud.bootstrap.nova_manage("placement", "audit")
    except errors.CloudError as error:
        raise AssertionError(str(error)) from error


@pytest.fixture
def control_plane(cloud):
    """Changes nova.conf of the control plane, and puts it back at the end."""

    def change(changes=None, *more: str) -> None:
        cloud.files.write("nova/nova.conf", changes)
        cloud.restart(*_CONTROL_PLANE, *more)

    yield change
    change()
