# SPDX-License-Identifier: Apache-2.0

from importlib import metadata
import json

import pytest

from nova_gpu_filter.status import pci
from nova_gpu_filter.status.node import Role
from nova_gpu_filter.status.results import Code
from tests.unit.status.conftest import expect

CONTROLLER = {Role.CONTROLLER}
COMPUTE = {Role.COMPUTE}
BOTH = {Role.CONTROLLER, Role.COMPUTE}

IDS = {"name": "a1", "vendor_id": "10de", "product_id": "11bf"}
CLASS = {"name": "h100", "resource_class": "CUSTOM_GPU_H100"}
TRAITS = "CUSTOM_GPU_LINK_NV18_0,CUSTOM_GPU_FABRIC_0_8"


def aliases(*found, in_placement=False):
    """Write a nova.conf with aliases."""
    lines = [f"alias = {json.dumps(each)}" for each in found]
    return (
        f"[filter_scheduler]\npci_in_placement = {in_placement}\n[pci]\n"
        + "\n".join(lines)
    )


def specs(*found, report=True):
    """Write a nova.conf with device specs; what is no dict, as it is."""
    lines = [
        f"device_spec = {json.dumps(each) if type(each) is dict else each}"
        for each in found
    ]
    return f"[pci]\nreport_in_placement = {report}\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "roles", "code", "words"),
    [
        pytest.param(
            aliases(IDS), CONTROLLER, Code.SUCCESS, None, id="of ids"
        ),
        pytest.param(
            aliases(CLASS, in_placement=True),
            COMPUTE,
            Code.SUCCESS,
            None,
            id="of a class",
        ),
        pytest.param(
            aliases(CLASS),
            COMPUTE,
            Code.FAILURE,
            "needs [filter_scheduler]pci_in_placement = true in nova-api,"
            " nova-scheduler, nova-conductor and nova-compute",
            id="of a class, without Placement",
        ),
        pytest.param(
            aliases({**IDS, "device_type": "GPU"}),
            CONTROLLER,
            Code.FAILURE,
            "[pci]alias: Nova refuses it",
            id="a device type that is none",
        ),
        pytest.param(
            aliases(
                {**IDS, "device_type": "type-PF"},
                {**IDS, "device_type": "type-PF", "product_id": "11c0"},
                in_placement=True,
            ),
            CONTROLLER,
            Code.FAILURE,
            "alias(es) a1 have multiple specs",
            id="two of one name",
        ),
        pytest.param(
            "[pci]\nalias = {name: a1}\n",
            CONTROLLER,
            Code.FAILURE,
            "[pci]alias: Nova refuses it",
            id="no JSON",
        ),
        pytest.param(
            "", CONTROLLER, Code.WARNING, "no flavor can ask", id="none"
        ),
        pytest.param(
            "",
            COMPUTE,
            Code.WARNING,
            "cannot be resized or moved",
            id="none on a compute",
        ),
    ],
)
def test_aliases_are_what_nova_reads(make_node, text, roles, code, words):
    result = pci.check_aliases(make_node(text, roles))
    expect(result, code, words)


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ("alias", pci.check_aliases),
        ("device_spec", pci.check_device_specs),
    ],
)
def test_a_key_that_stands_twice_is_told(make_node, option, read):
    text = (
        '{"name": "a1", "vendor_id": "10de", "product_id": "2330",'
        ' "vendor_id": "10de"}'
    )
    found = read(make_node(f"[pci]\n{option} = {text}\n", COMPUTE))
    assert found.code is Code.WARNING
    assert "vendor_id stands twice in one object" in found.details


def test_ids_without_placement_are_not_told_to_need_it(make_node):
    text = aliases({**IDS, "device_type": "GPU"})
    result = pci.check_aliases(make_node(text))
    assert "pci_in_placement" not in result.details


def test_aliases_that_nova_has_cached_are_read_anew(make_node):
    assert set(pci.read_aliases(make_node(aliases(IDS)))) == {"a1"}
    text = aliases(CLASS, in_placement=True)
    assert set(pci.read_aliases(make_node(text))) == {"h100"}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        pytest.param(
            specs({"vendor_id": "10de", "product_id": "2330"}),
            Code.SUCCESS,
            "nova-gpu-host check --nova-conf",
            id="ids",
        ),
        pytest.param(
            specs({"address": "*:0f:00.*", "vendor_id": "10de"}),
            Code.SUCCESS,
            "nova-gpu-host check --nova-conf",
            id="a pattern of addresses",
        ),
        pytest.param(
            specs('[{"vendor_id": "10de"}, {"vendor_id": "15b3"}]'),
            Code.SUCCESS,
            "nova-gpu-host check --nova-conf",
            id="a list",
        ),
        pytest.param(
            "", Code.WARNING, "[pci]device_spec is not set", id="none"
        ),
        pytest.param(
            specs({"vendor_id": "10deX"}),
            Code.FAILURE,
            "device_spec = {",
            id="an id that is no number",
        ),
        pytest.param(
            specs({"vendor_id": 4318}),
            Code.FAILURE,
            "nova-compute does not start",
            id="an id that is no string",
        ),
        pytest.param(
            specs("{vendor_id: 10de}"),
            Code.FAILURE,
            "nova-compute does not start",
            id="no JSON",
        ),
        pytest.param(
            specs({"vendor_id": "10de", "one_time_use": "yes"}, report=False),
            Code.FAILURE,
            "report_in_placement",
            id="one_time_use without Placement",
            marks=pytest.mark.skipif(
                int(metadata.version("nova").split(".")[0]) < 32,
                reason="Nova 31 does not know one_time_use",
            ),
        ),
        pytest.param(
            specs({"devname": "no-such-nic0"}),
            Code.FAILURE,
            "exclude each other",
            id="devname with Placement",
        ),
        pytest.param(
            specs({"devname": "no-such-nic0"}, report=False),
            Code.SUCCESS,
            "nova-gpu-host check --nova-conf",
            id="devname without Placement",
        ),
        pytest.param(
            specs(
                {
                    "vendor_id": "10de",
                    "gpu_links": "nv18:0,fabric:0/8",
                    "traits": f"custom_gpu_model_h100,{TRAITS.lower()}",
                }
            ),
            Code.SUCCESS,
            "nova-gpu-host check --nova-conf",
            id="links in tag and traits",
        ),
        pytest.param(
            specs({"vendor_id": "10de", "gpu_links": "nv18:0,fabric:0/8"}),
            Code.WARNING,
            f"add {TRAITS}.",
            id="links in the tag only",
        ),
        pytest.param(
            specs({"vendor_id": "10de", "gpu_links": "nvlink:0"}),
            Code.FAILURE,
            "'nvlink:0'",
            id="links that cannot be read",
        ),
    ],
)
def test_device_specs_are_what_nova_reads(make_node, text, code, words):
    result = pci.check_device_specs(make_node(text, COMPUTE))
    assert result.code is code, result.details
    assert words in result.details


POST_COPY = "\n[libvirt]\nlive_migration_permit_post_copy = true\n"


@pytest.mark.parametrize(
    ("tag", "more", "code"),
    [
        ({"live_migratable": "yes"}, POST_COPY, Code.WARNING),
        ({"live_migratable": "1"}, POST_COPY, Code.WARNING),
        ({"live_migratable": "no"}, POST_COPY, Code.SUCCESS),
        ({}, POST_COPY, Code.SUCCESS),
        ({"live_migratable": "yes"}, "", Code.SUCCESS),
    ],
)
def test_post_copy_and_devices_that_can_be_migrated_exclude_each_other(
    make_node, tag, more, code
):
    text = specs({"vendor_id": "10de", "product_id": "2bb5", **tag})
    found = pci.check_device_specs(make_node(text + more, COMPUTE))
    assert found.code is code
    assert ("post_copy = false" in (found.details or "")) is (
        code is Code.WARNING
    )


@pytest.mark.parametrize(
    ("report", "asks", "matcher", "roles", "code", "words"),
    [
        (True, True, "topology", BOTH, Code.SUCCESS, None),
        (True, True, "topology", COMPUTE, Code.SUCCESS, None),
        (False, True, "topology", CONTROLLER, Code.SUCCESS, None),
        (
            False,
            True,
            "topology",
            COMPUTE,
            Code.FAILURE,
            "Write [pci]report_in_placement = true",
        ),
        (
            False,
            True,
            "topology",
            BOTH,
            Code.FAILURE,
            "Write [pci]report_in_placement = true",
        ),
        (
            True,
            False,
            "topology",
            BOTH,
            Code.WARNING,
            "write [filter_scheduler]pci_in_placement = true",
        ),
        (
            True,
            False,
            "topology",
            COMPUTE,
            Code.SUCCESS,
            "names a resource_class without ids",
        ),
        (
            False,
            False,
            "topology",
            CONTROLLER,
            Code.WARNING,
            "[gpu_filter]pool_matcher = nova",
        ),
        (False, False, "nova", CONTROLLER, Code.SUCCESS, None),
        (False, False, "topology", COMPUTE, Code.SUCCESS, None),
    ],
)
def test_the_options_for_devices_in_placement_go_together(
    make_node, report, asks, matcher, roles, code, words
):
    text = f"""
        [pci]
        report_in_placement = {report}
        [filter_scheduler]
        pci_in_placement = {asks}
        [gpu_filter]
        pool_matcher = {matcher}
        """
    result = pci.check_in_placement(make_node(text, roles))
    expect(result, code, words)
