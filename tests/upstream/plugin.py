# SPDX-License-Identifier: Apache-2.0

"""A pytest plugin that puts our filter in the place of Nova's.

Nova's suites then run as they are: they enable ``PciPassthroughFilter``, they
wrap its ``host_passes``, and what answers is GpuPciPassthroughFilter. That it
did answer is counted, and a run in which it never did fails.
"""

import collections

import pytest

_calls: collections.Counter[str] = collections.Counter()
"""What our filter did: in this process, in the end of all workers."""


def pytest_configure(config):
    """Put our filter in place before the first suite is imported."""
    # Nova's test packages turn threads into green threads, which stops
    # pytest-xdist if it happens in the process that hands out the tests.
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        _take_the_place_of_novas_filter()


def _take_the_place_of_novas_filter() -> None:
    from nova import monkey_patch

    # Nova's test packages do this first thing, but Nova is imported here.
    monkey_patch.patch()

    from nova import test as nova_test
    from nova.scheduler.filters import pci_passthrough_filter
    from nova.tests import fixtures as nova_fixtures

    from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
    from tests import nova_paths

    class PciPassthroughFilter(gpu_pci_passthrough.GpuPciPassthroughFilter):
        """Our filter by the name that Nova's suites know."""

        def host_passes(self, host_state, spec_obj):
            _calls["hosts"] += 1
            return super().host_passes(host_state, spec_obj)

        def _refuse(self, host_state, question):
            _calls["hosts asked for devices"] += 1
            return super()._refuse(host_state, question)

        def _ask_nova(self, host_state, spec_obj):
            _calls["hosts left to Nova's PCI statistics"] += 1
            return super()._ask_nova(host_state, spec_obj)

    class ConfFixture(nova_fixtures.ConfFixture):
        """Nova's options for tests, with the file where a wheel has it."""

        def setUp(self):
            super().setUp()
            self.conf.set_default(
                "api_paste_config",
                str(nova_paths.api_paste_file()),
                group="wsgi",
            )

    pci_passthrough_filter.PciPassthroughFilter = PciPassthroughFilter
    nova_fixtures.ConfFixture = ConfFixture
    # Nova empties its test cases to save memory. pytest, which lets go of
    # them anyway, misses an attribute of its own then.
    nova_test.TestCase._clear_attrs = lambda self: None


def pytest_testnodedown(node):
    """Take over what a worker of pytest-xdist has counted."""
    _calls.update(getattr(node, "workeroutput", {}).get("calls", {}))


# Last, so that every worker has reported.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Fail a run that passed without asking our filter."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["calls"] = dict(_calls)
    elif not _calls["hosts"] and exitstatus == pytest.ExitCode.OK:
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
