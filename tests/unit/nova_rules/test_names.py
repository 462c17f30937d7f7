# SPDX-License-Identifier: Apache-2.0

"""Names are those that Nova's own functions write, in every module."""

from nova.compute import pci_placement_translator
import os_resource_classes
import os_traits
import pytest

from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.nova_rules import names

CLASSES = (
    *os_resource_classes.STANDARDS,
    *(name.lower() for name in os_resource_classes.STANDARDS),
    *("CUSTOM_H100", "custom_a b", "gpu-h100", "GPU_H100", "a", "CUSTOM_"),
)


@pytest.mark.parametrize("name", [*CLASSES, None, ""])
@pytest.mark.parametrize("ids", [("10de", "2330"), ("10DE", "20b0")])
def test_resource_classes_are_those_of_nova(name, ids):
    expected = pci_placement_translator.get_resource_class(name, *ids)
    assert names.get_resource_class(name, *ids) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "CUSTOM_A", "custom_a,b", "HW_GPU_API_VULKAN,a b"),
        *("nv-link,PGPU", "hw_gpu_api_vulkan"),
        ",".join(os_traits.get_traits()),
    ],
)
def test_traits_are_those_of_nova(text):
    expected = pci_placement_translator.get_traits(text)
    assert names.normalize_traits(text) == expected


@pytest.mark.parametrize(
    "name", ["PGPU", "pgpu", "VGPU", "custom_gpu", "GPU_H100", "CUSTOM_H100"]
)
def test_an_alias_and_a_host_mean_the_same_class(name):
    """What the host writes into device specs, and what an alias asks for."""

    class H100:
        ids = "10de:2330"
        kind = Kind.GPU

    expected = pci_placement_translator.get_resource_class(name, "", "")
    choices = naming.Choices(resource_classes={"*": name})
    assert naming.name_resource_class(H100, choices) == expected
    text = f'{{"name": "a", "resource_class": "{name}"}}'
    [alias] = known_aliases.parse([text], "nova.conf").values()
    assert alias.resource_class == expected
