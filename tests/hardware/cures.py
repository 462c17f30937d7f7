# SPDX-License-Identifier: Apache-2.0

"""Does what ``nova-gpu-host check`` says, to the letter."""

from collections.abc import Iterable
from collections.abc import Mapping
import json
from typing import Any

from tests.hardware import facts as facts_lib
from tests.hardware.guest import Answer
from tests.hardware.guest import Guest

Complaint = tuple[str, str, str | None]
"""(severity, check, name of the device or None)"""

_REBOOT = "reboot"


def complaints(
    answer: Answer, addresses: Mapping[str, str], *severities: str
) -> dict[Complaint, dict[str, Any]]:
    """Read ``check -f json``.

    :param addresses: name of a device -> PCI address.
    :param severities: what to read; errors and warnings if none are given.
    """
    names = {address: name for name, address in addresses.items()}
    return {
        (one["Severity"], one["Check"], names.get(one["Device"])): one
        for one in json.loads(answer.out)
        if one["Severity"] in (severities or ("error", "warning"))
    }


def check(guest: Guest, *options: str) -> tuple[int, dict[Complaint, Any]]:
    """Run check; give its exit code and its errors and warnings."""
    answer = guest.host("check", "-f", "json", *options)
    found = complaints(answer, facts_lib.addresses(guest))
    return answer.code, found


def commands(cures: Iterable[list[str]]) -> list[str]:
    """List what is to be typed, each command once, a reboot at the end.

    Sentences for the operator begin with #; they are left out.
    """
    lines = dict.fromkeys(
        line for cure in cures for line in cure if not line.startswith("#")
    )
    return sorted(lines, key=lambda line: line == _REBOOT)


def type_in(guest: Guest, lines: Iterable[str]) -> None:
    """Type commands on a machine; each has to succeed."""
    for line in lines:
        if line == _REBOOT:
            guest.reboot()
        else:
            guest.shell(line)


def follow(guest: Guest, *options: str) -> tuple[list[Complaint], set]:
    """Cure all complaints, and what is found then, until none has a command.

    :returns: what was cured, in this order, and what is left.
    """
    cured: list[Complaint] = []
    while True:
        _, found = check(guest, *options)
        for complaint in cured:
            assert complaint not in found, (
                f"its cure does not help: {found[complaint]}"
            )
        curable = {
            complaint: one["Cure"]
            for complaint, one in found.items()
            if commands([one["Cure"]])
        }
        if not curable:
            return cured, set(found)
        type_in(guest, commands(curable.values()))
        cured += curable
