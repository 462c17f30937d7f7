# SPDX-License-Identifier: Apache-2.0

from xml.etree import ElementTree

import pytest

from nova_gpu_filter.drawing import svg
from nova_gpu_filter.drawing import text as picture_text
from nova_gpu_filter.host import hardware_picture
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host import link_matrix
from nova_gpu_filter.host.links import linking
from tests import sysfs_trees
from tests.unit.host import test_linking

K2 = """\
k2-1: 2 GPUs, 0 NVSwitches, 0 RDMA NICs
NUMA node 1
  pci0000:80, switch 0000:83:00.0
    GPU0 0000:85:00.0  GRID K2  vfio-pci
    GPU1 0000:86:00.0  GRID K2  vfio-pci

      GPU0  GPU1
GPU0  X     PIX
GPU1  PIX   X
"""


def _write(host, host_links):
    """Write what ``inventory --topology`` does."""
    drawn = picture_text.draw(hardware_picture.make(host, host_links))
    return f"{drawn}\n\n{link_matrix.draw(host, host_links)}"


def test_the_text_shows_what_devices_share(build, read):
    host = read(build("k2_host"))
    assert _write(host, linking.join(host)) == K2


def test_the_text_marks_links_that_may_be_better(build, read):
    host = read(build("a100_bridge_pairs"))
    text = _write(host, linking.join(host))
    assert "GPU0  X     NODE? SYS?  SYS?" in text
    assert "?  the link over PCIe" in text
    assert "Note: NVLink: unknown" in text


def test_the_text_lists_nvlink_groups_and_partitions(build, read):
    host = read(build("hgx_h100"))
    text = _write(
        host,
        linking.join(
            host,
            linking.Sources(
                query=test_linking.QUERY,
                fabric=test_linking.FABRIC,
                baseboard="hgx-h100-8",
            ),
        ),
    )
    assert "NV18  fabric\n" in text
    _kinds, names, *rows = text.splitlines()[1:]
    columns = {name: names.index(name) for name in names.split()}
    for name, gpus in (("0/8", 8), ("1/4", 4), ("3/2", 2)):
        place = columns[name] + 1
        marked = [row for row in rows if row[place : place + 1] == "#"]
        assert len(marked) == gpus, name
        assert all(row.strip().startswith("GPU") for row in marked)
    assert "?" not in text


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_every_device_is_in_the_text_and_all_is_ascii(build, read, machine):
    host = read(build(machine))
    text = _write(host, linking.join(host))
    for device in host.devices:
        assert str(device.address) in text
    assert text.isascii()


def _draw(host):
    return svg.draw(hardware_picture.make(host, linking.join(host)))


def boxes(text):
    """Rectangles of an SVG with their corners, in the drawing's units."""
    root = ElementTree.fromstring(text)  # noqa: S314
    found = []

    def walk(element, x, y):
        move = element.get("transform")
        if move:
            dx, dy = move.removeprefix("translate(").rstrip(")").split(",")
            x, y = x + float(dx), y + float(dy)
        for child in element:
            if child.tag.endswith("rect") and child.get("rx"):
                width, height = child.get("width"), child.get("height")
                found.append((x, y, x + float(width), y + float(height)))
            walk(child, x, y)

    walk(root, 0.0, 0.0)
    _, _, width, height = map(float, root.get("viewBox").split())
    return found, (width, height)


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_boxes_of_the_svg_nest_and_never_overlap(build, read, machine):
    host = read(build(machine))
    found, (width, height) = boxes(_draw(host))
    assert len(found) > len(host.devices)
    for left, top, right, bottom in found:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    for index, (left, top, right, bottom) in enumerate(found):
        for other in found[:index]:
            apart = (
                right <= other[0]
                or other[2] <= left
                or bottom <= other[1]
                or other[3] <= top
            )
            inside = (
                other[0] <= left
                and right <= other[2]
                and other[1] <= top
                and bottom <= other[3]
            )
            assert apart or inside


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_every_device_is_in_the_svg(build, read, machine):
    host = read(build(machine))
    text = _draw(host)
    for device in host.devices:
        assert f">{device.address}" in text


def test_odd_names_make_no_broken_svg(build, read):
    host = inventory.Inventory('<&">\x01\x1b\ud800', ())
    text = _draw(host)
    assert ElementTree.fromstring(text)  # noqa: S314
