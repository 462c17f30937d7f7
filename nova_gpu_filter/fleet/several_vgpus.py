# SPDX-License-Identifier: Apache-2.0

"""Flavors that ask for several mediated devices (vGPUs).

Sources: Nova's admin/virtual-gpu (several vGPUs of one GPU in a server depend
on the driver; groups of their own ask for them of different GPUs), Placement's
granular requests (without ``group_policy=isolate`` one provider may serve
several groups).
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import re

VGPU = "VGPU"
_POLICY = "group_policy"
_ISOLATE = "isolate"


def list_groups(
    specs: Mapping[str, str], classes: Iterable[str]
) -> Iterator[str]:
    """Yield the extra specs that ask for mediated devices.

    :param classes: their resource classes, beside VGPU.
    """
    known = {VGPU, *classes}
    for key, value in specs.items():
        prefix, _, name = key.partition(":")
        if (
            name in known
            and re.fullmatch("resources[0-9A-Za-z_-]*", prefix)
            and re.fullmatch("0*[1-9][0-9]*", value, re.ASCII)
        ):
            yield key


def problems(
    specs: Mapping[str, str], classes: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield what is to be told: (severity, extra spec, text).

    :param classes: resource classes of mediated devices, beside VGPU.
    """
    groups = list(list_groups(specs, classes))
    for key in groups:
        name = key.partition(":")[2]
        if int(specs[key]) > 1:
            yield (
                "warning",
                key,
                f"asks for {specs[key]} of one GPU, which not every driver"
                f" gives a server: ask for each in a group of its own, such as"
                f" resources1:{name}=1, with {_POLICY}={_ISOLATE}",
            )
    if len(groups) > 1 and specs.get(_POLICY) != _ISOLATE:
        yield (
            "warning",
            _POLICY,
            f"{' and '.join(groups)} may be given of one GPU, which not every"
            f" driver does: set {_POLICY}={_ISOLATE}",
        )
