# SPDX-License-Identifier: Apache-2.0

"""Prints findings for people: what, where it was seen, what to type."""

import textwrap

_WIDTH = 79
_INDENT = "    "


def print_report(output):
    """Print the rows of ``check``, one paragraph a finding.

    The same finding about several devices is one paragraph. Each row is
    severity, check, device, finding, evidence, cure.
    """
    paragraphs = {}
    for severity, check, device, summary, evidence, cures in output.rows:
        devices, seen, commands = paragraphs.setdefault(
            (severity, check, summary), ([], [], [])
        )
        if device:
            devices.append(device)
        # The same command twice is one command.
        seen += [line for line in evidence if line not in seen]
        commands += [line for line in cures if line not in commands]
    for (severity, check, summary), parts in paragraphs.items():
        devices, seen, commands = parts
        heading = " ".join((severity.upper(), check, *devices))
        lines = textwrap.wrap(heading, _WIDTH, subsequent_indent=_INDENT * 2)
        lines += textwrap.wrap(
            summary,
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
        )
        lines += [f"{_INDENT}seen: {line}" for line in seen]
        # Commands are not wrapped, so that they can be copied.
        lines += [f"{_INDENT}cure: {line}" for line in commands]
        output.stdout.write("\n".join(lines) + "\n\n")
