# SPDX-License-Identifier: Apache-2.0

"""How bad it is what a check has found."""

import enum


class Severity(enum.Enum):
    """How bad it is; the value is what operators read."""

    ERROR = "error"
    """It does not work: no passthrough, or no server of the flavor."""
    WARNING = "warning"
    """It works now or for some, and will fail later, for others, or not as
    meant."""
    NOTE = "note"
    """Good to know, or not to be known here; nothing has to be done."""
    OK = "ok"
    """It was checked, and is as it should be."""
