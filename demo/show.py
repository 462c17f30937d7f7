# SPDX-License-Identifier: Apache-2.0

"""Tables and expectations that several chapters share."""

from collections.abc import Iterable
from collections.abc import Sequence

from demo import cloud as embedded
from demo import cloud_reader
from demo import record
from demo import scheduler_log
from nova_gpu_filter.drawing import arrange
from nova_gpu_filter.drawing import text

NO_VALID_HOST = "No valid host was found."


def devices(
    step: record.Step, cloud: embedded.EmbeddedCloud, hosts: Iterable[str]
) -> None:
    """Show what Nova's PCI tracker has for some hosts."""
    step.table(
        "Devices in Nova's PCI tracker",
        ("host", "address", "product", "NUMA node", "state", "server"),
        [
            (
                device.host,
                device.address,
                device.product,
                "" if device.numa_node is None else device.numa_node,
                device.status,
                device.server or "",
            )
            for host in hosts
            for device in cloud.devices(host)
        ],
    )


def topology(
    step: record.Step, cloud: embedded.EmbeddedCloud, host: str
) -> None:
    """Draw the GPUs of a host, how they are linked and who has them."""
    devices = cloud.devices(host)
    step.quote(
        f"GPUs of {host}",
        text.draw(
            arrange.arrange_topology(
                host,
                cloud.topology(host),
                [device.address for device in devices],
                [device.server for device in devices],
            )
        ).splitlines(),
    )


def servers(
    step: record.Step,
    cloud: embedded.EmbeddedCloud,
    shown: Iterable[cloud_reader.Server],
) -> None:
    """Show where servers run and what they hold, in Nova and Placement.

    :param shown: as the API showed them last.
    """
    step.table(
        "Servers",
        ("server", "state", "host", "devices in Nova", "in Placement"),
        [
            (
                server.name,
                server.status,
                server.host or "",
                " ".join(cloud_reader.addresses(cloud.list_devices(server))),
                " ".join(cloud.allocated_addresses(server)),
            )
            for server in shown
        ],
    )


def providers(
    step: record.Step, cloud: embedded.EmbeddedCloud, hosts: Iterable[str]
) -> list[cloud_reader.Provider]:
    """Show the resource providers of PCI devices, with what is used.

    :returns: what was shown.
    """
    found = [provider for host in hosts for provider in cloud.providers(host)]
    step.table(
        "Resource providers in Placement",
        ("provider", "resource class", "total", "used", "traits"),
        [
            (
                provider.name,
                rc,
                total,
                provider.usage[rc],
                " ".join(
                    trait
                    for trait in provider.traits
                    if trait.startswith("CUSTOM_")
                ),
            )
            for provider in found
            for rc, total in provider.inventory.items()
        ],
    )
    return found


def free_by_pool(
    cloud: embedded.EmbeddedCloud, host: str
) -> dict[tuple[str, str | int], int]:
    """Count the free devices of each pool, which (product, address) names.

    Since Nova 33 a pool is one device, before that all devices that are alike
    and on one NUMA node, when they are not in Placement.
    """
    free: dict[tuple[str, str | int], int] = {}
    for pool in cloud.pools(host):
        product = f"{pool['vendor_id']}:{pool['product_id']}"
        key = (product, pool.get("address", "any"))
        free[key] = free.get(key, 0) + pool["count"]
    return free


def free(cloud: embedded.EmbeddedCloud, *hosts: str) -> int:
    """Count the free devices that the scheduler sees on some hosts."""
    return sum(
        sum(free_by_pool(cloud, host).values())
        for host in hosts or cloud.hosts
    )


def pools(
    step: record.Step,
    host: str,
    before: dict[tuple[str, str | int], int],
    after: dict[tuple[str, str | int], int],
) -> None:
    """Show how the pools of a host changed."""
    step.table(
        f"Pools of {host}, as the scheduler reads them",
        ("product", "address", "free before", "free after"),
        [
            (*key, before.get(key, 0), after.get(key, 0))
            for key in sorted({**before, **after})
        ],
    )


def guest(
    step: record.Step,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
) -> None:
    """Show the devices of a guest as the libvirt driver wrote them."""
    step.quote(
        f"Domain XML of {server.name} on {server.host}", cloud.hostdevs(server)
    )


def decision(
    step: record.Step, decisions: scheduler_log.Decisions, verbose: bool = True
) -> None:
    """Show what the scheduler logged of its decision."""
    step.quote(
        "Scheduler log",
        [
            *(decisions.refusals() if verbose else ()),
            *decisions.summaries(),
            *decisions.without_candidates(),
        ],
    )


def expect_running(
    step: record.Step,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
    devices: int,
    in_placement: bool,
) -> Sequence[str]:
    """Expect a server to run with as many devices, the same everywhere.

    :param server: as the API showed it last.
    :param devices: how many.
    :param in_placement: whether Placement knows of them.
    :returns: their addresses.
    """
    name = server.name
    held = cloud.list_devices(server)
    addresses = cloud_reader.addresses(held)
    step.expect(f"state of {name}", "ACTIVE", server.status)
    step.expect(f"number of devices of {name}", devices, len(held))
    step.expect(
        f"where and how the devices of {name} are held",
        {(server.host, "allocated")},
        {(device.host, device.status) for device in held},
    )
    step.expect(
        f"devices in the domain XML of {name}",
        addresses,
        cloud.hostdev_addresses(server),
    )
    step.expect(
        f"devices of {name} in Placement",
        addresses if in_placement else [],
        cloud.allocated_addresses(server),
    )
    return addresses


def expect_refused(step: record.Step, server: cloud_reader.Server) -> None:
    """Expect that a server found no host."""
    step.expect(f"state of {server.name}", "ERROR", server.status)
    # How Nova goes on depends on whether any filter was asked.
    fault = (server.fault or "")[: len(NO_VALID_HOST)]
    step.expect(f"fault of {server.name}", NO_VALID_HOST, fault)
