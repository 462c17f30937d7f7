# SPDX-License-Identifier: Apache-2.0

"""The story as text for people: tables, ticks and crosses."""

from typing import TextIO

from rich import box
from rich import console
from rich import padding
from rich import table
from rich import text

from demo import record

_PLAIN_WIDTH = 100
"""Columns when the output is not a terminal."""


class Reporter(record.Listener):
    """Prints each step as it goes."""

    def __init__(self, file: TextIO) -> None:
        """Print to ``file``, in colour if that is a terminal."""
        width = None if file.isatty() else _PLAIN_WIDTH
        self._console = console.Console(
            file=file, width=width, highlight=False, markup=False
        )
        can_tick = self._console.encoding.startswith("utf")
        self._tick, self._cross = ("✓", "✗") if can_tick else ("ok", "NOT OK")

    def chapter_begins(self, chapter: record.Chapter) -> None:
        """Print the title of a chapter."""
        self._console.print()
        self._console.rule(
            f"Chapter {chapter.number}. {chapter.title}",
            align="left",
            characters="=",
            style="bold cyan",
        )

    def step_begins(self, chapter: record.Chapter, step: record.Step) -> None:
        """Print the title of a step, so that one sees what is going on."""
        self._console.print()
        self._console.print(
            f"{chapter.number}.{len(chapter.steps)} {step.title}", style="bold"
        )

    def step_ends(self, chapter: record.Chapter, step: record.Step) -> None:
        """Print what a step showed and whether all was as expected."""
        for shown in step.shown:
            self._console.print()
            if isinstance(shown, record.Table):
                self._print_table(shown)
            else:
                self._print_quote(shown)
        self._console.print()
        for expectation in step.expectations:
            self._print_expectation(expectation)
        self._console.print(f"  {step.seconds:.1f} s", style="dim")

    def story_ends(self, story: record.Story) -> None:
        """Print how it went as a whole."""
        total = len(story.expectations)
        failures = story.failures
        versions = ", ".join(f"{k} {v}" for k, v in story.versions.items())
        self._console.print()
        self._console.rule(characters="=", style="bold cyan")
        self._console.print(versions)
        for failure in failures:
            self._console.print(f"{self._cross} {failure}", style="red")
        if story.held:
            self._console.print(
                f"{self._tick} All {total} expectations held.",
                style="bold green",
            )
        else:
            self._console.print(
                f"{self._cross} {len(failures)} of {total} expectations did"
                " not hold.",
                style="bold red",
            )

    def _print_table(self, shown: record.Table) -> None:
        self._console.print(f"  {shown.title}", style="italic")
        drawn = table.Table(box=box.ASCII2 if self._plain else box.SIMPLE_HEAD)
        for index, column in enumerate(shown.columns):
            numeric = bool(shown.rows) and all(
                isinstance(row[index], int) for row in shown.rows
            )
            drawn.add_column(
                column,
                justify="right" if numeric else "left",
                overflow="fold",
            )
        for row in shown.rows:
            drawn.add_row(*(text.Text(str(cell)) for cell in row))
        if not shown.rows:
            drawn.add_row(*("-" for _ in shown.columns))
        self._console.print(padding.Padding(drawn, (0, 0, 0, 2)))

    def _print_quote(self, shown: record.Quote) -> None:
        self._console.print(f"  {shown.title}", style="italic")
        self._console.print(
            padding.Padding(text.Text(shown.text or "-"), (0, 0, 0, 4)),
            style="cyan",
        )

    def _print_expectation(self, expectation: record.Expectation) -> None:
        if expectation.held:
            line = text.Text(f"  {self._tick} ", style="green")
            line.append(
                f"{expectation.what}: {expectation.actual}", style="default"
            )
        else:
            line = text.Text(
                f"  {self._cross} {expectation.what}: expected"
                f" {expectation.expected}, actual {expectation.actual}",
                style="bold red",
            )
        self._console.print(line)

    @property
    def _plain(self) -> bool:
        return not self._console.is_terminal


class Progress(record.Listener):
    """Prints one line when a step begins."""

    def __init__(self, file: TextIO) -> None:
        """Print to ``file``."""
        self._file = file

    def step_begins(self, chapter: record.Chapter, step: record.Step) -> None:
        """Print the title of a step."""
        print(
            f"{chapter.number}.{len(chapter.steps)} {step.title}",
            file=self._file,
            flush=True,
        )
