# SPDX-License-Identifier: Apache-2.0

"""What nova-gpu-agent says of a host's NVSwitch fabric, as traits of its root
provider.

In shared NVSwitch mode the driver in a guest has to be of Fabric Manager's
version ("Shared NVSwitch Virtualization Model" of NVIDIA's Fabric Manager User
Guide). An image whose driver is of one version requires the trait with it.
Nova adds them to the request of each server (``traits_required`` of an image
in nova/scheduler/utils.py).
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any
from typing import Final

from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.severity import Severity

VERSION_PREFIX: Final = "CUSTOM_NVIDIA_FM_"
"""What follows is Fabric Manager's version: ``580_95_05``."""
PROBLEM: Final = "CUSTOM_GPU_FABRIC_PROBLEM"
"""``nova-gpu-agent fabric audit`` finds something on the host."""
_PREFIXES: Final = (VERSION_PREFIX, PROBLEM)


def name_version(version: str) -> str:
    """Name the trait of a version of Fabric Manager: ``580.95.05``."""
    return VERSION_PREFIX + re.sub(r"[^0-9]+", "_", version).strip("_")


def is_ours(trait: str) -> bool:
    """Whether only nova-gpu-agent sets a trait."""
    return trait.startswith(_PREFIXES)


def find_problem(host: model.Host) -> bool | None:
    """Tell whether something is wrong with the partitions of a host; None
    where no agent manages them."""
    if not any(map(is_ours, host.traits)):
        return None
    return PROBLEM in host.traits


def find_problems(
    image: Mapping[str, Any], hosts: Sequence[model.Host]
) -> Iterator[FlavorProblem]:
    """Find images whose driver is of another version than Fabric Manager on
    the hosts with devices."""
    versions = [
        {trait for trait in host.traits if trait.startswith(VERSION_PREFIX)}
        for host in hosts
    ]
    there = sorted(set[str]().union(*versions))
    wanted = [
        key
        for key, value in image.items()
        if key.startswith(f"trait:{VERSION_PREFIX}") and value == "required"
    ]
    shown = ", ".join(there) or "none has such a trait"
    for key in wanted:
        trait = key.removeprefix("trait:")
        able = sum(trait in traits for traits in versions)
        text = f"{able or 'none'} of {len(hosts)} hosts with devices"
        text += f" {'has' if able == 1 else 'have'} {trait}"
        if not able:
            yield FlavorProblem(
                Severity.ERROR,
                key,
                f"{text}, so that no guest can start; Fabric Manager on them:"
                f" {shown}",
            )
        elif able < sum(map(bool, versions)):
            yield FlavorProblem(
                Severity.NOTE,
                key,
                f"{text}, and guests start on these only; Fabric Manager on"
                f" all: {shown}",
            )
    if image and there and not wanted:
        yield FlavorProblem(
            Severity.NOTE,
            f"trait:{there[0]}",
            f"Fabric Manager on hosts with devices: {shown}; a guest there has"
            " NVLinks only with a driver of the same version, and the image"
            " does not require one. If it has that driver, set"
            f" 'openstack image set --property trait:{there[0]}=required'",
        )
