# SPDX-License-Identifier: Apache-2.0

"""Devices that a flavor asks for itself, by ``resources:<class>``.

Nova makes PCI requests, and so guests with devices, of aliases only; mediated
devices (vGPUs) are asked for in no other way than this. Sources for several of
them: Nova's admin/virtual-gpu (those of one GPU in a server depend on the
driver; groups of their own ask for them of different GPUs), Placement's
granular requests (without ``group_policy=isolate`` one provider may serve
several groups).
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules import resource_groups
from nova_gpu_filter.severity import Severity
from nova_gpu_filter.topology import policy

_POLICY = "group_policy"
_ISOLATE = "isolate"


def find_twice(
    specs: Mapping[str, str], wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    """Find resources that both the alias and the flavor itself ask for."""
    names = {
        asked.alias.resource_class: asked.alias.name
        for asked in wanted.devices
    }
    for asked in _list_asked(specs, names):
        yield FlavorProblem(
            Severity.ERROR,
            asked.key,
            f"alias {names[asked.resource_class]} asks for"
            f" {asked.resource_class} as well, so that servers would claim"
            " devices that they never get: remove this extra spec",
        )


def find_without_alias(
    specs: Mapping[str, str],
    wanted: demand.Demand,
    hosts: Iterable[model.Host],
) -> Iterator[FlavorProblem]:
    """Find devices that servers would claim in Placement and never get."""
    classes = {
        name
        for host in hosts
        for name in host.resource_classes
        if name not in host.mediated_classes
    }
    by_alias = {asked.alias.resource_class for asked in wanted.devices}
    for asked in _list_asked(specs, classes - by_alias):
        yield FlavorProblem(
            Severity.WARNING,
            asked.key,
            f"claims {asked.resource_class} in Placement, but no"
            f" {extra_specs.ALIAS_KEY} asks for it: guests would get no"
            " device; ask for it by an alias instead",
        )


def list_mediated(
    specs: Mapping[str, str], hosts: Iterable[model.Host]
) -> list[resource_groups.Asked]:
    """List what extra specs ask for of mediated devices."""
    classes = {resource_groups.VGPU}.union(
        *(host.mediated_classes for host in hosts)
    )
    return list(_list_asked(specs, classes))


def _list_asked(
    specs: Mapping[str, str], classes: Collection[str]
) -> Iterator[resource_groups.Asked]:
    for asked in resource_groups.parse(specs):
        if asked.amount and asked.resource_class in classes:
            yield asked


def find_vgpu_problems(
    specs: Mapping[str, str], hosts: Iterable[model.Host]
) -> Iterator[FlavorProblem]:
    """Find several vGPUs that may come from one GPU."""
    groups = list_mediated(specs, hosts)
    for asked in groups:
        if asked.amount > 1:
            yield FlavorProblem(
                Severity.WARNING,
                asked.key,
                f"asks for {asked.amount} of one GPU, which not every driver"
                f" gives a server: ask for each in a group of its own, such as"
                f" resources1:{asked.resource_class}=1, with"
                f" {_POLICY}={_ISOLATE}",
            )
    if len(groups) > 1 and specs.get(_POLICY) != _ISOLATE:
        yield FlavorProblem(
            Severity.WARNING,
            _POLICY,
            f"{' and '.join(asked.key for asked in groups)} may be given of"
            " one GPU, which not every driver does: set"
            f" {_POLICY}={_ISOLATE}",
        )


def find_spread_problems(
    specs: Mapping[str, str], hosts: Iterable[model.Host]
) -> Iterator[FlavorProblem]:
    """Find why ``gpu:spread`` of a flavor without an alias has no effect."""
    if policy.SPREAD_KEY not in specs:
        return
    keys = [asked.key for asked in list_mediated(specs, hosts) if asked.suffix]
    if len(keys) < 2:
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
            f" {' and '.join(keys)} comes from another GPU",
        )
