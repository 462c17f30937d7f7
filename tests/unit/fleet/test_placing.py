# SPDX-License-Identifier: Apache-2.0

"""What keeps a server from a host whatever is free there."""

import itertools
from unittest import mock

from nova.scheduler.filters import aggregate_instance_extra_specs
from nova.scheduler.filters import aggregate_multitenancy_isolation
import pytest

from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import placing
from nova_gpu_filter.fleet import quota
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import wanted

TENANTS = ("", "p", "q", "p, q")
RULES = placing.Rules(
    filters=frozenset(
        ("AggregateMultiTenancyIsolation", "AggregateInstanceExtraSpecsFilter")
    ),
    limits_tenants=False,
    isolates_traits=False,
)


def _host():
    return builders.machine("a").with_service(model.ComputeService("a", "az1"))


def _gates(aggregates, rules=placing.Rules(), project="p", **changes):  # noqa: B008
    request = placing.Request(
        wanted("h100:1"),
        changes.pop("extra_specs", {}),
        project,
        "lab",
        **changes,
    )
    return placing.find_gates(_host(), request, aggregates, rules)


def _aggregate(name="x", hosts=("a",), **metadata):
    named = {key.replace("__", ":"): text for key, text in metadata.items()}
    return placing.Aggregate(name, frozenset(hosts), named)


def _passes(filter_, aggregates, spec):
    state = mock.Mock(
        aggregates=[mock.Mock(metadata=dict(a.metadata)) for a in aggregates]
    )
    try:
        return filter_.host_passes(state, spec)
    except ValueError:
        # A number is asked for and there is none: the request fails.
        return False


@pytest.mark.parametrize(
    "tenants", list(itertools.product(TENANTS, repeat=2)), ids=str
)
def test_tenants_are_kept_apart_as_the_filter_of_nova_does(tenants):
    aggregates = [
        _aggregate(f"x{number}", filter_tenant_id=text) if text
        else _aggregate(f"x{number}", other="1")
        for number, text in enumerate(tenants)
    ]  # fmt: skip
    ask = aggregate_multitenancy_isolation.AggregateMultiTenancyIsolation()
    expected = _passes(ask, aggregates, mock.Mock(project_id="p"))
    assert (not _gates(aggregates, RULES)) is expected


@pytest.mark.parametrize("value", ["", "true", "false", "true,false", "4"])
@pytest.mark.parametrize(
    "asked", ["true", "<or> 1 <or> true", "s== false", ">= 3", "<in> ru"]
)
def test_extra_specs_are_compared_as_the_filter_of_nova_does(value, asked):
    aggregates = [_aggregate(pinned=value)] if value else []
    specs = {"aggregate_instance_extra_specs:pinned": asked}
    filter_ = (
        aggregate_instance_extra_specs.AggregateInstanceExtraSpecsFilter()
    )
    spec = mock.Mock(flavor=mock.MagicMock(extra_specs=specs))
    spec.flavor.__contains__.return_value = True
    expected = _passes(filter_, aggregates, spec)
    assert (not _gates(aggregates, RULES, extra_specs=specs)) is expected


@pytest.mark.parametrize(
    ("aggregates", "changes", "reason"),
    [
        ((), {"zone": "az1"}, None),
        ((), {"zone": "az2"}, "it is in availability zone az1, not az2"),
        (
            (_aggregate("mine", ("b",), filter_tenant_id="p"),),
            {},
            "project lab is limited to aggregate mine",
        ),
        (
            (_aggregate("fast", trait__CUSTOM_A="required"),),
            {},
            "aggregate fast is kept for flavors that require CUSTOM_A",
        ),
        ((_aggregate("b", ("b",), trait__CUSTOM_A="required"),), {}, None),
        (
            (),
            {"quotas": (quota.Shortage("class:A", 4, 3, 2),)},
            "quota of project lab: class:A: 2 asked, 3 of 4 used",
        ),
    ],
)
def test_other_gates(aggregates, changes, reason):
    expected = [] if reason is None else [reason]
    assert [g.reason for g in _gates(aggregates, **changes)] == expected


def test_nobody_in_particular_is_kept_out_by_no_project_rule():
    aggregates = [_aggregate(filter_tenant_id="q")]
    assert _gates(aggregates, project=None) == []
