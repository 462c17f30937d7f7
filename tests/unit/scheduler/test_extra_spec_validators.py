# SPDX-License-Identifier: Apache-2.0

from nova import exception
from nova.api.validation.extra_specs import validators
import pytest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("gpu:link", value)
            for value in ("fabric", "nvlink", "pix", "pxb", "phb", "node")
        ),
        ("gpu:link_policy", "required"),
        ("gpu:link_policy", "preferred"),
        ("gpu:spread", "pack"),
        ("gpu:spread", "spread"),
    ],
)
def test_nova_accepts_the_documented_values(name, value):
    assert validators.validate(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gpu:link", "nvlnk", "fabric, nvlink, pix, pxb, phb, node"),
        ("gpu:link", "NVLINK", "fabric, nvlink, pix, pxb, phb, node"),
        ("gpu:link_policy", "strict", "required, preferred"),
        ("gpu:spread", "both", "pack, spread"),
        ("gpu:links", "nvlink", "gpu:links"),
    ],
)
def test_nova_refuses_others_and_lists_the_good_ones(name, value, message):
    with pytest.raises(exception.ValidationError, match=message):
        validators.validate(name, value)
