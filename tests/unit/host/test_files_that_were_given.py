# SPDX-License-Identifier: Apache-2.0

"""A nova.conf against the hardware: aliases, keys, VFs with vGPU types."""

import contextlib
import io
import json

import pytest

from nova_gpu_filter.cmd.host import app
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB
from tests.sysfs_trees import Host
from tests.sysfs_trees import Pci


def ask(host, text):
    """Give errors and warnings of the file, in words."""
    path = host.root.parent / "nova.conf"
    path.write_text(f"[pci]\n{text}")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        app.main(
            [
                *("check", "--sysfs-root", str(host.root)),
                *("--nova-conf", str(path), "-f", "json"),
            ]
        )
    printed = output.getvalue()
    return [
        row["Finding"]
        for row in json.loads(printed[printed.index("[") :])
        if row["Severity"] in ("error", "warning")
        and row["Check"] in ("nova-conf", "live-migration")
    ]


def alias(product="2330", **keys):
    named = {"name": "gpu", "vendor_id": "10de", "product_id": product}
    return f"alias = {json.dumps(named | keys)}\n"


def spec(**tags):
    return f"device_spec = {json.dumps(tags)}\n"


H100 = spec(vendor_id="10de", product_id="2330")
PF = {"device_type": "type-PF"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (H100 + alias(**PF), None),
        (spec(vendor_id="10DE", product_id="2330") + alias(**PF), None),
        (H100 + alias(device_type="type-VF"), "asks for type-VF"),
        (H100 + alias(device_type="type-PCI"), "asks for type-PCI"),
        (H100 + alias(), "has no device_type"),
        (H100 + alias("2331", **PF), "no alias of this file asks for 8 of"),
        (
            H100
            + alias(**PF).replace('{"name"', '{"device_type": "x", "name"'),
            "device_type stands twice",
        ),
        (H100 + alias(**PF, numa_policy="prefered"), "numa_policy is"),
        (H100 + alias(**PF, vendorid="10de"), "unknown key vendorid"),
        (
            spec(vendor_id="10de", product="2330") + alias(**PF),
            "unknown tag product",
        ),
        (
            spec(vendor_id="10de") + alias(**PF),
            "no alias of this file asks for 4 of the 12",
        ),
        (spec(address="0000:ff:00.0") + alias(**PF), "matches nothing"),
        (
            H100 + spec(vendor_id="15b3", product_id="1021") + alias(**PF),
            "no alias of this file asks for 8 of the 16",
        ),
    ],
)
def test_aliases_and_specs_are_those_of_the_hardware(build, text, words):
    found = ask(build("hgx_h100"), text)
    if words is None:
        assert found == []
    else:
        assert any(words in one for one in found)


VFS = {"address": {"bus": "4d", "slot": "00", "function": "[1-4]"}}
FLEX = 'alias = {"name": "flex", "vendor_id": "8086", "product_id": "56c0"'


@pytest.mark.parametrize(
    ("tags", "kind", "words"),
    [
        (VFS, "type-VF", None),
        (VFS, "type-PF", "asks for type-PF"),
        (VFS | {"live_migratable": "no"}, "type-VF", None),
        (VFS | {"live_migratable": "yes"}, "type-VF", "cannot migrate them"),
        (VFS | {"one_time_use": "true"}, "type-VF", "one_time_use needs"),
        ({"address": "0000:4d:00.[1-4]"}, "type-VF", "no hexadecimal number"),
        (
            {"vendor_id": "8086", "product_id": "56c0"},
            "type-VF",
            "a PF and 4 of its VFs",
        ),
    ],
)
def test_specs_of_vfs_are_those_of_the_hardware(build, tags, kind, words):
    host = build("flex_with_vfs", vfs=4)
    found = ask(host, spec(**tags) + f'{FLEX}, "device_type": "{kind}"}}\n')
    if words is None:
        assert found == []
    else:
        assert any(words in one for one in found)


def l40s(root, types, driver="nvidia"):
    """An L40S with VFs that have these vGPU types; None: no directory."""
    host = Host(root / "host")
    host.nodes(1)
    host.iommu()
    common = {"parent": "pci0000:40", "ids": "10de:26b9"}
    host.add(
        Pci(
            "0000:41:00.0",
            class_code=0x030200,
            group=1,
            driver="nvidia",
            bars=(16 * MIB, 64 * GIB),
            totalvfs=32,
            vf_ids="10de:26b9",
            **common,
        )
    )
    for number, vgpu_type in enumerate(types, 4):
        address = f"0000:41:00.{number}"
        host.add(
            Pci(
                address,
                class_code=0x030200,
                group=number + 10,
                driver=driver,
                bars=(16 * MIB,),
                physfn="0000:41:00.0",
                **common,
            )
        )
        if vgpu_type is not None:
            host.write(
                f"/sys/bus/pci/devices/{address}/nvidia/current_vgpu_type",
                vgpu_type,
            )
    return host


VGPU = 'alias = {"name": "v", "resource_class": "CUSTOM_V", "device_type": '
VGPU += '"type-VF"}\n'


def vf(number, resource_class="CUSTOM_V", **tags):
    return spec(
        address=f"0000:41:00.{number}",
        resource_class=resource_class,
        **({"managed": "no"} | tags),
    )


@pytest.mark.parametrize(
    ("types", "driver", "specs", "words"),
    [
        ((1155, 1155), "nvidia", vf(4) + vf(5), None),
        ((1155, 1155), "nvidia", vf(4) + vf(5, managed="yes"), "managed"),
        ((1155, 1155), "nvidia", vf(4, managed="true") + vf(5), "managed"),
        ((1155, 0), "nvidia", vf(4) + vf(5), "without a vGPU type"),
        ((1155, 1156), "nvidia", vf(4) + vf(5), "different vGPU types"),
        (
            (1155, 1156),
            "nvidia",
            vf(4) + vf(5, "CUSTOM_W"),
            "different resource classes CUSTOM_V, CUSTOM_W",
        ),
        ((1155, 1155), "nvidia", vf(0), "a PF and 2 of its VFs"),
        # VFs of another make, which have no such types.
        ((None, None), "vfio-pci", vf(4) + vf(5), None),
        ((None, None), "vfio-pci", vf(4, managed="yes") + vf(5), None),
    ],
)
def test_specs_of_vgpus_are_those_of_the_hardware(
    tmp_path, types, driver, specs, words
):
    host = l40s(tmp_path, types, driver)
    found = ask(host, f"report_in_placement = true\n{specs}{VGPU}")
    if words is None:
        assert found == []
    else:
        assert any(words in one for one in found)


MANAGER = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"


@pytest.mark.parametrize(
    ("machine", "files", "words"),
    [
        ("hgx_h100", {}, None),
        ("hgx_h100", {MANAGER: "FABRIC_MODE = 1 # shared\n"}, None),
        ("hgx_h100", {MANAGER: "#FABRIC_MODE=1\n"}, "for bare metal"),
        ("hgx_b200", {}, None),
        ("hgx_b200", {MANAGER: "FABRIC_MODE=0\n"}, "for bare metal"),
        ("hgx_b200", {MANAGER: None}, "are not installed"),
    ],
)
def test_modes_of_fabric_manager_are_those_of_the_board(
    build, machine, files, words
):
    host = build(machine)
    for path, text in files.items():
        if text is None:
            host.remove(path)
        else:
            host.write(path, text)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        app.main(["check", "--sysfs-root", str(host.root), "-f", "json"])
    printed = output.getvalue()
    found = [
        row["Finding"]
        for row in json.loads(printed[printed.index("[") :])
        if row["Severity"] in ("error", "warning")
    ]
    if words is None:
        assert found == []
    else:
        assert len(found) == 1
        assert words in found[0]
