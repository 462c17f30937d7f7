# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.topology import links

BEST_FIRST = [
    *("X", "NV99", "NV18", "NV2", "NV1"),
    *("PIX", "PXB", "PHB", "NODE", "SYS"),
]


def test_links_compare_as_in_the_legend_of_nvidia_smi():
    found = sorted(BEST_FIRST, key=links.parse, reverse=True)
    assert found == BEST_FIRST


OF_OTHER_VENDORS = ["XGMI1", "XGMI4", "HCCS", "GAUDI", "ROCE"]


@pytest.mark.parametrize("name", [*BEST_FIRST, *OF_OTHER_VENDORS])
def test_names_round_trip_in_any_case(name):
    assert links.name(links.parse(name)) == name
    assert links.parse(name.lower()) == links.parse(name)


@pytest.mark.parametrize(
    "name",
    ["", "NV", "NV0", "NV100", "NV018", "QPI", "XGMI", "XGMI0", "HCCS1"],
)
def test_names_that_no_vendor_uses_are_errors(name):
    with pytest.raises(ValueError, match="is no link type: must be NV1 to"):
        links.parse(name)


@pytest.mark.parametrize("bonded", [0, -1, 100])
def test_impossible_numbers_of_nvlinks_are_errors(bonded):
    with pytest.raises(ValueError, match="must be 1 to 99"):
        links.make_nvlink(bonded)


def test_bonded_nvlinks_have_their_name():
    assert links.name(links.make_nvlink(18)) == "NV18"


@pytest.mark.parametrize("name", OF_OTHER_VENDORS)
def test_direct_links_of_every_vendor_are_as_good_as_nvlink(name):
    link = links.parse(name)
    assert links.is_direct(link)
    assert links.PIX < link < links.SELF
    assert link >= links.Requirement.NVLINK.floor


@pytest.mark.parametrize("name", ["SYS", "NODE", "PHB", "PXB", "PIX", "X"])
def test_ways_over_pcie_are_no_direct_links(name):
    assert not links.is_direct(links.parse(name))


def test_more_bonded_links_are_better():
    assert links.parse("XGMI4") > links.parse("XGMI1")
