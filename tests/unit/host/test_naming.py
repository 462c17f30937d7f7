# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import naming

CHOICES = naming.Choices()


def gpu(name, is_vf=False):
    return inventory.Function(
        address=PciAddress(0, 5, 0, 1 if is_vf else 0),
        kind=inventory.Kind.GPU,
        class_code=0x120000,
        vendor_id=0x1002,
        product_id=0x74B5,
        product_name=name,
        physfn=PciAddress(0, 5, 0, 0) if is_vf else None,
    )


@pytest.mark.parametrize(
    ("name", "is_vf", "resource_class", "alias"),
    [
        ("X [Instinct MI300X]", False, "GPU_INSTINCT_MI300X", "mi300x"),
        ("X [Instinct MI300X]", True, "GPU_INSTINCT_MI300X_VF", "mi300x-vf"),
        (
            "X [Instinct MI300X VF]",
            True,
            "GPU_INSTINCT_MI300X_VF",
            "mi300x-vf",
        ),
        (
            "X [Instinct Virtual Function]",
            True,
            "GPU_INSTINCT_VIRTUAL_FUNCTION",
            "virtual-function",
        ),
        (None, False, "PCI_1002_74B5", "pci-1002-74b5"),
        (None, True, "PCI_1002_74B5", "pci-1002-74b5-vf"),
    ],
)
def test_a_vf_is_called_one_once(name, is_vf, resource_class, alias):
    function = gpu(name, is_vf)
    assert naming.name_resource_class(function, CHOICES) == (
        f"CUSTOM_{resource_class}"
    )
    assert naming.name_alias(function, CHOICES).endswith(alias)
    assert "vf-vf" not in naming.name_alias(function, CHOICES)


@pytest.mark.parametrize(
    ("names_from", "said"),
    [
        (
            "/usr/share/misc/pci.ids",
            "/usr/share/misc/pci.ids does not know 1002:74b5",
        ),
        (None, "no pci.ids was found that names 1002:74b5"),
    ],
)
def test_a_class_that_is_made_of_ids_is_noted(names_from, said):
    host = inventory.Inventory("gpu-1", (gpu(None),), names_from=names_from)
    (note,) = fragment.list_notes(host, fragment.Options())
    assert note.startswith(said)
    assert "--resource-class 1002:74b5=NAME" in note
