# SPDX-License-Identifier: Apache-2.0

"""What keeps a server from a host whatever is free there.

Its availability zone, aggregates that are kept for others, and the quota of
its project. Which of the rules about aggregates a scheduler follows is set in
its nova.conf; where that is not known, what somebody has written into the
metadata of an aggregate counts.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Final

from oslo_utils import specs_matcher

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.fleet import verdict

_TENANT: Final = "filter_tenant_id"
"""Key of aggregates, and prefix of keys (nova/scheduler/request_filter.py)."""
_SCOPE: Final = "aggregate_instance_extra_specs:"
_TRAIT: Final = "trait:"


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the scheduler does with aggregates; None where we do not know."""

    filters: frozenset[str] | None = None
    """``[filter_scheduler]enabled_filters``."""
    limits_tenants: bool | None = None
    """``[scheduler]limit_tenants_to_placement_aggregate``."""
    requires_tenants: bool = False
    """``[scheduler]placement_aggregate_required_for_tenants``."""
    filters_images: bool | None = None
    """``[scheduler]image_metadata_prefilter``."""
    isolates_traits: bool | None = None
    """``[scheduler]enable_isolated_aggregate_filtering``."""

    def has_filter(self, name: str) -> bool:
        """Whether a filter is enabled, as far as we know."""
        return self.filters is None or name in self.filters


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """A host aggregate of Nova."""

    name: str
    hosts: frozenset[str]
    """``[DEFAULT]host`` of its members."""
    metadata: Mapping[str, str]

    @property
    def tenants(self) -> frozenset[str]:
        """Projects that it is kept for; empty for all."""
        return frozenset(
            value.strip()
            for key, text in self.metadata.items()
            if key.startswith(_TENANT)
            for value in text.split(",")
        )


@dataclasses.dataclass(frozen=True)
class Request:
    """Who asks for a server, and where."""

    wanted: demand.Demand
    extra_specs: Mapping[str, str]
    project: str | None = None
    """UUID; None for nobody in particular, whom no project rule concerns."""
    project_name: str = ""
    zone: str | None = None
    """Availability zone that was asked for."""
    quotas: tuple[quota.Shortage, ...] = ()
    """What the project has too little quota of."""


def read_aggregates(get: api.Get) -> tuple[Aggregate, ...]:
    """Read all aggregates; none, for a user who may not see them."""
    try:
        found = get("/os-aggregates")["aggregates"]
    except (errors.NotAllowed, errors.NotFound):
        return ()
    return tuple(
        Aggregate(one["name"], frozenset(one["hosts"]), dict(one["metadata"]))
        for one in found
    )


def find_gates(
    host: model.Host,
    request: Request,
    aggregates: Sequence[Aggregate],
    rules: Rules,
) -> list[verdict.Gate]:
    """Find what refuses a server on a host."""
    name = host.name if host.service is None else host.service.host
    here = [one for one in aggregates if name in one.hosts]
    return [
        *_check_quotas(request),
        *_check_zone(host, request),
        *_check_tenants(request, here, aggregates, rules),
        *_check_extra_specs(request, here, rules),
        *_check_traits(request, here, rules),
    ]


def _check_quotas(request: Request) -> Iterator[verdict.Gate]:
    for short in request.quotas:
        who = f"project {request.project_name}"
        reason = f"quota of {who}: {short.resource}: {short.asked} asked"
        if short.is_registered:
            yield verdict.Gate(
                f"{reason}, {short.used} of {short.limit} used",
                f"with a limit of {short.used + short.asked} {short.resource}"
                f" for {who}",
            )
        else:
            yield verdict.Gate(
                f"{reason}, and no limit is registered, which counts as 0",
                f"with a registered limit of {short.resource}",
            )


def _check_zone(host: model.Host, request: Request) -> Iterator[verdict.Gate]:
    wanted = request.zone
    zone = wanted if host.service is None else host.service.zone
    if wanted is not None and zone != wanted:
        yield verdict.Gate(
            f"it is in availability zone {zone or 'none'}, not {wanted}",
            f"with --availability-zone {zone}",
        )


def _check_tenants(
    request: Request,
    here: Iterable[Aggregate],
    aggregates: Iterable[Aggregate],
    rules: Rules,
) -> Iterator[verdict.Gate]:
    project = request.project
    kept = [one for one in here if one.tenants]
    if project is None or any(project in one.tenants for one in kept):
        return
    who = f"project {request.project_name}"
    # nova/scheduler/filters/aggregate_multitenancy_isolation.py
    if kept and rules.has_filter("AggregateMultiTenancyIsolation"):
        names = ", ".join(one.name for one in kept)
        yield verdict.Gate(
            f"aggregate {names} is kept for other projects than"
            f" {request.project_name}",
            f"with {who} in {_TENANT} of aggregate {kept[0].name}",
        )
        return
    # require_tenant_aggregate in nova/scheduler/request_filter.py
    own = [one.name for one in aggregates if project in one.tenants]
    if rules.limits_tenants is not False and (own or rules.requires_tenants):
        yield verdict.Gate(
            f"{who} is limited to aggregate {', '.join(own) or 'none'}",
            f"with the host in an aggregate of {who}",
        )


def _check_extra_specs(
    request: Request, here: Sequence[Aggregate], rules: Rules
) -> Iterator[verdict.Gate]:
    """Compare as AggregateInstanceExtraSpecsFilter does, where the flavor
    says that it means aggregates."""
    if not rules.has_filter("AggregateInstanceExtraSpecsFilter"):
        return
    for key, wanted in request.extra_specs.items():
        if not key.startswith(_SCOPE):
            continue
        name = key.removeprefix(_SCOPE)
        values = [
            value.strip()
            for one in here
            for value in one.metadata.get(name, "").split(",")
            if value.strip()
        ]
        if not any(_matches(value, wanted) for value in values):
            yield verdict.Gate(
                f"no aggregate of the host has {name}={wanted}, which the"
                " flavor asks for",
                f"with the host in an aggregate that has {name}={wanted}",
            )


def _matches(value: str, wanted: str) -> bool:
    try:
        return bool(specs_matcher.match(value, wanted))
    except ValueError:
        # A number is asked for; Nova's filter fails the whole request.
        return False


def _check_traits(
    request: Request, here: Iterable[Aggregate], rules: Rules
) -> Iterator[verdict.Gate]:
    """Compare as ``isolate_aggregates`` in nova/scheduler/request_filter.py:
    only who asks for their traits gets onto such hosts."""
    if rules.isolates_traits is False:
        return
    for one in here:
        missing = sorted(
            key.removeprefix(_TRAIT)
            for key, value in one.metadata.items()
            if key.startswith(_TRAIT)
            and value == "required"
            and key.removeprefix(_TRAIT) not in request.wanted.required
        )
        if missing:
            yield verdict.Gate(
                f"aggregate {one.name} is kept for flavors that require"
                f" {', '.join(missing)}",
                f"with trait:{missing[0]}=required in the flavor",
            )
