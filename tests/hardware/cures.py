# SPDX-License-Identifier: Apache-2.0

"""Does what ``nova-gpu-host check`` says, to the letter."""

from collections.abc import Mapping
import json
from typing import Any

from tests.hardware import facts as facts_lib
from tests.hardware.guest import Answer
from tests.hardware.guest import Guest

Complaint = tuple[str, str, str | None]
"""(severity, check, name of the device or None)"""


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


def apply(guest: Guest, cure: list[str]) -> bool:
    """Type the commands of a cure; sentences, which begin with #, are not.

    :returns: whether there was a command at all.
    """
    typed = False
    for line in cure:
        if line.startswith("#"):
            continue
        typed = True
        if line == "reboot":
            guest.reboot()
        else:
            guest.shell(line)
    return typed


def follow(guest: Guest, *options: str) -> tuple[list[Complaint], set]:
    """Cure one complaint after the other until no command is left to type.

    :returns: what was cured, in this order, and what is left.
    """
    cured: list[Complaint] = []
    while True:
        _, found = check(guest, *options)
        for complaint, one in found.items():
            if apply(guest, one["Cure"]):
                assert complaint not in cured, f"its cure does not help: {one}"
                cured.append(complaint)
                break
        else:
            return cured, set(found)
