# SPDX-License-Identifier: Apache-2.0

"""A pytest plugin that puts our filter in the place of Nova's.

Nova's suites then run as they are: they enable ``PciPassthroughFilter``, they
wrap its ``host_passes``, and what answers is GpuPciPassthroughFilter. That it
did answer is counted, and a run in which it never did fails.

``--part 2/3`` runs every third test, from the second on. pytest-xdist cannot
spread these suites: they replace threads by green threads in the middle of
its run, and it waits for ever.
"""

import collections

# First of all, as in Nova's own runs: this turns threads into green threads.
import nova.tests.functional  # noqa: F401

# isort: split
from nova import test as nova_test
from nova.scheduler.filters import pci_passthrough_filter
from nova.tests import fixtures as nova_fixtures
import pytest
from sqlalchemy import pool

from demo import connection_pool
from demo import nova_paths
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough

_calls: collections.Counter[str] = collections.Counter()
"""What our filter was asked, and what it did."""


class _CountingFilter(gpu_pci_passthrough.GpuPciPassthroughFilter):
    """Our filter, which counts what it does."""

    def _refuse(self, host_state, question):
        _calls["hosts asked for devices"] += 1
        return super()._refuse(host_state, question)

    def _ask_nova(self, host_state, spec_obj):
        _calls["hosts left to Nova's PCI statistics"] += 1
        return super()._ask_nova(host_state, spec_obj)


class PciPassthroughFilter(gpu_pci_passthrough.GpuPciPassthroughFilter):
    """Our filter, by the name that Nova's suites know."""

    def __init__(self):
        """Make the filter that answers."""
        super().__init__()
        self._ours = _CountingFilter()

    def host_passes(self, host_state, spec_obj):
        """Count the call, then ask our filter."""
        _calls["hosts"] += 1
        return self._ours.host_passes(host_state, spec_obj)

    def _passes(self, host_state, question):
        """Ask by way of what Nova's suites wrap."""
        return self.host_passes(host_state, question.spec_obj)


class ConfFixture(nova_fixtures.ConfFixture):
    """Nova's options for tests, with the file where a wheel has it."""

    def setUp(self):
        """Correct one default after Nova has set its own."""
        super().setUp()
        self.conf.set_default(
            "api_paste_config", str(nova_paths.api_paste_file()), group="wsgi"
        )


def pytest_addoption(parser):
    """Let several processes share the tests."""
    parser.addoption(
        "--part", default="1/1", help="m/n: run every nth test from the mth on"
    )


def pytest_configure(config):
    """Put our classes in place before the first suite is imported."""
    pci_passthrough_filter.PciPassthroughFilter = PciPassthroughFilter
    nova_fixtures.ConfFixture = ConfFixture
    pool.NullPool = connection_pool.ConnectionPool
    # Nova empties its test cases to save memory. pytest, which lets go of
    # them anyway, misses an attribute of its own then.
    nova_test.TestCase._clear_attrs = lambda self: None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keep the part of the chosen tests that this process has to run."""
    part, parts = map(int, config.getoption("part").split("/"))
    mine = items[part - 1 :: parts]
    config.hook.pytest_deselected(
        items=[item for item in items if item not in mine]
    )
    items[:] = mine


def pytest_sessionfinish(session, exitstatus):
    """Fail a run that passed without asking our filter."""
    if exitstatus == pytest.ExitCode.OK and not _calls["hosts"]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Tell what our filter had to do."""
    terminalreporter.section("GpuPciPassthroughFilter")
    for what, count in _calls.items():
        terminalreporter.line(f"{count} {what}")
    if not _calls["hosts"]:
        terminalreporter.line(
            "ERROR: our filter was never asked, this run says nothing of it"
        )
