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


@pytest.mark.parametrize("name", BEST_FIRST)
def test_names_round_trip_in_any_case(name):
    assert links.name(links.parse(name)) == name
    assert links.parse(name.lower()) == links.parse(name)


@pytest.mark.parametrize("name", ["", "NV", "NV0", "NV100", "NV018", "QPI"])
def test_names_that_nvidia_smi_does_not_use_are_errors(name):
    with pytest.raises(ValueError, match="is no link type: must be NV1 to"):
        links.parse(name)


@pytest.mark.parametrize("bonded", [0, -1, 100])
def test_impossible_numbers_of_nvlinks_are_errors(bonded):
    with pytest.raises(ValueError, match="must be 1 to 99"):
        links.nvlink(bonded)


def test_bonded_nvlinks_have_their_name():
    assert links.name(links.nvlink(18)) == "NV18"
