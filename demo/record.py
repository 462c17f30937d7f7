# SPDX-License-Identifier: Apache-2.0

"""The story as data: chapters of steps, each with what was expected."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class Expectation:
    """Something that has to be so, and what it is."""

    what: str
    expected: Any
    actual: Any

    @property
    def held(self) -> bool:
        """Whether it is as expected."""
        return bool(self.expected == self.actual)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that belong together; cells are text or whole numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int]]


@dataclasses.dataclass(frozen=True)
class Quote:
    """Text that somebody else wrote: a file, a log, domain XML."""

    title: str
    text: str


@dataclasses.dataclass
class Step:
    """One thing that is done, and how the cloud looks afterwards."""

    title: str
    shown: list[Table | Quote] = dataclasses.field(default_factory=list)
    expectations: list[Expectation] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | int]],
    ) -> None:
        """Show rows."""
        self.shown.append(Table(title, columns, list(rows)))

    def quote(self, title: str, lines: Iterable[str]) -> None:
        """Show lines as somebody else wrote them."""
        self.shown.append(Quote(title, "\n".join(lines)))

    def expect(self, what: str, expected: Any, actual: Any) -> None:
        """Note whether something is as it has to be; never raises."""
        self.expectations.append(Expectation(what, expected, actual))


@dataclasses.dataclass
class Chapter:
    """Steps on one cloud."""

    number: int
    title: str
    steps: list[Step] = dataclasses.field(default_factory=list)


class Listener:
    """Is told of the story while it goes on; does nothing."""

    def chapter_begins(self, chapter: Chapter) -> None:
        """Called before the first step of a chapter."""

    def step_begins(self, chapter: Chapter, step: Step) -> None:
        """Called before a step is done."""

    def step_ends(self, chapter: Chapter, step: Step) -> None:
        """Called when all of a step is known."""


class ChapterAbandonedError(Exception):
    """A step failed in a way that lets no later step make sense."""


@dataclasses.dataclass
class Story:
    """All that was told."""

    versions: dict[str, str]
    """Package name to version."""
    listener: Listener
    chapters: list[Chapter] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def chapter(self, number: int, title: str) -> Iterator[Chapter]:
        """Tell a chapter; a step that raises ends it, not the story."""
        chapter = Chapter(number, title)
        self.chapters.append(chapter)
        self.listener.chapter_begins(chapter)
        with contextlib.suppress(ChapterAbandonedError):
            yield chapter

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Tell a step of the present chapter.

        :raises ChapterAbandonedError: something in it raised; what did stands
            among the expectations of the step.
        """
        chapter = self.chapters[-1]
        step = Step(title)
        chapter.steps.append(step)
        self.listener.step_begins(chapter, step)
        begin = time.monotonic()
        try:
            yield step
        except Exception as exc:
            step.expect("the step ends without an error", None, repr(exc))
            raise ChapterAbandonedError from exc
        finally:
            step.seconds = time.monotonic() - begin
            self.listener.step_ends(chapter, step)

    @property
    def expectations(self) -> list[tuple[Chapter, Step, Expectation]]:
        """Everything that was expected, in order."""
        return [
            (chapter, step, expectation)
            for chapter in self.chapters
            for step in chapter.steps
            for expectation in step.expectations
        ]

    @property
    def failures(self) -> list[str]:
        """Each expectation that did not hold, in words."""
        return [
            f"chapter {chapter.number}, {step.title}: {failed.what}: expected"
            f" {failed.expected!r}, actual {failed.actual!r}"
            for chapter, step, failed in self.expectations
            if not failed.held
        ]

    @property
    def held(self) -> bool:
        """Whether anything was expected at all, and all of it was so."""
        return bool(self.expectations) and not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the whole story as plain data, ready for JSON."""
        return {
            "versions": self.versions,
            "held": self.held,
            "chapters": [
                {
                    "number": chapter.number,
                    "title": chapter.title,
                    "steps": [_step_to_dict(step) for step in chapter.steps],
                }
                for chapter in self.chapters
            ],
        }


def _step_to_dict(step: Step) -> dict[str, Any]:
    return {
        "title": step.title,
        "seconds": round(step.seconds, 3),
        "tables": [
            dataclasses.asdict(shown)
            for shown in step.shown
            if isinstance(shown, Table)
        ],
        "quotes": [
            dataclasses.asdict(shown)
            for shown in step.shown
            if isinstance(shown, Quote)
        ],
        "expectations": [
            {**dataclasses.asdict(expectation), "held": expectation.held}
            for expectation in step.expectations
        ],
    }
