# SPDX-License-Identifier: Apache-2.0

"""Our reading of device specs against Nova's own."""

import copy
import inspect
import json
from unittest import mock

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from nova import exception as nova_exception
from nova.compute import pci_placement_translator as translator
from nova.pci import devspec as nova_devspec
import os_traits
import pytest

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.nova_rules import device_spec

PF = Function(
    address=PciAddress(0, 0x81, 0, 0),
    kind=Kind.GPU,
    class_code=0x030200,
    vendor_id=0x10DE,
    product_id=0x20F1,
    sriov_totalvfs=16,
    sriov_numvfs=2,
)
VF = Function(
    address=PciAddress(0, 0x81, 0, 4),
    kind=Kind.GPU,
    class_code=0x030200,
    vendor_id=0x10DE,
    product_id=0x20F2,
    physfn=PF.address,
)
PLAIN = Function(
    address=PciAddress(1, 0x82, 0x1F, 7),
    kind=Kind.GPU,
    class_code=0x030000,
    vendor_id=0x1002,
    product_id=0x74A1,
)
FUNCTIONS = (PF, VF, PLAIN)


def in_nova(spec, function, parent):
    """What Nova says, on a host whose sysfs has our functions.

    :returns: True or False; None where Nova refuses the spec.
    """

    def is_pf(domain, bus, slot, function):
        address = f"{domain}:{bus}:{slot}.{function}"
        return address == str(PF.address)

    device = {
        "vendor_id": f"{function.vendor_id:04x}",
        "product_id": f"{function.product_id:04x}",
        "address": str(function.address),
    }
    if parent is not None:
        device["parent_addr"] = str(parent.address)
    with mock.patch("nova.pci.utils.is_physical_function", side_effect=is_pf):
        try:
            return nova_devspec.PciDeviceSpec(copy.deepcopy(spec)).match(
                device
            )
        except nova_exception.NovaException:
            return None


def in_ours(spec, function, parent):
    try:
        (parsed,) = device_spec.parse(json.dumps(spec))
    except device_spec.SpecError:
        return None
    return parsed.matches(function, parent)


HEX = st.sampled_from(
    ["0000", "0", "1", "81", "82", "00", "1f", "4", "7", "*", "", "zz", "ffff"]
)
GLOBS = st.builds(
    lambda parts, function: (
        ":".join(parts) + (f".{function}" if function is not None else "")
    ),
    st.lists(HEX, max_size=4),
    st.none() | HEX,
)
REGEX = st.sampled_from(
    [".*", "0000", "000[01]", "8[12]", "81", "00", "[0-4]", "4", "(", "1f|00"]
)
ADDRESSES = (
    GLOBS
    | st.sampled_from(["0000:81:00.0", "0000:81:00.4", "0001:82:1f.7"])
    | st.fixed_dictionaries(
        {},
        optional={
            "domain": REGEX,
            "bus": REGEX,
            "slot": REGEX,
            "function": REGEX,
        },
    )
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "vendor_id": st.sampled_from(["10de", "1002", "*", "10DE", "xy"]),
        "product_id": st.sampled_from(["20f1", "20f2", "*", "1ffff"]),
        "address": ADDRESSES,
        "managed": st.sampled_from(["yes", "no", "perhaps"]),
        "live_migratable": st.sampled_from(["true", "off", "x"]),
        "gpu_links": st.just("pix:0"),
    },
)


@settings(max_examples=400, deadline=None)
@given(SPECS, st.sampled_from(FUNCTIONS))
def test_a_spec_matches_here_what_it_matches_in_nova(spec, function):
    parent = PF if function is VF else None
    assert in_ours(spec, function, parent) == in_nova(spec, function, parent)


@pytest.mark.parametrize(
    ("spec", "matched"),
    [
        ({}, [PF, VF, PLAIN]),
        ({"vendor_id": "10de"}, [PF, VF]),
        ({"vendor_id": "10de", "product_id": "20f1"}, [PF]),
        ({"address": "0000:81:00.0"}, [PF, VF]),
        ({"address": "0000:81:00.0", "product_id": "20f2"}, [VF]),
        ({"address": "0000:81:00.*"}, [PF, VF]),
        ({"address": ":81:00."}, [PF, VF]),
        ({"address": {"bus": "8[12]", "function": "[47]"}}, [VF, PLAIN]),
        (
            {
                "address": {
                    "domain": "0000",
                    "bus": "81",
                    "slot": "00",
                    "function": "0",
                }
            },
            [PF, VF],
        ),
        ({"address": "0001:82:1f.7"}, [PLAIN]),
        ({"address": "0000:83:00.0"}, []),
    ],
)
def test_specs_of_the_manual_match_as_there(spec, matched):
    for function in FUNCTIONS:
        parent = PF if function is VF else None
        assert in_ours(spec, function, parent) == (function in matched)
        assert in_nova(spec, function, parent) == (function in matched)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"traits": "blue,CUSTOM_X,HW_GPU_API_VULKAN"},
        {"live_migratable": "yes", "traits": "CUSTOM_X"},
        {"live_migratable": "no", "one_time_use": "no"},
        {"one_time_use": "true"},
    ],
    ids=str,
)
def test_traits_are_those_that_nova_reports(tags):
    (spec,) = device_spec.parse(json.dumps(tags))
    provider = translator.PciResourceProvider("host_0000:81:00.0")
    provider.add_parent(mock.Mock(vendor_id="10de", product_id="2330"), tags)
    source = inspect.getsource(translator)
    reported = {
        name
        for name in spec.reported_traits
        # Of those that it gives by itself, Nova 31 lacks two.
        if os_traits.is_custom(name)
        or name in tags.get("traits", "")
        or f"os_traits.{name}" in source
    }
    assert reported == provider.traits


@pytest.mark.parametrize("text", ["{", "7", '"10de"', "[[]]", "[1]"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(device_spec.SpecError):
        list(device_spec.parse(text))


def test_a_list_holds_several_specs():
    text = '[{"vendor_id": "10de"}, {"vendor_id": "1002"}]'
    assert [spec.vendor_id for spec in device_spec.parse(text)] == [
        "10de",
        "1002",
    ]


def test_address_and_devname_exclude_each_other():
    text = '{"address": "0000:81:00.0", "devname": "eth0"}'
    with pytest.raises(device_spec.SpecError, match="exclude each other"):
        list(device_spec.parse(text))


def test_an_interface_names_its_device_and_the_vfs_of_a_pf():
    (spec,) = device_spec.parse('{"devname": "ens1"}')
    assert spec.matches(PF, None, {"ens1": PF})
    assert spec.matches(VF, PF, {"ens1": PF})
    assert not spec.matches(PLAIN, None, {"ens1": PF})
    assert not spec.matches(PF, None, {})
