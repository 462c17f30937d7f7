# SPDX-License-Identifier: Apache-2.0

"""Traits of images, compared with what Nova's request filter asks for."""

from nova import conf as nova_conf
from nova import context
from nova import objects
from nova.scheduler import request_filter
import pytest

from nova_gpu_filter.fleet import image_needs


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"hw_video_model": "virtio"},
        {"hw_video_model": "none"},
        {"hw_video_model": "qxl", "hw_disk_bus": "scsi"},
        {"hw_cdrom_bus": "ide", "hw_vif_model": "e1000e"},
        {"hw_architecture": "x86_64", "hw_viommu_model": "intel"},
    ],
    ids=str,
)
def test_the_same_is_required_as_by_nova(properties, monkeypatch):
    objects.register_all()
    spec_obj = objects.RequestSpec(
        image=objects.ImageMeta(
            properties=objects.ImageMetaProps(**properties)
        ),
        requested_resources=[],
        request_level_params=objects.RequestLevelParams(),
    )
    nova_conf.CONF.set_override(
        "image_metadata_prefilter", True, group="scheduler"
    )
    try:
        request_filter.transform_image_metadata(
            context.get_admin_context(), spec_obj
        )
    finally:
        nova_conf.CONF.clear_override(
            "image_metadata_prefilter", group="scheduler"
        )
    required = {
        key.removeprefix("trait:")
        for key, value in image_needs.require_traits(properties).items()
        if value == "required"
    }
    assert required == spec_obj.root_required
