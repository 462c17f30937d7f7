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

from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules import resource_groups
from nova_gpu_filter.severity import Severity
from nova_gpu_filter.topology import policy

_POLICY = "group_policy"
_ISOLATE = "isolate"


def list_groups(
    specs: Mapping[str, str], classes: Iterable[str]
) -> Iterator[str]:
    """Yield the extra specs that ask for mediated devices.

    :param classes: their resource classes, beside VGPU.
    """
    known = {resource_groups.VGPU, *classes}
    for asked in resource_groups.parse(specs):
        if asked.amount and asked.resource_class in known:
            yield asked.key


def find_problems(
    specs: Mapping[str, str], classes: Iterable[str]
) -> Iterator[FlavorProblem]:
    """Yield what is to be told.

    :param classes: resource classes of mediated devices, beside VGPU.
    """
    groups = list(list_groups(specs, classes))
    for key in groups:
        name = key.partition(":")[2]
        if int(specs[key]) > 1:
            yield FlavorProblem(
                Severity.WARNING,
                key,
                f"asks for {specs[key]} of one GPU, which not every driver"
                f" gives a server: ask for each in a group of its own, such as"
                f" resources1:{name}=1, with {_POLICY}={_ISOLATE}",
            )
    if len(groups) > 1 and specs.get(_POLICY) != _ISOLATE:
        yield FlavorProblem(
            Severity.WARNING,
            _POLICY,
            f"{' and '.join(groups)} may be given of one GPU, which not every"
            f" driver does: set {_POLICY}={_ISOLATE}",
        )


def find_spread_problems(
    specs: Mapping[str, str], classes: Iterable[str]
) -> Iterator[FlavorProblem]:
    """Yield why ``gpu:spread`` of a flavor without an alias has no effect.

    :param classes: resource classes of mediated devices, beside VGPU.
    """
    if policy.SPREAD_KEY not in specs:
        return
    groups = [
        key
        for key in list_groups(specs, classes)
        if not key.startswith("resources:")
    ]
    if len(groups) < 2:
        yield FlavorProblem(
            Severity.WARNING,
            policy.SPREAD_KEY,
            f"has no effect without {extra_specs.ALIAS_KEY}, or several"
            " request groups for vGPUs, such as"
            f" resources1:{resource_groups.VGPU}=1",
        )
    elif specs.get(_POLICY) == _ISOLATE:
        yield FlavorProblem(
            Severity.WARNING,
            policy.SPREAD_KEY,
            f"has no effect with {_POLICY}={_ISOLATE}, by which each of"
            f" {' and '.join(groups)} comes from another GPU",
        )
