# SPDX-License-Identifier: Apache-2.0

"""Hosts, devices and owners read from a real Placement."""

import pytest

from nova_gpu_filter.fleet import api as services
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import provider_trees as reader
from tests.functional.fleet import adapters
from tests.functional.placement import service

GPU = "CUSTOM_H100"
LINK = "CUSTOM_GPU_LINK_NV18_0"


@pytest.fixture
def adapter(placement):
    return adapters.PlacementAdapter(placement)


@pytest.fixture
def get(adapter):
    return services.make_getter(
        adapter, "Placement", services.PLACEMENT_MICROVERSION
    )


def _root(name, vcpus_used=0, memory_used=0, disk_used=0, traits=()):
    return service.Provider(
        name,
        inventories={
            "VCPU": service.Inventory(8, vcpus_used),
            "MEMORY_MB": service.Inventory(1024, memory_used),
            "DISK_GB": service.Inventory(10, disk_used),
        },
        traits=traits,
    )


def _gpu(host, bus, **inventory):
    return service.Provider(
        f"{host}_0000:{bus:02X}:00.0",
        host,
        {GPU: service.Inventory(**{"total": 1, **inventory})},
        (LINK,),
    )


def _states(hosts):
    return {
        host.name: [(d.address, d.state.value) for d in host.devices]
        for host in hosts
    }


def test_hosts_with_devices_are_read_by_two_requests(placement, get, adapter):
    placement.replace_providers(
        [
            _root("b", traits=("COMPUTE_STATUS_DISABLED",)),
            _gpu("b", 0xC1, used=1),
            _gpu("b", 0x1B),
            service.Provider("b_0000:E1:00.0", "b", {}, (LINK,)),
            _root("a"),
            _gpu("a", 0x1B, reserved=1),
            _root("without-devices"),
            # Another child of a host, as of a NUMA node or an agent.
            service.Provider(
                "a:agent", "a", {"CUSTOM_BW": service.Inventory(5)}
            ),
        ]
    )
    hosts = reader.read_hosts(get)
    assert _states(hosts) == {
        "a": [("0000:1b:00.0", "reserved")],
        "b": [
            ("0000:1b:00.0", "unavailable"),
            ("0000:c1:00.0", "used"),
            ("0000:e1:00.0", "no inventory"),
        ],
    }
    assert len(adapter.asked) == 2
    a, b = hosts
    assert (a.is_disabled, b.is_disabled) == (False, True)
    assert (b.amounts["VCPU"].capacity, b.amounts["VCPU"].used) == (8, 0)
    assert b.resource_classes == (GPU,)
    assert b.devices[0].traits == {LINK}
    assert b.devices[0].uuid == service.provider_uuid("b_0000:1B:00.0")


@pytest.mark.parametrize(
    ("memory_used", "vcpus_used", "disk_used", "gpus_used", "one_by_one"),
    [
        (1024, 0, 0, 0, 0),
        (1024, 8, 0, 0, 0),
        (1024, 8, 10, 0, 0),
        # Nothing left at all: inventories, usages and traits of 3 providers.
        (1024, 8, 10, 1, 9),
    ],
)
def test_full_hosts_are_not_missed(
    placement,
    get,
    adapter,
    memory_used,
    vcpus_used,
    disk_used,
    gpus_used,
    one_by_one,
):
    placement.replace_providers(
        [
            _root("full", vcpus_used, memory_used, disk_used),
            _gpu("full", 1, used=gpus_used),
            _gpu("full", 2, used=gpus_used),
            _root("roomy"),
            _gpu("roomy", 1),
        ]
    )
    state = "used" if gpus_used else "free"
    full, roomy = reader.read_hosts(get)
    assert _states([full, roomy]) == {
        "full": [("0000:01:00.0", state), ("0000:02:00.0", state)],
        "roomy": [("0000:01:00.0", "free")],
    }
    assert full.amounts["MEMORY_MB"].free == 0
    assert full.devices[1].traits == {LINK}
    singles = [path for path in adapter.asked if path.count("/") > 1]
    assert len(singles) == one_by_one


def test_one_host_is_read_alone(placement, get):
    placement.replace_providers(
        [_root("a"), _gpu("a", 1), _root("b"), _gpu("b", 1), _root("c")]
    )
    assert _states(reader.read_hosts(get, "b")) == {
        "b": [("0000:01:00.0", "free")]
    }
    with pytest.raises(errors.Unknown, match="no host 'x'; known: a, b"):
        reader.read_hosts(get, "x")
    with pytest.raises(
        errors.Unknown, match="no device in Placement on host 'c'"
    ):
        reader.read_hosts(get, "c")


def test_a_cloud_without_devices_is_told(placement, get):
    placement.replace_providers([_root("a")])
    with pytest.raises(errors.NoDevices, match="Placement has no PCI devices"):
        reader.read_hosts(get)


def test_what_cyborg_has_is_left_alone(placement, get):
    """Its providers of GPUs have names like those of Nova."""

    def gpu(host, bus, *traits):
        return service.Provider(
            f"{host}_0000:{bus:02X}:00.0",
            host,
            {"PGPU": service.Inventory(1)},
            traits,
        )

    managed = "COMPUTE_MANAGED_PCI_DEVICE"
    placement.replace_providers(
        [
            _root("a"),
            gpu("a", 0x1B, "OWNER_NOVA", managed),
            gpu("a", 0x1C, "OWNER_CYBORG"),
            # Configured for both, which drift tells.
            gpu("a", 0x1D, "OWNER_CYBORG", "OWNER_NOVA", managed),
            # And with a provider each, of which Cyborg writes small letters.
            gpu("a", 0x1E, "OWNER_NOVA", managed),
            service.Provider(
                "a_0000:1e:00.0",
                "a",
                {"PGPU": service.Inventory(1)},
                ("OWNER_CYBORG",),
            ),
            _root("b"),
            gpu("b", 0x1B, "OWNER_CYBORG"),
        ]
    )
    (host,) = reader.read_hosts(get)
    assert {
        device.address: device.is_of_cyborg for device in host.devices
    } == {"0000:1b:00.0": False, "0000:1d:00.0": True, "0000:1e:00.0": True}
    with pytest.raises(errors.Unknown, match="on host 'b'"):
        reader.read_hosts(get, "b")


def test_mediated_devices_are_read_where_they_are_wanted(placement, get):
    def parent(name, resource_class, total, used, *traits):
        return service.Provider(
            name,
            "a_b",
            {resource_class: service.Inventory(total, used)},
            ("OWNER_NOVA", *traits),
        )

    placement.replace_providers(
        [
            _root("a_b"),
            parent("a_b_pci_0000_1B_00_0", "VGPU", 16, 3),
            parent("a_b_pci_0000_1c_00_4", "CUSTOM_A40_8Q", 4, 4),
            # No GPU: a matrix of s390x, and a provider of somebody else.
            parent("a_b_ap_matrix", "VGPU", 1, 0),
            parent("c_pci_0000_1d_00_0", "VGPU", 1, 0),
        ]
    )
    (host,) = reader.read_hosts(get, with_mediated=True)
    assert [
        (device.address, device.model, device.free, device.host, device.label)
        for device in host.devices
    ] == [
        ("0000:1b:00.0", "VGPU", 13, "a_b", "a_b_pci_0000_1b_00_0"),
        ("0000:1c:00.4", "A40_8Q", 0, "a_b", "a_b_pci_0000_1c_00_4"),
    ]
    assert host.mediated_classes == {"VGPU", "CUSTOM_A40_8Q"}
    with pytest.raises(errors.NoDevices):
        reader.read_hosts(get)
