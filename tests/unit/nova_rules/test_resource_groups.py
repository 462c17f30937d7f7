# SPDX-License-Identifier: Apache-2.0

"""Amounts of extra specs are read as Nova reads them."""

from nova import objects
from nova.scheduler import utils
import pytest

from nova_gpu_filter.nova_rules import resource_groups

AMOUNTS = (
    *("1", "0", "01", " 1", "1 ", "+1", "1_0", "\u0663"),
    *("", "x", "-1", "1.0", "0x1", "9" * 5000),
)


def _read_by_nova(specs):
    request = utils.ResourceRequest()
    request._process_extra_specs(objects.Flavor(extra_specs=specs))
    return {
        (suffix or "", name): amount
        for suffix, group in request._rg_by_id.items()
        for name, amount in group.resources.items()
    }


@pytest.mark.parametrize("suffix", ["", "1", "_GPU-a", "a" * 64, "a" * 65])
@pytest.mark.parametrize("amount", AMOUNTS, ids=lambda text: repr(text[:9]))
def test_the_amounts_are_those_of_nova(suffix, amount):
    specs = {f"resources{suffix}:VGPU": amount, "resources:VCPU": "2"}
    assert {
        (asked.suffix, asked.resource_class): asked.amount
        for asked in resource_groups.parse(specs)
    } == _read_by_nova(specs)


@pytest.mark.parametrize("amount", ["", "x", "-1", "1.0"])
def test_what_nova_leaves_out_can_be_told(amount):
    specs = {"resources1:VGPU": amount}
    with pytest.raises(ValueError, match="is no number"):
        list(resource_groups.parse(specs, is_strict=True))
