# SPDX-License-Identifier: Apache-2.0

"""The table at the end: a case, how long it took, what came of it."""

from collections.abc import Iterable
import dataclasses


@dataclasses.dataclass
class Case:
    """One test."""

    name: str
    outcome: str = "not run"
    seconds: float = 0.0
    notes: list[str] = dataclasses.field(default_factory=list)
    """What was measured or seen, a line each."""


def text(cases: Iterable[Case], heading: Iterable[str]) -> str:
    """Write the table."""
    lines = [*heading, ""]
    lines.append(f"{'outcome':8} {'seconds':>8}  case")
    for case in cases:
        lines.append(f"{case.outcome:8} {case.seconds:8.1f}  {case.name}")
        lines += [f"{'':19}{note}" for note in case.notes]
    return "\n".join(lines) + "\n"
