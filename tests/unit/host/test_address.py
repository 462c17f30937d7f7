# SPDX-License-Identifier: Apache-2.0

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.host import address
from nova_gpu_filter.host.address import PciAddress

ADDRESSES = st.builds(
    PciAddress,
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFF),
    st.integers(0, 0x1F),
    st.integers(0, 7),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:85:00.0", PciAddress(0, 0x85, 0, 0)),
        ("85:00.0", PciAddress(0, 0x85, 0, 0)),
        ("00000000:0F:1f.7", PciAddress(0, 0x0F, 0x1F, 7)),
        ("10000:e1:00.0", PciAddress(0x10000, 0xE1, 0, 0)),
    ],
)
def test_addresses_are_read_in_every_form_that_tools_print(text, expected):
    assert PciAddress.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "85:00",
        "85:00.8",
        "85:20.0",
        "000:85:00.0",
        "0000:85:00.0 ",
        "gg:00.0",
        "\N{ARABIC-INDIC DIGIT ONE}0:00.0",
    ],
)
def test_what_is_no_address_is_refused(text):
    assert address.find(text) is None
    with pytest.raises(ValueError, match="is not a PCI address"):
        PciAddress.parse(text)


@given(ADDRESSES)
def test_an_address_is_read_as_it_was_written(one):
    assert PciAddress.parse(str(one)) == one


@given(st.text())
def test_any_text_is_an_address_or_none(text):
    found = address.find(text)
    assert found is None or address.find(str(found)) == found


@given(ADDRESSES, ADDRESSES)
def test_addresses_are_ordered_as_their_text_of_equal_length(one, other):
    def padded(value):
        return (f"{value.domain:08x}", str(value)[-7:])

    assert (one < other) == (padded(one) < padded(other))
