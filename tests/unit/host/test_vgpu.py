# SPDX-License-Identifier: Apache-2.0

"""VFs that may be given away, and aliases that reach them."""

import json

import pytest

from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.nova_rules import pci_options
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB
from tests.sysfs_trees import Host
from tests.sysfs_trees import Pci

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
PF = "0001:c8:00.0"


def rtx_pro(root, types, mdev=()):
    """An RTX PRO 6000 whose VFs have these vGPU types."""
    host = Host(root)
    host.nodes(1)
    host.iommu()
    host.bridge("0001:c7:00.0", "pci0001:c7", 60)
    common = {
        "parent": "0001:c7:00.0",
        "ids": "10de:2bb5",
        "class_code": 0x030200,
        "driver": "nvidia",
    }
    host.add(
        Pci(
            PF,
            group=61,
            bars=(64 * MIB, 128 * GIB, 32 * MIB),
            totalvfs=48,
            vf_ids="10de:2bb5",
            **common,
        )
    )
    for number, vgpu_type in enumerate(types, 2):
        address = f"0001:c8:{number >> 3:02x}.{number & 7}"
        host.add(
            Pci(
                address,
                group=100 + number,
                bars=(16 * MIB, 4 * GIB),
                physfn=PF,
                mdev=mdev,
                **common,
            )
        )
        if vgpu_type is not None:
            host.write(
                f"/sys/bus/pci/devices/{address}/nvidia/current_vgpu_type",
                vgpu_type,
            )
    return host


def read(host):
    return reader.read(tree.Tree(str(host.root)))


def offered(host):
    return [
        str(one.address)
        for one in fragment.choose_devices(read(host), fragment.Options())
    ]


@pytest.mark.parametrize(
    ("types", "addresses"),
    [
        ([1519, 0, 1519], ["0001:c8:00.2", "0001:c8:00.4"]),
        ([0, 0], []),
        ([1519], ["0001:c8:00.2"]),
        # Without the directory they are VFs as any.
        ([None, None], ["0001:c8:00.2", "0001:c8:00.3"]),
    ],
)
def test_vfs_with_a_vgpu_type_are_offered(tmp_path, types, addresses):
    assert offered(rtx_pro(tmp_path, types)) == addresses


def test_vfs_with_mediated_devices_are_not_offered(tmp_path):
    types = (("nvidia-742", "GRID A40-4Q", 1),)
    assert offered(rtx_pro(tmp_path, [None], mdev=types)) == []


@pytest.mark.parametrize("managed", [None, "yes", "no"])
def test_a_vgpu_is_never_managed(tmp_path, managed):
    host = read(rtx_pro(tmp_path, [1519]))
    options = fragment.Options(managed=managed)
    (vf,) = fragment.choose_devices(host, options)
    assert fragment.write_device_spec(vf, None, options)["managed"] == "no"


def test_different_types_on_one_pf_are_told(tmp_path):
    host = read(rtx_pro(tmp_path, [1519, 1520, 0]))
    text = fragment.write(host, linking.join(host), fragment.Options())
    assert "different vGPU types (1519, 1520)" in text
    assert "one resource class a PF" in text
    assert text.count("device_spec = ") == 2


@pytest.fixture
def check(tmp_path):
    """Check a nova.conf against the files of a host."""

    def check_options(host, *lines):
        files = tree.Tree(str(host.root))
        path = tmp_path / "nova.conf"
        path.write_text("[pci]\n" + "".join(f"{line}\n" for line in lines))
        return [
            (one.severity, one.summary)
            for one in conf_device_specs.check(
                reader.read(files),
                reader.read(files, everything=True).functions,
                pci_options.read(str(path)),
            )
        ]

    return check_options


def spec(address="0001:c8:00.2", **tags):
    return f"device_spec = {json.dumps({'address': address, **tags})}"


def alias(device_type=None, **more):
    data = {
        "name": "a",
        "vendor_id": "10de",
        "product_id": "2bb5",
        **({"device_type": device_type} if device_type else {}),
        **more,
    }
    return f"alias = {json.dumps(data)}"


def only(found, *words):
    """The finding whose summary has these words."""
    (finding,) = [
        one for one in found if all(word in one[1] for word in words)
    ]
    return finding[0]


@pytest.mark.parametrize("tags", [{}, {"managed": "yes"}, {"managed": "1"}])
def test_a_managed_vgpu_is_an_error(tmp_path, check, tags):
    found = check(rtx_pro(tmp_path, [1519]), spec(**tags))
    assert only(found, '"managed": "no"') is ERROR


@pytest.mark.parametrize("managed", ["no", "false", "0"])
def test_a_vgpu_as_it_should_be_is_quiet(tmp_path, check, managed):
    host = rtx_pro(tmp_path, [1519])
    assert check(host, spec(managed=managed), alias("type-VF")) == []


def test_a_vf_without_type_is_a_warning(tmp_path, check):
    found = check(rtx_pro(tmp_path, [0]), spec(managed="no"))
    assert only(found, "without a vGPU type") is WARNING


def test_specs_of_different_types_on_one_pf_are_told(tmp_path, check):
    host = rtx_pro(tmp_path, [1519, 1520])
    found = check(host, spec(managed="no"), spec("0001:c8:00.3", managed="no"))
    assert only(found, "different vGPU types") is WARNING


def test_an_unmanaged_device_needs_its_driver(tmp_path, check):
    host = rtx_pro(tmp_path, [])
    found = check(host, spec(PF, managed="no"))
    assert only(found, "nobody binds these") is ERROR


# Machine -> devices, then alias -> what is told of it.
@pytest.mark.parametrize(
    ("machine", "ids", "device_type", "severity"),
    [
        ("hgx_h100", "10de:2330", "type-PF", None),
        ("hgx_h100", "10de:2330", "type-PCI", ERROR),
        ("hgx_h100", "10de:2330", "type-VF", ERROR),
        ("hgx_h100", "10de:2330", None, ERROR),
        ("k2_host", "10de:11bf", "type-PCI", None),
        ("k2_host", "10de:11bf", None, None),
        ("k2_host", "10de:11bf", "type-PF", ERROR),
        ("dgx1_v100", "10de:1db1", "type-PCI", None),
        ("flex_with_vfs", "8086:56c0", "type-VF", None),
        ("flex_with_vfs", "8086:56c0", None, None),
        ("flex_with_vfs", "8086:56c0", "type-PCI", ERROR),
    ],
)
@pytest.mark.parametrize("is_offered", [True, False])
def test_aliases_are_compared_with_the_hardware(
    build, check, machine, ids, device_type, severity, is_offered
):
    host = build(machine)
    vendor, product = ids.split(":")
    asked = alias(device_type, vendor_id=vendor, product_id=product)
    lines = (
        fragment.write(
            inventory := read(host),
            linking.join(inventory),
            fragment.Options(),
        ).splitlines()[1:]
        if is_offered
        else []
    )
    found = [
        one
        for one in check(
            host, *(one for one in lines if one.startswith("dev")), asked
        )
        if "alias" in one[1]
    ]
    assert [one[0] for one in found] == ([severity] if severity else [])


def test_an_alias_for_other_hosts_is_a_note(build, check):
    found = check(
        build("k2_host"),
        'device_spec = {"vendor_id": "10de", "product_id": "11bf"}',
        alias(vendor_id="1002", product_id="74a1"),
        alias(name="k2", product_id="11bf"),
    )
    assert [one[0] for one in found] == [NOTE]


def test_devices_that_no_alias_asks_for_are_counted(build, check):
    found = check(
        build("k2_host"),
        'device_spec = {"vendor_id": "10de", "product_id": "11bf"}',
        alias(vendor_id="1002", product_id="74a1"),
    )
    assert only(found, "no alias of this file asks for 2 of the 2") is WARNING


@pytest.mark.parametrize(
    "line",
    [
        'device_spec = {"vendor_id": "10de", "vendor_id": "10de",'
        ' "product_id": "11bf"}',
        'device_spec = {"product_id": "11bf", "address": {"bus": "8.",'
        ' "bus": ".*"}}',
        'alias = {"name": "a", "vendor_id": "10de", "product_id": "10de",'
        ' "product_id": "11bf"}',
    ],
)
def test_a_key_that_stands_twice_is_told(build, check, line):
    other = 'device_spec = {"vendor_id": "10de", "product_id": "11bf"}'
    found = check(
        build("k2_host"), *([] if line.startswith("dev") else [other]), line
    )
    assert only(found, "stands twice") is WARNING


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "vendor_id": "10de"',
        "[]",
        '{"vendor_id": "10de", "product_id": "11bf"}',
        '{"name": "a", "vendor_id": "10d", "product_id": "11bf"}',
        '{"name": "a", "vendor_id": 4318, "product_id": "11bf"}',
        '{"name": "a", "devicetype": "type-PF"}',
        '{"name": "a", "device_type": "type-pf"}',
        '{"name": "a", "numa_policy": "strict"}',
        '{"name": "a", "live_migratable": "maybe"}',
    ],
)
def test_what_nova_refuses_is_an_error(build, check, text):
    found = check(
        build("k2_host"),
        'device_spec = {"vendor_id": "10de", "product_id": "11bf"}',
        f"alias = {text}",
    )
    assert only(found, "Nova refuses this alias") is ERROR


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (
            {"device_type": "type-PCI"},
            {"device_type": "type-PF"},
            "is there with device_type",
        ),
        ({"device_type": "type-PCI"}, {}, "is there with device_type"),
        ({}, {}, "is there twice, without device_type"),
        (
            {"device_type": "type-PCI", "numa_policy": "required"},
            {"device_type": "type-PCI"},
            "is there with numa_policy",
        ),
        ({"device_type": "type-PCI"}, {"device_type": "type-PCI"}, None),
    ],
)
def test_aliases_of_one_name_are_alike(build, check, first, second, words):
    found = check(
        build("k2_host"),
        'device_spec = {"vendor_id": "10de", "product_id": "11bf"}',
        alias(product_id="11bf", **first),
        alias(product_id="2330", **second),
    )
    refused = [one for one in found if "Nova refuses all aliases" in one[1]]
    assert [one[0] for one in refused] == ([ERROR] if words else [])
    assert all(words in one[1] for one in refused)


@pytest.mark.parametrize("name", ["physnet0", None])
def test_a_gpu_has_no_physical_network(build, check, name):
    tag = f', "physical_network": "{name}"' if name else ""
    found = check(
        build("k2_host"),
        f'device_spec = {{"vendor_id": "10de", "product_id": "11bf"{tag}}}',
        alias("type-PCI", product_id="11bf"),
    )
    told = [one for one in found if "physical_network is for" in one[1]]
    assert [one[0] for one in told] == ([WARNING] if name else [])


def test_live_migratable_of_an_alias_is_one_of_the_specs(tmp_path, check):
    host = rtx_pro(tmp_path, [1519])
    found = check(
        host,
        spec(managed="no", live_migratable="no"),
        alias("type-VF", live_migratable="yes"),
    )
    assert only(found, "asks for live_migratable yes") is ERROR


def test_an_alias_that_reaches_some_of_its_devices_is_told(tmp_path, check):
    host = rtx_pro(tmp_path, [1519])
    host.add(
        Pci(
            "0001:c9:00.0",
            "0001:c7:00.0",
            "10de:2bb5",
            0x030200,
            group=300,
            driver="vfio-pci",
            totalvfs=48,
        )
    )
    found = check(
        host,
        spec(managed="no"),
        spec("0001:c9:00.0"),
        alias("type-VF"),
    )
    assert only(found, "gets 1 of the 2 devices") is WARNING


K2 = '"vendor_id": "10de", "product_id": "11bf"'
PLACEMENT = "report_in_placement = true"


@pytest.mark.parametrize(
    ("tags", "more", "words"),
    [
        # Nova writes names as Placement has them.
        ("resource_class=k2", "resource_class=CUSTOM_K2", None),
        ("resource_class=CUSTOM_K2", "resource_class=k2", None),
        ("resource_class=pgpu", "resource_class=PGPU", None),
        ("", "", None),
        ("resource_class=k2", "", "for CUSTOM_PCI_10DE_11BF, and its"),
        ("", "resource_class=k2", "for CUSTOM_K2, and its devices are"),
        ("traits=custom_a,b", "traits=A", None),
        ("traits=A", "traits=CUSTOM_A", None),
        ("traits=A", "traits=A,HW_PCI_LIVE_MIGRATABLE", "LIVE_MIGRATABLE"),
        ("", "traits=COMPUTE_MANAGED_PCI_DEVICE", None),
        ("traits=A", "traits=A,B", "gives: CUSTOM_B"),
    ],
)
@pytest.mark.parametrize("in_placement", [True, False])
def test_an_alias_asks_placement_for_what_its_devices_are(
    build, check, tags, more, words, in_placement
):
    def pairs(text):
        name, _, value = text.partition("=")
        return f', "{name}": "{value}"' if text else ""

    found = check(
        build("k2_host"),
        *([PLACEMENT] if in_placement else []),
        f"device_spec = {{{K2}{pairs(tags)}}}",
        f'alias = {{"name": "a", {K2}{pairs(more)}}}',
    )
    if words and in_placement:
        assert only(found, words) is WARNING
    assert len(found) == int(bool(words) and in_placement)


def test_an_alias_by_its_class_means_the_devices_of_that_class(build, check):
    asked = 'alias = {"name": "a", "resource_class": "k2"}'
    tagged = f'device_spec = {{{K2}, "resource_class": "CUSTOM_K2"}}'
    assert check(build("k2_host"), PLACEMENT, tagged, asked) == []


def test_an_alias_of_another_class_reaches_none(build, check):
    asked = 'alias = {"name": "a", "resource_class": "k1"}'
    tagged = f'device_spec = {{{K2}, "resource_class": "k2"}}'
    found = check(build("k2_host"), PLACEMENT, tagged, asked)
    assert only(found, "no alias of this file asks for 2 of the 2") is WARNING


TYPES = (("nvidia-222", "GRID T4-1Q", 16),)
MDEV = "4b20d080-1b54-4048-85b3-a6a62d165c01"


@pytest.fixture
def t4(tmp_path):
    """Two T4, of which NVIDIA's driver makes vGPUs."""
    host = Host(tmp_path / "t4")
    host.nodes(1)
    host.iommu()
    for bus in ("41", "42"):
        host.add(
            Pci(
                f"0000:{bus}:00.0",
                "pci0000:40",
                "10de:1eb8",
                0x030200,
                group=int(bus),
                driver="nvidia",
                bars=(1 << 24,),
                mdev=TYPES,
            )
        )
    host.make_mdev("0000:41:00.0", "nvidia-222", MDEV)
    return host


def test_gpus_of_mediated_devices_are_told_as_such(t4):
    files = tree.Tree(str(t4.root))
    inventory = reader.read(files)
    found = [
        (one.severity, one.device, one.cures)
        for one in readiness.check(Context(files, inventory))
        if one.check in ("driver", "boot")
    ]
    # That in use by a guest is a note, and nothing takes it away.
    assert [one[:2] for one in found] == [
        (WARNING, "0000:42:00.0"),
        (NOTE, "0000:41:00.0"),
    ]
    assert found[1][2] == ()
    assert found[0][2]


def test_gpus_of_mediated_devices_are_not_for_a_device_spec(t4, check):
    asked = 'device_spec = {"vendor_id": "10de", "product_id": "1eb8"}'
    found = check(t4, asked)
    assert only(found, "offers devices that carry mediated ones") is WARNING


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ([1519, 0], "2 VFs have a driver that can migrate them (nvidia)"),
        ([None], "cannot be live-migrated"),
    ],
)
def test_vgpus_of_nvidia_can_be_migrated(tmp_path, types, words):
    host = rtx_pro(tmp_path, types)
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    (found,) = [
        one.summary
        for one in readiness.check(Context(files, inventory))
        if one.check == "live-migration"
    ]
    assert words in found


def test_of_gpus_with_mediated_devices_nothing_is_said_of_vfio_pci(t4):
    files = tree.Tree(str(t4.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    assert not any(
        one.check == "live-migration" for one in readiness.check(context)
    )
