# SPDX-License-Identifier: Apache-2.0

"""What a part of the bench hands back, and how it is printed."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any


@dataclasses.dataclass
class Report:
    """Figures of one part, as data; text is made of it last."""

    title: str
    columns: Mapping[str, str]
    """Heading of each column by the key of a row; may have several words."""
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: Sequence[str] = ()
    """What one has to know to read the figures."""
    errors: list[str] = dataclasses.field(default_factory=list)
    """Why the figures are worth nothing, such as different answers."""

    def as_data(self) -> dict[str, Any]:
        """Give what ``--json`` writes."""
        return dataclasses.asdict(self)

    def as_text(self) -> str:
        """Draw the table; numbers to the right."""
        table = [
            list(self.columns.values()),
            *(
                [_cell(row.get(key)) for key in self.columns]
                for row in self.rows
            ),
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width)
                for cell, width in zip(line, widths, strict=True)
            )
            for line in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(
            [
                self.title,
                "",
                *lines,
                "",
                *self.notes,
                *(f"ERROR: {error}" for error in self.errors),
            ]
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # A ratio says little with one decimal.
        return f"{value:,.{1 if abs(value) >= 10 else 2}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
