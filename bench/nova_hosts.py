# SPDX-License-Identifier: Apache-2.0

"""The hosts of a benchmark in Nova's database."""

import json
from typing import Any

from bench import hgx_hosts


def write_hosts(context: Any, hosts: int) -> None:
    """Write services and compute nodes as nova-compute reports them.

    The first through Nova's objects; rows of the others are copies with
    what differs, as ten thousand would take Nova many minutes.
    """
    from nova import context as nova_context
    from nova import objects
    from nova.db.api import api as api_database
    from nova.db.api import models as api_models
    from nova.db.main import api as main_database
    from nova.db.main import models as main_models

    cell = next(
        found
        for found in objects.CellMappingList.get_all(context)
        if not found.is_cell0()
    )
    masks = dict(enumerate(hgx_hosts.place_servers(hosts)))
    with nova_context.target_cell(context, cell) as cell_context:
        _make_host(cell_context, masks.pop(0))
        objects.HostMapping(
            context, cell_mapping=cell, host=hgx_hosts.host_name(0)
        ).create()
        engine = main_database.get_engine(context=cell_context)
    _copy_row(
        engine,
        main_models.Service,
        [
            {"id": 1 + n, "uuid": hgx_hosts.make_uuid(f"service-{n}")}
            | _host(n)
            for n in masks
        ],
    )
    _copy_row(
        engine,
        main_models.ComputeNode,
        [
            {
                "id": 1 + n,
                "service_id": 1 + n,
                "uuid": hgx_hosts.make_uuid(hgx_hosts.host_name(n)),
                "hypervisor_hostname": hgx_hosts.host_name(n),
                "pci_stats": json.dumps(_pools(n, free).obj_to_primitive()),
            }
            | _host(n)
            | _used(free)
            for n, free in masks.items()
        ],
    )
    _copy_row(
        api_database.get_engine(),
        api_models.HostMapping,
        [{"id": 1 + n} | _host(n) for n in masks],
    )


def _host(number: int) -> dict[str, str]:
    return {"host": hgx_hosts.host_name(number)}


def _used(free: int) -> dict[str, int]:
    """Say what of a host is used, as its compute node has it."""
    used = hgx_hosts.GPUS - free.bit_count()
    return {
        "vcpus_used": used * hgx_hosts.VCPUS_A_GPU,
        "memory_mb_used": used * hgx_hosts.RAM_MB_A_GPU,
        "free_ram_mb": (2 << 20) - used * hgx_hosts.RAM_MB_A_GPU,
        "running_vms": used,
    }


def _make_host(context: Any, free: int) -> None:
    """Write the service and the compute node of the first host."""
    from nova import objects
    from oslo_utils import timeutils

    name = hgx_hosts.host_name(0)
    service = objects.Service(
        context,
        host=name,
        binary="nova-compute",
        topic="compute",
        report_count=1,
        last_seen_up=timeutils.utcnow(),
        disabled=False,
        forced_down=False,
    )
    service.create()
    node = objects.ComputeNode(
        context,
        uuid=hgx_hosts.make_uuid(name),
        service_id=service.id,
        host=name,
        hypervisor_hostname=name,
        hypervisor_type="QEMU",
        hypervisor_version=8000000,
        cpu_info="{}",
        vcpus=224,
        memory_mb=2 << 20,
        local_gb=20000,
        local_gb_used=0,
        free_disk_gb=20000,
        disk_available_least=20000,
        current_workload=0,
        cpu_allocation_ratio=1.0,
        ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
        mapped=1,
        numa_topology=_numa_topology()._to_json(),
        pci_device_pools=_pools(0, free),
        supported_hv_specs=[
            objects.HVSpec.from_list(["x86_64", "kvm", "hvm"])
        ],
        stats={},
        **_used(free),
    )
    node.create()


def _copy_row(engine: Any, model: Any, changes: list[dict[str, Any]]) -> None:
    """Write the only row of a table again, with some of its values changed."""
    import sqlalchemy as sa

    with engine.begin() as connection:
        (row,) = connection.execute(sa.select(model.__table__)).mappings()
        connection.execute(
            sa.insert(model.__table__),
            [dict(row) | change for change in changes],
        )


def _pools(number: int, free: int) -> Any:
    from nova import objects

    from nova_gpu_filter.topology import codec
    from nova_gpu_filter.topology import groups

    links = groups.decompose(hgx_hosts.build_topology())
    return objects.PciDevicePoolList(
        objects=[
            objects.PciDevicePool(
                vendor_id="10de",
                product_id="2330",
                numa_node=gpu // 4,
                count=1,
                tags={
                    "dev_type": "type-PCI",
                    "address": f"0000:{0x10 + gpu:02x}:00.0",
                    "rp_uuid": hgx_hosts.make_uuid(
                        hgx_hosts.device_name(number, gpu)
                    ),
                    "gpu_links": codec.format_text(links[gpu]),
                },
            )
            for gpu in range(hgx_hosts.GPUS)
            if free >> gpu & 1
        ]
    )


def _numa_topology() -> Any:
    """Make two NUMA nodes with 56 cores of two threads each."""
    from nova import objects

    cells = []
    for cell in range(2):
        cpus = set(range(cell * 112, cell * 112 + 112))
        cells.append(
            objects.NUMACell(
                id=cell,
                socket=cell,
                cpuset=cpus,
                pcpuset=set(),
                memory=1 << 20,
                cpu_usage=0,
                memory_usage=0,
                pinned_cpus=set(),
                siblings=[{cpu, cpu + 56} for cpu in sorted(cpus)[:56]],
                mempages=[
                    objects.NUMAPagesTopology(
                        size_kb=size, total=total, used=0, reserved=0
                    )
                    for size, total in ((4, 1 << 28), (2048, 0), (1 << 20, 0))
                ],
                network_metadata=objects.NetworkMetadata(
                    physnets=set(), tunneled=False
                ),
            )
        )
    return objects.NUMATopology(cells=cells)
