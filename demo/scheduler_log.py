# SPDX-License-Identifier: Apache-2.0

"""What the scheduler says of its decisions, taken from its log."""

import dataclasses
import logging

LOGGERS = ("nova_gpu_filter", "nova.scheduler.manager")


@dataclasses.dataclass(frozen=True)
class LogLine:
    """A line of the scheduler's log that explains a decision."""

    level: str
    logger: str
    text: str


class Recorder(logging.Handler):
    """Keeps what the scheduler and our filter log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[LogLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(
            LogLine(record.levelname, record.name, record.getMessage())
        )


class Decisions:
    """The lines that the scheduler logged since this was made."""

    def __init__(self, lines: list[LogLine]) -> None:
        self._lines = lines
        self._start = len(lines)

    @property
    def lines(self) -> list[LogLine]:
        """All lines, in order."""
        return self._lines[self._start :]

    def summaries(self) -> list[str]:
        """What our filter said once a request that lost hosts."""
        return self._of("nova_gpu_filter", "INFO")

    def refusals(self) -> list[str]:
        """What our filter said of each host that it refused."""
        return [
            text
            for text in self._of("nova_gpu_filter", "DEBUG")
            if " refused: " in text
        ]

    def without_candidates(self) -> list[str]:
        """What the scheduler said when Placement found nothing."""
        return [
            text
            for text in self._of("nova.scheduler.manager", "INFO")
            if "allocation candidates" in text
        ]

    def _of(self, logger: str, level: str) -> list[str]:
        return [
            line.text
            for line in self.lines
            if line.logger.startswith(logger) and line.level == level
        ]
