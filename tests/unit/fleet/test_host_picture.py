# SPDX-License-Identifier: Apache-2.0

"""Frames of devices, and what is drawn of them."""

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from nova_gpu_filter.drawing import svg
from nova_gpu_filter.fleet import host_picture
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from tests import machines
from tests.unit.fleet import builders

NIC = "CUSTOM_NIC_CONNECTX_7"


def _dgx(used=()):
    """8 GPUs on NVSwitch and 8 NICs, a GPU and a NIC to a PCIe switch."""
    devices = []
    for number in range(16):
        switch, is_nic = divmod(number, 2)
        traits = [
            f"CUSTOM_GPU_LINK_PIX_{switch}",
            f"CUSTOM_GPU_LINK_NODE_{switch // 4}",
        ]
        if not is_nic:
            traits.append("CUSTOM_GPU_LINK_NV18_0")
        devices.append(
            builders.device(
                "dgx",
                0x10 + number,
                used=int(number in used),
                resource_class=NIC if is_nic else builders.H100,
                traits=traits,
            )
        )
    return builders.host("dgx", devices)


def _outline(frame):
    """Write a frame as (name, what is in it)."""
    return (
        frame.name,
        [_outline(inner) for inner in frame.frames]
        + [box.label[5:7] for box in frame.boxes],
    )


def test_frames_nest_from_numa_nodes_to_switches():
    name, nodes = _outline(host_picture.make(_dgx(), {}).frame)
    assert name == ""
    assert nodes[0] == (
        "NUMA node 0",
        [
            (f"PCIe switch (PIX {switch})", [f"1{bus:x}", f"1{bus + 1:x}"])
            for switch, bus in enumerate((0, 2, 4, 6))
        ],
    )
    assert [node[0] for node in nodes] == ["NUMA node 0", "NUMA node 1"]


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        # No links, or only NVLinks: no frames.
        ([[], ["NV4_0"], ["NV4_0"]], ("", ["01", "02", "03"])),
        # A switch without NUMA node, and a device on its own.
        (
            [["PIX_1"], ["PIX_1"], []],
            ("", [("PCIe switch (PIX 1)", ["01", "02"]), "03"]),
        ),
        # A NUMA node with one device is a node; a switch with one is none.
        (
            [["NODE_0", "PIX_0"], ["NODE_1"], ["NODE_1"]],
            (
                "",
                [("NUMA node 0", ["01"]), ("NUMA node 1", ["02", "03"])],
            ),
        ),
        # The group of the nearer link alone says that they are near.
        (
            [["PXB_0", "PIX_0"], ["PIX_0"], ["PXB_0"]],
            (
                "",
                [
                    (
                        "PCIe switches (PXB 0)",
                        [("PCIe switch (PIX 0)", ["01", "02"]), "03"],
                    )
                ],
            ),
        ),
        # Two sets that a third device joins.
        (
            [["PIX_0"], ["PIX_1"], ["PIX_0", "PIX_1"]],
            ("", [("PCIe switch (PIX 0)", ["01", "02", "03"])]),
        ),
        ([["WARP_0"], ["NODE_0"]], ("", [("NUMA node 0", ["02"]), "01"])),
    ],
)
def test_frames_of_groups(traits, expected):
    devices = [
        builders.device(
            "a", bus, traits=[f"CUSTOM_GPU_LINK_{name}" for name in names]
        )
        for bus, names in enumerate(traits, start=1)
    ]
    assert (
        _outline(host_picture.make(builders.host("a", devices), {}).frame)
        == expected
    )


def test_every_device_is_in_one_frame():
    for topology in (
        machines.pcie_every_link(),
        machines.dgx1_v100(),
        machines.uneven_numa(),
        machines.hgx_a100_nps4(),
    ):
        host = builders.machine("a", topology)
        boxes = host_picture.make(host, {}).frame.iterate_boxes()
        assert sorted(box.key for box in boxes) == sorted(
            device.uuid for device in host.devices
        )


def test_numa_nodes_are_the_numbers_of_groups():
    assert linked_devices.list_numa_nodes(_dgx().devices) == [0] * 8 + [1] * 8
    assert linked_devices.list_numa_nodes([builders.device("a", 1)]) == [None]


def _draw(host, owners):
    return svg.draw(host_picture.make(host, owners))


def _elements(text):
    root = ElementTree.fromstring(text)  # noqa: S314
    return [(e.tag.rpartition("}")[2], e) for e in root.iter()]


def _texts(text):
    return [e.text for tag, e in _elements(text) if tag == "text"]


def _owned(host, names):
    """Give the first devices of a host to servers: one key a name."""
    return {
        device.uuid: host_picture.Owner(name, f"uuid-{name}")
        for device, name in zip(host.devices, names, strict=False)
    }


def test_the_picture_has_every_device_with_its_owner():
    host = _dgx(used=(0, 1))
    texts = _texts(_draw(host, _owned(host, ["train", "train"])))
    assert texts[0] == "dgx: 16 devices, 14 free"
    for device in host.devices:
        assert device.address in texts
    assert texts.count("train") == 3  # two boxes, and the legend
    assert texts.count("NV18") == 1


def _fills(drawn):
    """List the colours of devices, in the order of their rows."""
    return [
        e.get("fill")
        for tag, e in _elements(drawn)
        if tag == "rect" and e.get("height") == "40.0"
    ]


def test_owners_have_colours_of_their_own():
    host = builders.machine("a", used=range(8))
    names = [f"server-{number}" for number in range(8)]
    assert len(set(_fills(_draw(host, _owned(host, names))))) == 8


def test_colours_go_by_uuid_and_not_by_name():
    """Two servers of one name have two colours, both ends of one have one."""
    host = builders.machine("a", used=range(4))
    labels = ["i (1)", "i (2)", "i (2, resize, source)", "i (1)"]
    keys = ["1", "2", "2", "1"]
    owners = {
        device.uuid: host_picture.Owner(*owner)
        for device, owner in zip(
            host.devices, zip(labels, keys, strict=True), strict=False
        )
    }
    one, two, also_two, also_one, *_ = _fills(_draw(host, owners))
    assert (one, two) == (also_one, also_two)
    assert one != two


def test_no_owner_has_the_colour_of_links():
    drawn = _draw(builders.machine("a", used=(0,)), {})
    of_links = {
        e.get("stroke") for tag, e in _elements(drawn) if tag == "line"
    }
    assert len(of_links) == 1
    host = builders.machine("a", used=range(8))
    drawn = _draw(host, _owned(host, map(str, range(8))))
    colors = {
        e.get(key)
        for tag, e in _elements(drawn)
        if tag == "rect" and e.get("height") == "40.0"
        for key in ("fill", "stroke")
    }
    assert not of_links & colors


def _lines(drawn):
    return {
        line.get("x1"): line
        for tag, line in _elements(drawn)
        if tag == "line" and line.get("x1") == line.get("x2")
    }


def test_each_column_has_a_dot_in_the_row_of_each_of_its_devices():
    drawn = _draw(builders.machine("a"), {})
    circles = [
        e
        for tag, e in _elements(drawn)
        if tag == "circle" and e.get("cx") in _lines(drawn)
    ]
    # NVLink 8; partitions of 8, 4, 2: eight devices each.
    assert len(circles) == 8 * 4
    assert len({c.get("cy") for c in circles}) == 8


@pytest.mark.parametrize(
    ("used", "broken"), [((), 0), ((0,), 3), ((0, 1), 2), (range(8), 0)]
)
def test_partitions_show_whether_they_are_broken(used, broken):
    drawn = _draw(builders.machine("a", used=used), {})
    lines = _lines(drawn).values()
    assert sum(bool(e.get("stroke-dasharray")) for e in lines) == broken
    assert any("broken" in text for text in _texts(drawn)) is bool(broken)


@pytest.mark.parametrize("host", [_dgx(), builders.machine("a")])
def test_a_picture_fits_a_page_of_the_documentation(host):
    drawn = _draw(host, {})
    assert ' width="100%" viewBox="0 0 830 ' in drawn
    sizes = [
        int(e.get("font-size")) for tag, e in _elements(drawn) if tag == "text"
    ]
    assert min(sizes) >= 12


def test_more_owners_than_fit_make_the_legend_longer():
    host = builders.machine("a", used=range(8))

    def height(length):
        names = [f"{number}" * length for number in range(8)]
        drawn = _draw(host, _owned(host, names))
        match = re.search(r'viewBox="0 0 830 (\d+)"', drawn)
        return int(match[1])

    assert height(60) > height(3)


def test_what_is_neither_free_nor_used_says_so():
    host = builders.machine("a", reserved=(3,))
    # Its row, and the legend.
    assert _texts(_draw(host, {})).count("reserved") == 2


def test_names_are_escaped_and_cut():
    host = _dgx(used=(0,))
    name = "<script> & " + "very " * 30 + "long"
    drawn = _draw(host, _owned(host, [name]))
    assert "<script>" not in drawn
    texts = _texts(drawn)
    cut = [text for text in texts if "\N{HORIZONTAL ELLIPSIS}" in text]
    assert len(cut) == 2  # its row, and the legend
    assert all(text.startswith("<script> & very") for text in cut)
    assert all(text.endswith("long") for text in cut)
    [title] = [
        e.text
        for tag, e in _elements(drawn)
        if tag == "title" and host.devices[0].address in e.text
    ]
    assert name in title


def test_the_counts_of_a_host_with_a_long_name_are_in_the_heading():
    host = dataclasses.replace(_dgx(used=(0,)), name="dgx-" + "long." * 30)
    texts = _texts(_draw(host, {}))
    [heading] = [text for text in texts if text.endswith("15 free")]
    assert heading.startswith("dgx-long.")
    assert len(heading) < 80


def test_links_that_cannot_be_read_are_told():
    host = builders.host(
        "a", [builders.device("a", 1, traits=("CUSTOM_GPU_LINK_WARP_1",))]
    )
    assert "Links are not known: a_0000:01:00.0" in _draw(host, {})


def test_a_page_is_html_with_the_picture_inline():
    page = svg.draw_page(host_picture.make(_dgx(), {}))
    assert page.startswith("<!DOCTYPE html>\n<html")
    assert "<?xml" not in page
    assert "<title>dgx: 16 devices, 16 free</title>" in page
    assert page.count("<svg ") == 1


@pytest.mark.parametrize(
    ("character", "pixels"), [("W", 11.3), ("M", 10), ("学", 12), ("m", 10)]
)
def test_wide_letters_stay_in_their_box(character, pixels):
    """The widths are those of Helvetica, in size 12."""
    host = builders.machine("a", used=(0,))
    texts = _texts(_draw(host, _owned(host, [character * 200])))
    in_box, in_legend = (t for t in texts if t.startswith(character * 3))
    assert len(in_box) * pixels < 500
    assert len(in_legend) * pixels < 790


def test_a_quarantined_device_that_is_used_says_both():
    host = builders.machine("a", used=(0,))
    ill, *others = host.devices
    ill = dataclasses.replace(
        ill, amount=model.Amount(0, 1), is_quarantined=True
    )
    host = dataclasses.replace(host, devices=(ill, *others))
    texts = _texts(_draw(host, _owned(host, ["train"])))
    assert "train, quarantined" in texts
    assert "train" in texts  # the legend
