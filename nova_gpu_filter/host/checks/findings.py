# SPDX-License-Identifier: Apache-2.0

"""What a check says: data first, so that it can be printed in any form."""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
from typing import TypedDict
from typing import Unpack

from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.severity import Severity as Severity

_CONTENT_LIMIT = 160

EXIT_CODES = {Severity.ERROR: 2, Severity.WARNING: 1}
"""Of the command that checks; 0 for the other severities."""


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """Where it was seen: a file and its content, or a link and its target."""

    path: str
    content: str | None
    """None: the file is not there."""

    def __str__(self) -> str:
        path = printable.escape(self.path)
        if self.content is None:
            return f"{path}: not there"
        content = printable.join_lines(self.content)
        if len(content) > _CONTENT_LIMIT:
            content = content[:_CONTENT_LIMIT] + " ..."
        return f"{path}: {content or '(empty)'}"


def show_driver(function: Function) -> Evidence:
    """Show which driver a device has."""
    return Evidence(f"{function.address.path}/driver", function.driver)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding(printable.OneLineTexts):
    """One thing about the host, or about one device."""

    severity: Severity
    check: str
    """The short name of what was checked: ``iommu``, ``driver``."""
    summary: str
    device: str | None = None
    """PCI address; None: it is about the host."""
    evidence: tuple[Evidence, ...] = ()
    cures: tuple[str, ...] = ()
    """What to do: commands to type, and sentences that begin with #."""


Findings = Iterator[Finding]
"""What a check yields."""


class _More(TypedDict, total=False):
    device: PciAddress | None
    cures: Iterable[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Reporter:
    """Makes the findings of one check.

    Each method takes what was found, where it was seen, the device that it is
    about (none: the host), and what to do.
    """

    check: str
    """The short name of what is checked: ``iommu``, ``driver``."""

    def report(
        self,
        severity: Severity,
        summary: str,
        *evidence: Evidence,
        device: PciAddress | None = None,
        cures: Iterable[str] = (),
    ) -> Finding:
        """Make a finding whose severity is computed."""
        return Finding(
            severity,
            self.check,
            summary,
            None if device is None else str(device),
            evidence,
            tuple(cures),
        )

    def error(
        self, summary: str, *evidence: Evidence, **more: Unpack[_More]
    ) -> Finding:
        """Report what keeps devices from guests."""
        return self.report(Severity.ERROR, summary, *evidence, **more)

    def warning(
        self, summary: str, *evidence: Evidence, **more: Unpack[_More]
    ) -> Finding:
        """Report what fails for some guests, later, or not as meant."""
        return self.report(Severity.WARNING, summary, *evidence, **more)

    def note(
        self, summary: str, *evidence: Evidence, **more: Unpack[_More]
    ) -> Finding:
        """Report what is good to know."""
        return self.report(Severity.NOTE, summary, *evidence, **more)

    def ok(
        self, summary: str, *evidence: Evidence, **more: Unpack[_More]
    ) -> Finding:
        """Report what is as it should be."""
        return self.report(Severity.OK, summary, *evidence, **more)


def compute_exit_code(findings: Iterable[Finding]) -> int:
    """Give 0 for ready, 1 for warnings, 2 for not ready."""
    return max(
        (EXIT_CODES.get(one.severity, 0) for one in findings), default=0
    )
