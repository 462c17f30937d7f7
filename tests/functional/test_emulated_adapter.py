# SPDX-License-Identifier: Apache-2.0

"""A guest with a display adapter that QEMU emulates, on a real Nova: what an
image asks for, which hosts have it, and what our commands say of both."""

import json
import types

from lxml import etree
import pytest

from demo import chapter_h100
from demo import cloud as embedded
from demo import fake_machines
from tests.functional.fleet import adapters
from tests.functional.osc import shell

# isort: split

from nova import context as nova_context

HOST = "hgx-1"
ALIAS = '{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}'
PREFILTER = "[scheduler]\nimage_metadata_prefilter = true\n"
HAS = "virtio"
LACKS = "gop"
"""Nova knows it (``VideoModel`` in nova/objects/fields.py); QEMU on x86 and so
Nova's fake libvirt do not offer it."""


class _Images:
    """Glance's API as far as it is asked: all images there are."""

    def __init__(self):
        self.images = []

    def get(self, path, **_kwargs):
        for image in self.images:
            if path.endswith(image["id"]):
                return adapters.Response(200, image)
        return adapters.Response(404, {})


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    path = tmp_path_factory.mktemp("conf") / "prefilter.conf"
    path.write_text(PREFILTER)
    return path


@pytest.fixture(scope="module")
def cloud(conf):
    """A host with GPUs, whose libvirt emulates adapters as well."""
    with embedded.EmbeddedCloud(chapter_h100.CONF, conf) as running:
        running.add_compute(HOST, fake_machines.hgx_h100())
        running.create_flavor("console", {})
        running.create_flavor("gpu", {"pci_passthrough:alias": "h100:1"})
        yield running


@pytest.fixture(scope="module")
def images(cloud):
    """Make an image for each model; say which is which."""
    found = _Images()
    for model in (HAS, LACKS):
        made = cloud.services.glance.create(
            nova_context.get_admin_context(),
            {
                "name": f"with-{model}",
                "status": "active",
                "container_format": "raw",
                "disk_format": "raw",
                "size": 1,
                "min_ram": 0,
                "min_disk": 0,
                "is_public": True,
                "visibility": "public",
                "properties": {"hw_video_model": model},
            },
        )
        found.images.append({"id": made["id"], "hw_video_model": model})
    return found


@pytest.fixture
def openstack(cloud, images):
    """Return a function that runs a command and returns its rows."""
    asked = shell.connection(cloud)
    commands = shell.Shell(
        types.SimpleNamespace(
            placement=asked.placement, compute=asked.compute, image=images
        )
    )

    def run(*arguments):
        result = commands.run("gpu", *arguments, "-f", "json")
        assert result.code in (0, 1), result.err
        return json.loads(result.out)

    return run


def _image(images, model):
    (found,) = [i for i in images.images if i["hw_video_model"] == model]
    return found["id"]


def _boot(cloud, images, model):
    body = {
        "name": f"{model}-guest",
        "flavorRef": "console",
        "imageRef": _image(images, model),
        "networks": "none",
    }
    uuid = cloud.services.api.post_server({"server": body})["id"]
    return cloud.wait_for_status(uuid, "ACTIVE", "ERROR")


def test_a_guest_has_the_adapter_that_its_image_names(cloud, images):
    server = _boot(cloud, images, HAS)
    assert (server.status, server.host) == ("ACTIVE", HOST), server.fault
    xml = etree.fromstring(cloud.services.domain_xml[HOST][server.uuid])
    assert [m.get("type") for m in xml.findall("devices/video/model")] == [HAS]
    # No device of the host, and nothing counted.
    assert xml.findall("devices/hostdev") == []
    assert cloud.allocations(server).keys() == {HOST}


def test_an_adapter_that_no_host_has_is_refused(cloud, images):
    decisions = cloud.decisions()
    server = _boot(cloud, images, LACKS)
    assert server.status == "ERROR"
    assert len(decisions.without_candidates()) == 1


@pytest.mark.parametrize(
    ("model", "fits", "reasons"),
    [
        (HAS, True, []),
        (LACKS, False, ["trait COMPUTE_GRAPHICS_MODEL_GOP is required"]),
    ],
)
def test_explain_and_check_say_before_what_nova_does(
    openstack, images, conf, model, fits, reasons
):
    aliased = conf.with_name("nova.conf")
    aliased.write_text(f"[pci]\nalias = {ALIAS}\n{PREFILTER}")
    image = ("--image", _image(images, model), "--nova-conf", str(aliased))
    (row,) = openstack("explain", "--flavor", "gpu", *image)
    assert (bool(row["Servers"]), row["Reason"]) == (fits, reasons)
    found = [
        (one["Severity"], one["Key"])
        for one in openstack("flavor", "check", "gpu", *image)
        if one["Key"] == "hw_video_model"
    ]
    assert found == ([] if fits else [("error", "hw_video_model")])
