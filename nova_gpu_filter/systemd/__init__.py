# SPDX-License-Identifier: Apache-2.0

"""Units of systemd for what runs on compute nodes."""

import importlib.resources
import pathlib
import shutil
import sysconfig
from typing import Final

AGENT: Final = "nova-gpu-agent"
VGPU: Final = "nova-gpu-vgpu"

_PROGRAMS: Final = {AGENT: "nova-gpu-agent", VGPU: "nova-gpu-host"}
_DIRECTORY: Final = "/usr/local/bin/"
"""Where the units have these programs."""


def read_unit(name: str) -> str:
    """Read a unit, with its program where this environment has it.

    :param name: :data:`AGENT` or :data:`VGPU`.
    :returns: the text of a file for ``/etc/systemd/system``.
    """
    text = (
        importlib.resources.files(__name__)
        .joinpath(f"{name}.service")
        .read_text("utf-8")
    )
    program = _PROGRAMS[name]
    place = pathlib.Path(sysconfig.get_path("scripts"), program)
    if not place.exists() and (found := shutil.which(program)):
        place = pathlib.Path(found)
    return text.replace(f"{_DIRECTORY}{program}", str(place))
