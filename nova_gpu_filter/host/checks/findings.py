# SPDX-License-Identifier: Apache-2.0

"""What a check says: data first, so that it can be printed in any form."""

from collections.abc import Iterable
import dataclasses

from nova_gpu_filter import printable
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.severity import Severity as Severity

_CONTENT_LIMIT = 160


EXIT_CODES = {
    Severity.ERROR: 2,
    Severity.WARNING: 1,
    Severity.NOTE: 0,
    Severity.OK: 0,
}


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


def compute_exit_code(findings: Iterable[Finding]) -> int:
    """Give 0 for ready, 1 for warnings, 2 for not ready."""
    return max(
        (EXIT_CODES[finding.severity] for finding in findings), default=0
    )
