# SPDX-License-Identifier: Apache-2.0

"""What a server takes, compared with what Nova asks Placement for."""

from nova import objects
from nova.scheduler import utils
import pytest

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model

VCPUS, RAM_MB, ROOT_GB = 8, 1024, 20


def _asked_by_nova(specs, image):
    """Return {suffix: (amounts, required, forbidden)} as Nova asks."""
    objects.register_all()
    required = [
        key.removeprefix("trait:") for key in image if key.startswith("trait:")
    ]
    request = utils.ResourceRequest.from_request_spec(
        objects.RequestSpec(
            flavor=objects.Flavor(
                vcpus=VCPUS,
                memory_mb=RAM_MB,
                root_gb=ROOT_GB,
                ephemeral_gb=0,
                swap=0,
                extra_specs=specs,
            ),
            image=objects.ImageMeta(
                properties=objects.ImageMetaProps(traits_required=required)
            ),
            requested_resources=[],
            is_bfv=False,
        )
    )
    return {
        suffix or "": (
            dict(group.resources),
            set(group.required_traits),
            set(group.forbidden_traits),
        )
        for suffix, group in request._rg_by_id.items()
        if group.resources
    }


def _asked(specs, image):
    found = demand.calculate(
        model.Flavor("f", VCPUS, RAM_MB, ROOT_GB, specs), {}, "", image
    )
    return {
        "": (dict(found.amounts), set(found.required), set(found.forbidden)),
        **{
            group.suffix: (
                dict(group.amounts),
                set(group.required),
                set(group.forbidden),
            )
            for group in found.groups
        },
    }


@pytest.mark.parametrize(
    "specs",
    [
        {},
        {"resources:CUSTOM_GPU": "1"},
        {"resources:CUSTOM_GPU": "0"},
        {"resources:VCPU": "0", "resources:DISK_GB": "7"},
        {"resources:MEMORY_MB": "0"},
        {"resources1:CUSTOM_GPU": "1", "trait1:CUSTOM_FAST": "required"},
        {"resources_GPU:CUSTOM_GPU": "2", "trait:CUSTOM_A": "forbidden"},
        {"resources-a:CUSTOM_GPU": "1", "resources-a:CUSTOM_NIC": "1"},
        {"resources1:CUSTOM_GPU": "1", "resources2:CUSTOM_GPU": "1"},
        {"resources1:CUSTOM_GPU": "1", "trait1:HW_CPU_X86_VMX": "forbidden"},
        {"resources1:CUSTOM_GPU": " 1", "resources2:CUSTOM_GPU": "+1"},
        {"resources_CPU:VCPU": "4"},
        {"resources_M:MEMORY_MB": "4", "resources:PCPU": "2"},
        {"hw:cpu_policy": "dedicated"},
        {
            "hw:cpu_policy": "dedicated",
            "hw:emulator_threads_policy": "isolate",
        },
        {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-3"},
        {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^1,^3"},
        {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-5,^1,7"},
    ],
    ids=str,
)
@pytest.mark.parametrize("image", [{}, {"trait:CUSTOM_B": "required"}])
def test_the_same_is_asked_for_as_by_nova(specs, image):
    assert _asked(specs, image) == _asked_by_nova(specs, image)


def test_what_a_quota_counts_is_in_all_groups():
    found = demand.calculate(
        model.Flavor(
            "f",
            VCPUS,
            RAM_MB,
            0,
            {"resources1:CUSTOM_GPU": "1", "resources2:CUSTOM_GPU": "2"},
        ),
        {},
        "",
    )
    assert found.total == {
        "VCPU": VCPUS,
        "MEMORY_MB": RAM_MB,
        "CUSTOM_GPU": 3,
    }


@pytest.mark.parametrize(
    "specs",
    [
        {"resources1:CUSTOM_GPU": "x"},
        {"resources_GPU:CUSTOM_GPU": ""},
        {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "a-b"},
    ],
)
def test_what_cannot_be_read_names_the_flavor(specs):
    with pytest.raises(errors.BadFlavor, match="flavor f: "):
        demand.calculate(model.Flavor("f", 1, 1, 1, specs), {}, "")
