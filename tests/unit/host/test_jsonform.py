# SPDX-License-Identifier: Apache-2.0

import copy
import json

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import inventory_json
from nova_gpu_filter.host.sysfs import chips
from tests import smi_files
from tests import sysfs_trees
from tests.unit.host import test_linking
from tests.unit.host.test_address import ADDRESSES

TEXT = st.text(max_size=8)
OPTIONAL = st.none() | TEXT
NUMBER = st.none() | st.integers(0, 0xFFFF)

FUNCTIONS = st.builds(
    inventory.Function,
    address=ADDRESSES,
    kind=st.sampled_from(inventory.Kind),
    class_code=st.integers(0, 0xFFFFFF),
    vendor_id=st.integers(0, 0xFFFF),
    product_id=st.integers(0, 0xFFFF),
    subvendor_id=NUMBER,
    subproduct_id=NUMBER,
    revision=st.none() | st.integers(0, 0xFF),
    class_name=OPTIONAL,
    vendor_name=OPTIONAL,
    product_name=OPTIONAL,
    subsystem_name=OPTIONAL,
    chip=st.none()
    | st.builds(chips.Chip, st.text(min_size=1), OPTIONAL, OPTIONAL, OPTIONAL),
    numa_node=NUMBER,
    iommu_group=NUMBER,
    driver=OPTIONAL,
    driver_override=OPTIONAL,
    sriov_totalvfs=NUMBER,
    sriov_numvfs=NUMBER,
    vf_product_id=NUMBER,
    mdev_types=st.lists(
        st.builds(
            inventory.MdevType,
            TEXT,
            TEXT,
            NUMBER,
            st.lists(TEXT, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    vgpu_type=NUMBER,
    vgpu_type_name=st.none() | TEXT,
    bars=st.lists(
        st.builds(
            inventory.Bar,
            st.integers(0, 5),
            st.integers(1, 1 << 40),
            st.booleans(),
            st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    reset_methods=st.none() | st.lists(TEXT, max_size=2).map(tuple),
    pcie_link=st.none()
    | st.builds(inventory.PcieLink, OPTIONAL, NUMBER, OPTIONAL, NUMBER),
    root=OPTIONAL,
    bridges=st.lists(ADDRESSES, max_size=3).map(tuple),
    interfaces=st.lists(TEXT, max_size=2).map(tuple),
    rdma_devices=st.lists(TEXT, max_size=2).map(tuple),
    modalias=OPTIONAL,
    power_state=OPTIONAL,
    is_boot_display=st.booleans(),
    host_uses=st.lists(
        st.builds(
            inventory.HostUse,
            st.sampled_from(inventory.Use),
            TEXT,
            TEXT,
            OPTIONAL,
        ),
        max_size=2,
    ).map(tuple),
)
HOSTS = st.builds(
    inventory.Inventory,
    hostname=TEXT,
    functions=st.lists(
        FUNCTIONS, max_size=2, unique_by=lambda one: one.address
    ).map(lambda found: tuple(sorted(found, key=lambda one: one.address))),
    groups=st.lists(
        st.builds(
            inventory.IommuGroup,
            st.integers(0, 99),
            st.lists(
                st.builds(
                    inventory.GroupMember,
                    ADDRESSES,
                    st.integers(0, 0xFFFFFF),
                    TEXT,
                    OPTIONAL,
                    OPTIONAL,
                ),
                max_size=2,
            ).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    numa_nodes=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    kernel=OPTIONAL,
    names_from=OPTIONAL,
    problems=st.lists(TEXT, max_size=2).map(tuple),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(HOSTS)
def test_any_inventory_is_read_as_it_was_written(host):
    host_links = linking.join(host)
    text = json.dumps(inventory_json.write(host, host_links))
    assert inventory_json.read("x", text) == (host, host_links)


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_the_inventory_of_each_machine_is_read_as_it_was_written(
    build, read, machine
):
    host = read(build(machine))
    host_links = linking.join(host)
    text = json.dumps(inventory_json.write(host, host_links))
    assert inventory_json.read("x", text) == (host, host_links)


@pytest.fixture
def hgx(build, read):
    """An HGX host with everything: NVLinks, Module Ids, partitions."""
    host = read(build("hgx_h100"))
    host_links = linking.join(
        host,
        linking.Sources(
            topo=("topo.txt", test_linking.NV18),
            query=test_linking.QUERY,
            fabric=("fmpm", smi_files.fmpm(smi_files.HGX_H100)),
        ),
    )
    return host, host_links


def test_links_and_partitions_are_part_of_it(hgx):
    document = inventory_json.write(*hgx)
    assert inventory_json.read("x", json.dumps(document)) == hgx
    by_address = {entry["address"]: entry for entry in document["devices"]}
    gpu = by_address["0000:0f:00.0"]
    assert gpu["module_id"] == 5
    assert gpu["relations"]["0000:10:00.0"] == "NV18"
    assert gpu["relations"]["0000:0d:00.0"] == "PIX"
    assert gpu["relations"]["0000:b6:00.0"] == "SYS"
    assert len(gpu["relations"]) == 19
    assert document["fabric_partitions"][3]["devices"] == [
        "0000:86:00.0",
        "0000:87:00.0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no JSON"),
        ("[]", "this is no inventory"),
        ('{"format": "other"}', "this is no inventory"),
        (
            '{"format": "nova-gpu-host inventory", "version": 2}',
            "format version 2, and this is version 1",
        ),
        (
            '{"format": "nova-gpu-host inventory", "version": 1}',
            "the inventory is damaged",
        ),
    ],
)
def test_what_is_no_inventory_is_refused(text, message):
    with pytest.raises(exception.BadInput, match=message) as raised:
        inventory_json.read("host.json", text)
    assert str(raised.value).startswith("host.json: ")


@given(data=st.data())
def test_an_inventory_with_any_field_broken_is_read_or_refused(data):
    document = _document()
    entry = data.draw(st.sampled_from(document["devices"]))
    key = data.draw(st.sampled_from(sorted(entry)))
    entry[key] = data.draw(
        st.none() | st.integers() | st.text(max_size=3) | st.just([1])
    )
    try:
        host, _ = inventory_json.read("x", json.dumps(document))
    except exception.BadInput as exc:
        assert str(exc).startswith("x: ")  # noqa: PT017 (one of two ends)
    else:
        assert isinstance(host, inventory.Inventory)


def _document():
    gpu = inventory.Function(
        address=next(iter(_ADDRESS)),
        kind=inventory.Kind.GPU,
        class_code=0x030000,
        vendor_id=0x10DE,
        product_id=0x11BF,
    )
    host = inventory.Inventory("h", (gpu,))
    return copy.deepcopy(inventory_json.write(host, linking.join(host)))


_ADDRESS = (inventory.PciAddress(0, 0x85, 0, 0),)
