# SPDX-License-Identifier: Apache-2.0

import json

import os_traits
import pytest

from nova_gpu_filter.status import agreement
from nova_gpu_filter.status.results import Code

H100 = {"vendor_id": "10de", "product_id": "2330"}
H100_CLASS = {**H100, "resource_class": "gpu-h100", "traits": "blue,CUSTOM_X"}
A_CLASS = {"resource_class": "CUSTOM_GPU_H100"}


def conf(alias, spec, in_placement=True, **others):
    """Write a nova.conf with one alias, others by name, and a device spec."""
    found = {"a1": alias, **others}
    return "\n".join(
        [
            f"[filter_scheduler]\npci_in_placement = {in_placement}\n[pci]",
            *(
                f"alias = {json.dumps({'name': name, **each})}"
                for name, each in found.items()
            ),
            f"device_spec = {json.dumps(spec)}",
        ]
    )


@pytest.mark.parametrize(
    ("alias", "spec"),
    [
        pytest.param(H100, H100, id="ids"),
        pytest.param(
            {"vendor_id": "10DE", "product_id": "2330"},
            H100,
            id="ids in another case",
        ),
        pytest.param(H100, {"vendor_id": "10de"}, id="any product"),
        pytest.param(H100, {"address": "0000:0f:00.0"}, id="an address"),
        pytest.param(A_CLASS, H100_CLASS, id="a class"),
        pytest.param(
            {**A_CLASS, "traits": "CUSTOM_BLUE"}, H100_CLASS, id="a trait"
        ),
        pytest.param(
            {**A_CLASS, "traits": "COMPUTE_MANAGED_PCI_DEVICE"},
            H100_CLASS,
            id="a trait that Nova adds",
        ),
        pytest.param(
            {**A_CLASS, "live_migratable": "yes"},
            {**H100_CLASS, "live_migratable": "true"},
            id="live migration",
        ),
    ],
)
def test_an_alias_that_reaches_the_devices_is_fine(make_node, alias, spec):
    result = agreement.check(make_node(conf(alias, spec)))
    assert (result.code, result.details) == (Code.SUCCESS, None)


@pytest.mark.parametrize(
    ("alias", "spec", "words"),
    [
        pytest.param(
            H100,
            {**H100, "product_id": "2331"},
            "product_id 2330 and resource class CUSTOM_PCI_10DE_2330",
            id="another product",
        ),
        pytest.param(
            A_CLASS, H100, "resource class CUSTOM_GPU_H100", id="no class"
        ),
        pytest.param(
            H100,
            H100_CLASS,
            "resource class CUSTOM_PCI_10DE_2330",
            id="a class that the alias does not name",
        ),
        pytest.param(
            {**A_CLASS, "traits": "red,blue"},
            H100_CLASS,
            "traits CUSTOM_RED",
            id="another trait",
        ),
        pytest.param(
            {**A_CLASS, "live_migratable": "no"},
            H100_CLASS,
            "live_migratable false",
            id="a device that says nothing of live migration",
        ),
    ],
)
def test_devices_that_no_alias_reaches_are_found(
    make_node, alias, spec, words
):
    result = agreement.check(make_node(conf(alias, spec)))
    assert result.code is Code.WARNING
    assert "fits no [pci]alias; the nearest, a1, asks for" in result.details
    assert result.details.endswith(f"asks for {words}.")


@pytest.mark.skipif(
    not hasattr(os_traits, "HW_PCI_ONE_TIME_USE"), reason="Nova 31 has it not"
)
def test_nova_adds_the_trait_of_one_time_use(make_node):
    text = conf(
        {**A_CLASS, "traits": "HW_PCI_ONE_TIME_USE"},
        {**H100_CLASS, "one_time_use": "true"},
    )
    result = agreement.check(
        make_node(f"{text}\nreport_in_placement = true\n")
    )
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_the_nearest_alias_is_named(make_node):
    text = conf(
        {"vendor_id": "8086", "product_id": "0442"}, H100_CLASS, h=H100
    )
    result = agreement.check(make_node(text))
    assert "the nearest, h, asks for resource class" in result.details


def test_without_placement_only_ids_count(make_node):
    text = conf(H100, H100_CLASS, in_placement=False)
    result = agreement.check(make_node(text))
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_an_alias_for_other_hosts_is_no_problem(make_node):
    text = conf(H100, H100, l40s={"vendor_id": "10de", "product_id": "26b9"})
    result = agreement.check(make_node(text))
    assert result.code is Code.SUCCESS
    assert "No device_spec of this node is for l40s" in result.details


def test_devices_for_neutron_need_no_alias(make_node):
    spec = {"vendor_id": "15b3", "physical_network": "physnet1"}
    result = agreement.check(make_node(conf(H100, spec)))
    assert result.code is Code.SUCCESS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not both [pci]alias and [pci]device_spec"),
        ("[pci]\nalias = x\n", "cannot be read"),
        ("[pci]\ndevice_spec = x\n", "cannot be read"),
    ],
)
def test_what_is_not_there_cannot_disagree(make_node, text, words):
    result = agreement.check(make_node(text))
    assert result.code is Code.SUCCESS
    assert words in result.details
