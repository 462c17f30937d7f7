# SPDX-License-Identifier: Apache-2.0

"""Images whose driver is of another version than Fabric Manager."""

import dataclasses

import pytest

from nova_gpu_filter.fleet import fabric_traits
from nova_gpu_filter.fleet import lint
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import ALIASES
from tests.unit.fleet.test_capacity import flavor

OLD, NEW = "CUSTOM_NVIDIA_FM_570_86_10", "CUSTOM_NVIDIA_FM_580_95_05"


def test_a_version_is_a_trait():
    assert fabric_traits.name_version("580.95.05") == NEW
    assert fabric_traits.is_ours(NEW)
    assert fabric_traits.is_ours("CUSTOM_GPU_FABRIC_PROBLEM")
    assert not fabric_traits.is_ours("CUSTOM_GPU_FABRIC_0_8")


@pytest.mark.parametrize(
    ("image", "hosts", "expected"),
    [
        pytest.param({}, [(NEW,)], [], id="no image"),
        pytest.param({"a": "b"}, [()], [], id="no such hosts"),
        pytest.param(
            {"a": "b"}, [(NEW,)], [("note", NEW)], id="nothing required"
        ),
        pytest.param(
            {f"trait:{NEW}": "required"}, [(NEW,), ()], [], id="all have it"
        ),
        pytest.param(
            {f"trait:{NEW}": "required"},
            [(NEW,), (OLD,)],
            [("note", NEW)],
            id="one of two",
        ),
        pytest.param(
            {f"trait:{NEW}": "required"},
            [(OLD,)],
            [("error", NEW)],
            id="another version",
        ),
        pytest.param(
            {f"trait:{NEW}": "required"}, [()], [("error", NEW)], id="none"
        ),
    ],
)
def test_a_mismatch_is_named(image, hosts, expected):
    question = lint.Question(
        flavor(devices="h100:1"),
        ALIASES,
        "nova.conf",
        [
            dataclasses.replace(
                builders.machine(f"host{number}"), traits=frozenset(traits)
            )
            for number, traits in enumerate(hosts)
        ],
        image=image,
    )
    found = [
        (one.severity.value, one.key.removeprefix("trait:"))
        for one in lint.check(question)
        if one.key.startswith("trait:")
    ]
    assert found == expected


def test_a_flavor_without_devices_needs_no_version():
    host = dataclasses.replace(
        builders.machine("host"), traits=frozenset({NEW})
    )
    question = lint.Question(
        flavor(devices=None), ALIASES, "nova.conf", [host], image={"a": "b"}
    )
    assert not [
        one for one in lint.check(question) if one.key.startswith("trait:")
    ]
