# SPDX-License-Identifier: Apache-2.0

"""The manual page has every check, in its order, and where it applies."""

import pathlib
import re

from nova_gpu_filter.status import commands
from nova_gpu_filter.status.node import Role

TEXT = (
    pathlib.Path(__file__).parents[3] / "doc/source/cli/nova-gpu-status.rst"
).read_text()
SECTION = TEXT.partition("Checks\n======\n")[2].partition("Examples\n===")[0]


def test_every_check_is_there():
    described = re.findall(r"^([A-Z][\w -]+) \((.+)\)$", SECTION, re.M)
    assert [name for name, _ in described] == [
        name for name, _ in commands.UpgradeCommands._upgrade_checks
    ]
    words = {
        frozenset(Role): {"everywhere", "with both"},
        frozenset({Role.CONTROLLER}): {"controller"},
        frozenset({Role.COMPUTE}): {"compute"},
    }
    for (_, where), row in zip(described, commands._ROWS, strict=True):
        assert where in words[row.roles]
