# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import policy
from nova_gpu_filter.topology.links import Requirement


@pytest.mark.parametrize("value", [r.value for r in Requirement])
@pytest.mark.parametrize(
    ("link_policy", "required"),
    [(None, True), ("required", True), ("preferred", False)],
)
def test_good_extra_specs_are_read(value, link_policy, required):
    extra_specs = {"gpu:link": value, "hw:cpu_policy": "dedicated"}
    if link_policy:
        extra_specs["gpu:link_policy"] = link_policy
    assert policy.parse(extra_specs) == policy.LinkPolicy(
        Requirement(value), required
    )


def test_flavor_without_link_has_no_policy():
    assert policy.parse({"pci_passthrough:alias": "h100:4"}) is None


@pytest.mark.parametrize(
    ("extra_specs", "message"),
    [
        (
            {"gpu:link": "nvswitch"},
            "gpu:link = 'nvswitch': must be one of fabric, nvlink, pix, pxb,"
            " phb, node",
        ),
        (
            {"gpu:link": "NVLINK"},
            "gpu:link = 'NVLINK': must be one of fabric, nvlink, pix, pxb,"
            " phb, node",
        ),
        (
            {"gpu:link": "pix", "gpu:link_policy": "strict"},
            "gpu:link_policy = 'strict': must be one of required, preferred",
        ),
        (
            {"gpu:link_policy": "required"},
            "gpu:link_policy = 'required' has no effect without gpu:link: set"
            " gpu:link to one of fabric, nvlink, pix, pxb, phb, node, or"
            " remove gpu:link_policy",
        ),
    ],
)
def test_bad_extra_specs_are_an_error_that_lists_the_good(
    extra_specs, message
):
    with pytest.raises(policy.PolicyError) as raised:
        policy.parse(extra_specs)
    assert str(raised.value) == message


def test_requirements_are_listed_strictest_first():
    floors = [r.floor for r in Requirement if r is not Requirement.FABRIC]
    assert floors == sorted(floors, reverse=True)
    assert floors[0] == links.make_nvlink(1)
    assert next(iter(Requirement)) is Requirement.FABRIC
