# SPDX-License-Identifier: Apache-2.0

"""Video memory of images and flavors, compared with what Nova does."""

from nova import exception
from nova import objects
from nova.virt.libvirt import config
from nova.virt.libvirt import driver
import pytest

from nova_gpu_filter.fleet import lint
from nova_gpu_filter.fleet import model

LIMIT = "hw_video:ram_max_mb"


class _Driver:
    """As much of nova-compute as adds the adapter."""

    def _get_video_type(self, _image_meta):
        return None


def is_refused_by_nova(specs, image):
    """Say whether nova-compute refuses to build the guest."""
    objects.register_all()
    try:
        driver.LibvirtDriver._add_video_driver(
            _Driver(),
            config.LibvirtConfigGuest(),
            objects.ImageMeta(properties=objects.ImageMetaProps(**image)),
            objects.Flavor(extra_specs=specs),
        )
    except (exception.RequestedVRamTooHigh, ValueError):
        return True
    return False


@pytest.mark.parametrize(
    ("specs", "image", "told"),
    [
        ({}, {}, None),
        ({LIMIT: "16"}, {}, None),
        ({}, {"hw_video_ram": "16"}, "flavor allows 0"),
        ({LIMIT: "8"}, {"hw_video_ram": "16"}, f"set {LIMIT}=16"),
        ({LIMIT: "16"}, {"hw_video_ram": "16"}, None),
        ({}, {"hw_video_ram": "0"}, None),
        ({LIMIT: "16"}, {"hw_video_ram": "16M"}, "'16M' is no number"),
        ({LIMIT: "x"}, {"hw_video_ram": "16"}, "'x' is no number"),
    ],
    ids=str,
)
def test_what_nova_refuses_is_an_error(specs, image, told):
    refused = is_refused_by_nova(specs, image)
    assert refused is (told is not None)
    question = lint.Question(
        model.Flavor("f", 1, 1, 1, specs), {}, "", (), image=image
    )
    found = [one for one in lint.check(question) if "hw_video" in one.key]
    assert [one.severity.value for one in found] == ["error"] * refused
    assert all(told in one.text for one in found)
