# SPDX-License-Identifier: Apache-2.0

"""An answer of another form is one line that names the field."""

import json
import types

import pytest

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import errors

FLAVOR = {
    "id": "1",
    "name": "h100.2",
    "vcpus": 8,
    "ram": 65536,
    "disk": 0,
    "OS-FLV-EXT-DATA:ephemeral": 0,
    "swap": "",
    "extra_specs": {"pci_passthrough:alias": "h100:2"},
}


def get(service, answer):
    """Make a function that asks a service which answers always the same."""

    def ask(_path, **_kwargs):
        return types.SimpleNamespace(
            status_code=200, json=lambda: answer, reason="", headers={}
        )

    return api.make_getter(types.SimpleNamespace(get=ask), service, None)


def test_a_flavor_is_read():
    [flavor] = compute.read_flavors(get("Nova", {"flavors": [FLAVOR]}))
    assert (flavor.name, flavor.disk_gb) == ("h100.2", 0)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("swap", "much", "swap is 'much', and not a whole number up to"),
        ("swap", None, "swap is None, and not a whole number up to"),
        ("swap", 1 << 64, "swap is 18446744073709551616, and not a whole"),
        ("vcpus", True, "vcpus is True, and not a whole number up to"),
        ("ram", 1.5, "ram is 1.5, and not a whole number up to"),
        ("name", ["x"], "name is ['x'], and not a text"),
        ("extra_specs", [], "extra_specs is [], and not an object"),
        ("extra_specs", {"gpu:link": 1}, "extra_specs['gpu:link'] is 1, and"),
    ],
)
def test_a_field_of_another_form_is_named(field, value, problem):
    ask = get("Nova", {"flavors": [FLAVOR, {**FLAVOR, field: value}]})
    with pytest.raises(errors.Failed) as raised:
        compute.read_flavors(ask)
    assert str(raised.value).startswith(
        "Nova: GET /flavors/detail?is_public=none&limit=1000: HTTP 200:"
        f" in the answer flavors[1].{problem}"
    )


def test_a_field_that_is_missing_is_named():
    flavor = {key: value for key, value in FLAVOR.items() if key != "ram"}
    with pytest.raises(errors.Failed, match=r"flavors\[0\]\.ram is missing"):
        compute.read_flavors(get("Nova", {"flavors": [flavor]}))


@pytest.mark.parametrize(
    ("service", "path", "answer", "problem"),
    [
        (
            "Placement",
            "/allocation_candidates?resources=VCPU:1",
            {
                "provider_summaries": {
                    "a": {
                        "resources": {"VCPU": {"capacity": "8", "used": 0}},
                        "traits": [],
                    }
                }
            },
            "provider_summaries.a.resources.VCPU.capacity is '8', and not",
        ),
        (
            "Placement",
            "/resource_providers/a/inventories",
            {
                "inventories": {
                    "VCPU": {
                        "total": 8,
                        "reserved": 0,
                        "allocation_ratio": float("inf"),
                    }
                }
            },
            "inventories.VCPU.allocation_ratio is inf, and not a number up",
        ),
        (
            "Placement",
            "/allocations/a",
            {"allocations": {"b": {"resources": {"VCPU": 1}}}},
            "allocations.b.generation is missing",
        ),
        (
            "Keystone",
            "http://keystone/v3/projects?marker=1",
            {"projects": [{"id": "1", "name": None}]},
            "projects[0].name is None, and not a text",
        ),
        (
            "Nova",
            "/os-services?binary=nova-compute",
            {"services": [{"host": "a", "status": "enabled"}]},
            "services[0].state is missing",
        ),
    ],
)
def test_each_service_has_forms_of_its_own(service, path, answer, problem):
    with pytest.raises(errors.Failed) as raised:
        get(service, answer)(path)
    assert f": HTTP 200: in the answer {problem}" in str(raised.value)


@pytest.mark.parametrize(
    ("service", "path", "answer"),
    [
        # Members of cells that are down, and consumers of a provider.
        (
            "Nova",
            "/servers/detail",
            {"servers": [{"id": "1", "tenant_id": "2", "status": "UNKNOWN"}]},
        ),
        (
            "Nova",
            "/os-services",
            {"services": [{"host": "a", "status": "UNKNOWN"}]},
        ),
        (
            "Placement",
            "/resource_providers/b/allocations",
            {"allocations": {"a": {"resources": {"VCPU": 1}}}},
        ),
        # What is asked for elsewhere has a form of its own.
        ("Placement", "/traits/x", {"traits": None}),
    ],
)
def test_other_questions_have_other_answers(service, path, answer):
    assert get(service, answer)(path) == answer


def test_an_answer_that_is_nested_too_deeply_is_no_json():
    def ask(_path, **_kwargs):
        return types.SimpleNamespace(
            status_code=200, json=lambda: json.loads("[" * 200_000)
        )

    get = api.make_getter(types.SimpleNamespace(get=ask), "Nova", None)
    with pytest.raises(errors.Failed, match="is no JSON"):
        get("/flavors/detail")
