# SPDX-License-Identifier: Apache-2.0

"""Chapter 1: two GRID K2 and the configuration of 2016."""

from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines
from demo import record
from demo import show

CONF = "2016.conf"
K2_HOST = "k2-host"
PLAIN_HOST = "plain-host"
FLAVOR = "gpu.k2"
ALIAS = "a1:1"
K2_ADDRESSES = ["0000:85:00.0", "0000:86:00.0"]


def open_cloud(step: record.Step, cloud: embedded.EmbeddedCloud) -> None:
    """Start the cloud of 2016: two hosts, a flavor."""
    cloud.start()
    hosts = {
        K2_HOST: fake_machines.grid_k2(),
        PLAIN_HOST: fake_machines.build_plain_host(),
    }
    for host, machine in hosts.items():
        cloud.add_compute(host, machine)
    cloud.create_flavor(FLAVOR, {"pci_passthrough:alias": ALIAS})
    step.table(
        "Compute hosts",
        ("host", "devices"),
        [(host, machine.model) for host, machine in hosts.items()],
    )


def boot(
    story: record.Story, cloud: embedded.EmbeddedCloud, name: str
) -> cloud_reader.Server:
    """Boot a server that gets a GPU, and follow the device all the way."""
    with story.step(f"Boot {name} with one GPU") as step:
        before = show.free_by_pool(cloud, K2_HOST)
        decisions = cloud.decisions()
        server = cloud.boot(name, FLAVOR)
        after = show.free_by_pool(cloud, K2_HOST)

        show.servers(step, cloud, [server])
        show.devices(step, cloud, [K2_HOST])
        show.pools(step, K2_HOST, before, after)
        show.guest(step, cloud, server)
        show.decision(step, decisions, verbose=False)

        step.expect("host chosen", K2_HOST, server.host)
        addresses = show.expect_running(
            step, cloud, server, devices=1, in_placement=False
        )
        step.expect(
            "states that the device went through",
            ["available", "claimed", "allocated"],
            cloud.device_states(addresses[0])[-3:] if addresses else [],
        )
        step.expect(
            "free devices in the pools, before and after",
            (sum(before.values()), sum(before.values()) - 1),
            (sum(before.values()), sum(after.values())),
        )
        step.expect(
            "what our filter said",
            ["GpuPciPassthroughFilter: 1 of 2 hosts: 1 no PCI devices"],
            decisions.summaries(),
        )
    return server


def refuse(
    story: record.Story, cloud: embedded.EmbeddedCloud, name: str
) -> None:
    """Try to boot a server for which no GPU is left."""
    with story.step(f"Boot {name}: no GPU is left") as step:
        decisions = cloud.decisions()
        server = cloud.boot(name, FLAVOR)
        show.servers(step, cloud, [server])
        show.decision(step, decisions)
        show.expect_refused(step, server)
        step.expect(
            "requests that our filter gave a reason for",
            ["GpuPciPassthroughFilter: 0 of 2 hosts"],
            [text.rpartition(": ")[0] for text in decisions.summaries()],
        )
        step.expect(
            "hosts that our filter gave a reason for",
            cloud.hosts,
            [
                host
                for host in cloud.hosts
                for text in decisions.refusals()
                if f"({host}, {host})" in text
            ],
        )
        # It is in the way of nothing, but Nova keeps it until it is deleted.
        cloud.delete(server)


def play(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> list[cloud_reader.Server]:
    """Play the chapter on a cloud that is not started yet.

    :returns: the two servers that run at its end; none if it was abandoned.
    """
    with story.chapter(1, "2016: two GRID K2, as the guide said"):
        with story.step(
            "A host with two GRID K2, a host with no GPU, nova.conf of 2016"
        ) as step:
            open_cloud(step, cloud)
            step.quote(
                f"demo/conf/{CONF}",
                [
                    line
                    for line in (embedded.CONF_DIR / CONF)
                    .read_text()
                    .splitlines()
                    if line.startswith("pci_")
                ],
            )
            show.devices(step, cloud, cloud.hosts)
            step.expect(
                "devices that Nova found",
                [
                    (K2_HOST, address, fake_machines.GRID_K2, "available")
                    for address in K2_ADDRESSES
                ],
                [
                    (
                        device.host,
                        device.address,
                        device.product,
                        device.status,
                    )
                    for host in cloud.hosts
                    for device in cloud.devices(host)
                ],
            )
            step.expect(
                "free devices in the pools", 2, show.free(cloud, K2_HOST)
            )
        first = boot(story, cloud, "gpu-1")
        second = boot(story, cloud, "gpu-2")
        refuse(story, cloud, "gpu-3")
        with story.step("Delete gpu-1: its GPU is free again") as step:
            [address] = cloud_reader.addresses(cloud.list_devices(first))
            cloud.delete(first)
            show.devices(step, cloud, [K2_HOST])
            step.expect(
                "states of its device",
                ["claimed", "allocated", "available"],
                cloud.device_states(address)[-3:],
            )
            step.expect(
                "free devices in the pools", 1, show.free(cloud, K2_HOST)
            )
        third = boot(story, cloud, "gpu-4")
        with story.step("gpu-4 has the GPU that gpu-1 had") as step:
            show.servers(step, cloud, [second, third])
            step.expect(
                "device of gpu-4",
                [address],
                cloud_reader.addresses(cloud.list_devices(third)),
            )
        return [second, third]
    return []
