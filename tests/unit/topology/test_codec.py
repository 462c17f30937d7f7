# SPDX-License-Identifier: Apache-2.0

import re

from hypothesis import given
from hypothesis import strategies as st
import os_traits
import pytest

from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links

device_links = st.builds(
    codec.DeviceLinks,
    groups=st.sets(
        st.tuples(
            st.sampled_from(
                [links.NODE, links.PHB, links.PXB, links.PIX]
                + [links.make_nvlink(n) for n in (1, 2, 12, 18, 99)]
                + list(
                    map(
                        links.parse,
                        ("xgmi1", "xgmi4", "hccs", "gaudi", "roce"),
                    )
                )
            ),
            st.integers(0, 999_999_999),
        ),
        max_size=6,
    ).map(lambda groups: tuple(sorted(groups, key=lambda g: (-g[0], g[1])))),
    partitions=st.dictionaries(
        st.integers(0, 999_999_999), st.integers(1, 64), max_size=6
    ).map(lambda sizes: tuple(sorted(sizes.items()))),
)


@given(device_links.filter(lambda mine: mine.groups or mine.partitions))
def test_text_round_trips(mine):
    text = codec.format_text(mine)
    assert codec.parse_text("0000:0f:00.0", text) == mine
    assert codec.parse_text("0000:0f:00.0", text.upper()) == mine
    assert text == text.lower()


@given(device_links)
def test_traits_round_trip_among_others(mine):
    traits = codec.format_traits(mine)
    others = ["HW_GPU_API_CUDA", "CUSTOM_GPU", "CUSTOM_PCI_GPU_LINK_X"]
    assert codec.parse_traits("gpu", [*others, *reversed(traits)]) == mine


@given(device_links)
def test_traits_have_names_that_placement_takes(mine):
    for trait in codec.format_traits(mine):
        assert re.fullmatch("CUSTOM_[A-Z0-9_]+", trait)
        assert len(trait) <= 255
        assert os_traits.is_custom(trait)


def test_example_of_the_documentation():
    text = "nv18:0,pix:3,node:1,fabric:0/8,fabric:2/4,fabric:5/2,fabric:11/1"
    mine = codec.parse_text("0000:0f:00.0", text)
    assert codec.format_text(mine) == text
    assert codec.format_traits(mine) == (
        "CUSTOM_GPU_LINK_NV18_0",
        "CUSTOM_GPU_LINK_PIX_3",
        "CUSTOM_GPU_LINK_NODE_1",
        "CUSTOM_GPU_FABRIC_0_8",
        "CUSTOM_GPU_FABRIC_2_4",
        "CUSTOM_GPU_FABRIC_5_2",
        "CUSTOM_GPU_FABRIC_11_1",
    )


@pytest.mark.parametrize(
    ("text", "trait"),
    [
        ("xgmi1:0", "CUSTOM_GPU_LINK_XGMI1_0"),
        ("hccs:3", "CUSTOM_GPU_LINK_HCCS_3"),
        ("gaudi:0", "CUSTOM_GPU_LINK_GAUDI_0"),
        ("roce:0", "CUSTOM_GPU_LINK_ROCE_0"),
    ],
)
def test_links_of_other_vendors(text, trait):
    mine = codec.parse_text("gpu", text)
    assert codec.format_traits(mine) == (trait,)
    assert codec.format_text(codec.parse_traits("gpu", [trait])) == text


def test_order_spaces_and_case_do_not_matter():
    assert codec.format_text(
        codec.parse_text("gpu", "Fabric:1/4, PIX:2 ,fabric:0/8,nv2:1,NV4:7")
    ) == ("nv4:7,nv2:1,pix:2,fabric:0/8,fabric:1/4")


@pytest.mark.parametrize(
    ("text", "token", "problem"),
    [
        ("", "''", "allowed are"),
        ("nv18:0,,pix:1", "''", "allowed are"),
        ("nv18", "'nv18'", "allowed are"),
        ("nv0:1", "'nv0:1'", "allowed are"),
        ("nv100:1", "'nv100:1'", "allowed are"),
        ("nv:1", "'nv:1'", "allowed are"),
        ("xgmi:1", "'xgmi:1'", "allowed are"),
        ("hccs1:1", "'hccs1:1'", "allowed are"),
        ("sys:1", "'sys:1'", "allowed are"),
        ("x:1", "'x:1'", "allowed are"),
        ("pix:-1", "'pix:-1'", "allowed are"),
        ("pix:01", "'pix:01'", "allowed are"),
        ("pix:a", "'pix:a'", "allowed are"),
        ("pix:1/2", "'pix:1/2'", "allowed are"),
        ("pix:1;node:2", "'pix:1;node:2'", "allowed are"),
        ("pix:\u0661", "'pix:\u0661'", "allowed are"),
        ("pix:1234567890", "'pix:1234567890'", "allowed are"),
        ("fabric:0", "'fabric:0'", "allowed are"),
        ("fabric:0/0", "'fabric:0/0'", "at least one device"),
        ("pix:1,PIX:1", "'pix:1'", "stands there twice"),
        ("fabric:1/2,fabric:1/4", "'fabric:1/4'", "has 2 devices elsewhere"),
    ],
)
def test_bad_text_is_an_error_that_names_device_and_token(
    text, token, problem
):
    with pytest.raises(codec.LinkTextError) as raised:
        codec.parse_text("0000:0f:00.0", text)
    message = str(raised.value)
    assert message.startswith("0000:0f:00.0: ")
    assert token in message
    assert problem in message


@pytest.mark.parametrize(
    ("trait", "problem"),
    [
        ("CUSTOM_GPU_LINK_NV18", "allowed are"),
        ("CUSTOM_GPU_LINK_NV18_0_0", "allowed are"),
        ("CUSTOM_GPU_LINK_SYS_0", "allowed are"),
        ("CUSTOM_GPU_LINK_nv18_0", "allowed are"),
        ("CUSTOM_GPU_FABRIC_0", "allowed are"),
        ("CUSTOM_GPU_FABRIC_0_0", "at least one device"),
    ],
)
def test_bad_trait_is_an_error_that_names_device_and_trait(trait, problem):
    with pytest.raises(codec.LinkTextError) as raised:
        codec.parse_traits("0000:0f:00.0", ["HW_GPU_API_CUDA", trait])
    message = str(raised.value)
    assert message.startswith("0000:0f:00.0: ")
    assert repr(trait) in message
    assert problem in message
