# SPDX-License-Identifier: Apache-2.0

"""A plugin of pytest that prints how many inputs each harness tried.

Named to pytest by ``make fuzz``: harnesses stand in several directories. A
test without hypothesis tells by ``record_property("inputs", NUMBER)``.
"""

from collections.abc import Generator
from typing import Any

from hypothesis import Phase
from hypothesis import statistics
import pytest

PROPERTY = "inputs"


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Note how often hypothesis calls a test, beside what it notes itself."""
    note = statistics.collector.value

    def note_and_count(of_run: dict[str, Any]) -> None:
        if note is not None:
            note(of_run)
        inputs = sum(
            len(of_run.get(f"{phase.name}-phase", {}).get("test-cases", ()))
            for phase in Phase
        )
        item.user_properties.append((PROPERTY, inputs))

    with statistics.collector.with_value(note_and_count):
        yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the numbers, and their sum."""
    inputs = {
        report.nodeid: value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    }
    terminalreporter.section("inputs tried")
    for nodeid, number in sorted(inputs.items()):
        terminalreporter.write_line(f"{number:>7,} {nodeid}")
    terminalreporter.write_line(f"{sum(inputs.values()):>7,} in all")
