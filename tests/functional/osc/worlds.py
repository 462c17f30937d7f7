# SPDX-License-Identifier: Apache-2.0

"""A small cloud in a real Placement, the same with every run."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import types
from typing import Any
import uuid

import os_traits

from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from tests import machines
from tests.functional.fleet import adapters
from tests.functional.osc import shell
from tests.functional.placement import service
from tests.unit.fleet import builders

PROJECT = "6f70656e737461636b20342065766572"
NIC = "CUSTOM_NIC_CONNECTX_7"
SIZES = (1, 2, 4, 8)


def consumer(name: str) -> str:
    """Return the UUID of the server of a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def hosts() -> Iterator[model.Host]:
    """Make an HGX H100, one with NICs, one without links, a disabled one."""
    yield builders.machine("hgx-1")
    yield builders.machine("hgx-2")
    yield _with_nics("pix-1")
    yield builders.host(
        "plain-1",
        [
            builders.device(
                "plain-1", bus, resource_class="CUSTOM_PCI_10DE_11BF"
            )
            for bus in (0x85, 0x86)
        ],
        traits=(os_traits.COMPUTE_STATUS_DISABLED,),
    )


def _with_nics(name: str) -> model.Host:
    """Make a host with 8 GPUs and 8 NICs, two and two to a PCIe switch."""
    numa = (0,) * 8 + (1,) * 8
    pairs = [range(start, start + 4) for start in range(0, 16, 4)]
    topology = machines.nested(
        16,
        ("NODE", [range(8), range(8, 16)]),
        ("PXB", pairs),
        ("PIX", [range(start, start + 2) for start in range(0, 16, 2)]),
        numa=numa,
    )
    devices = []
    for bit, links in enumerate(groups.decompose(topology)):
        traits = list(codec.format_traits(links))
        is_gpu = bit % 2 == 0
        if is_gpu:
            traits.append("CUSTOM_GPU_MODEL_L40S")
        devices.append(
            builders.device(
                name,
                0x10 + bit,
                resource_class="CUSTOM_GPU_L40S" if is_gpu else NIC,
                traits=traits,
            )
        )
    return builders.host(name, devices)


SERVERS: Mapping[str, tuple[str, str, tuple[int, ...]]] = {
    "train-1": ("hgx-1", "h100.2", (0, 1)),
    "train-2": ("hgx-1", "h100.1", (4,)),
    "train-3": ("hgx-2", "h100.4", (0, 1, 2, 3)),
    "render": ("pix-1", "l40s.1", (0, 1)),
}
"""Name -> host, flavor, numbers of devices."""

EXTRA_SPECS = {
    **{
        f"h100.{size}": {"pci_passthrough:alias": f"h100:{size}"}
        for size in SIZES
    },
    **{
        f"h100.{size}.fabric": {
            "pci_passthrough:alias": f"h100:{size}",
            "gpu:link": "fabric",
        }
        for size in SIZES
    },
    "l40s.1": {"pci_passthrough:alias": "l40s:1,cx7:1"},
    "small": {},
}
ALIASES = (
    '{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}',
    '{"name": "l40s", "resource_class": "gpu_l40s"}',
    '{"name": "cx7", "resource_class": "nic_connectx_7"}',
)


def build(placement: service.Placement) -> shell.Shell:
    """Fill a Placement, and make a shell that asks it."""
    by_name = {host.name: host for host in hosts()}
    placement.replace_providers(_providers(by_name.values()))
    for name, (host, _, numbers) in SERVERS.items():
        devices = [by_name[host].devices[number] for number in numbers]
        _claim(placement, consumer(name), host, devices)
    return shell.Shell(
        types.SimpleNamespace(
            placement=adapters.PlacementAdapter(placement), compute=nova()
        )
    )


def nova() -> adapters.Nova:
    """Make a Nova with the servers and flavors."""
    return adapters.Nova(
        [
            {
                "id": consumer(name),
                "name": name,
                "tenant_id": PROJECT,
                "status": "ACTIVE",
                "OS-EXT-SRV-ATTR:hypervisor_hostname": host,
                "flavor": {
                    "original_name": flavor,
                    "vcpus": 8,
                    "ram": 65536,
                    "disk": 100,
                    "ephemeral": 0,
                    "swap": 0,
                    "extra_specs": EXTRA_SPECS[flavor],
                },
            }
            for name, (host, flavor, _) in SERVERS.items()
        ],
        [
            {
                "id": str(number),
                "name": name,
                "vcpus": 8,
                "ram": 65536,
                "disk": 100,
                "OS-FLV-EXT-DATA:ephemeral": 0,
                "swap": "",
                "extra_specs": specs,
            }
            for number, (name, specs) in enumerate(EXTRA_SPECS.items())
        ],
        [service.provider_uuid(host.name) for host in hosts()],
    ).add_services(host.name for host in hosts())


def _providers(found: Iterable[model.Host]) -> Iterator[service.Provider]:
    for host in found:
        yield service.Provider(
            host.name,
            inventories={
                name: service.Inventory(amount.capacity)
                for name, amount in host.amounts.items()
            },
            traits=tuple(host.traits),
        )
        for device in host.devices:
            assert device.resource_class is not None
            yield service.Provider(
                device.name,
                host.name,
                {device.resource_class: service.Inventory(1)},
                tuple(device.traits),
            )


def _claim(
    placement: service.Placement,
    uuid_: str,
    host: str,
    devices: Iterable[model.Device],
) -> None:
    allocations: dict[str, Any] = {
        service.provider_uuid(host): {
            "resources": {"VCPU": 8, "MEMORY_MB": 65536, "DISK_GB": 100}
        }
    }
    for device in devices:
        allocations[service.provider_uuid(device.name)] = {
            "resources": {device.resource_class: 1}
        }
    answer = placement.stock(
        f"/allocations/{uuid_}",
        method="PUT",
        body={
            "allocations": allocations,
            "project_id": PROJECT,
            "user_id": "user",
            "consumer_generation": None,
            "consumer_type": "INSTANCE",
        },
    )
    assert answer.status == 204, answer.body


def alias_options() -> list[str]:
    """Return the options that tell a command all aliases."""
    return [part for alias in ALIASES for part in ("--alias", alias)]
