# SPDX-License-Identifier: Apache-2.0

"""Chapter 4: which GPUs, not only how many."""

from collections.abc import Sequence

from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines
from demo import record
from demo import show
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import topology as topologies

CONF = "topology.conf"
HGX_HOSTS = ("hgx-1", "hgx-2")
NVL_HOST = "nvl-1"

FLAVORS = {
    "h100.1": {"pci_passthrough:alias": "h100:1"},
    "h100.2": {"pci_passthrough:alias": "h100:2", "gpu:link": "fabric"},
    "h100.4": {"pci_passthrough:alias": "h100:4", "gpu:link": "fabric"},
    "h100.4.numa": {"pci_passthrough:alias": "h100:4", "hw:numa_nodes": "1"},
    "nvl.1": {"pci_passthrough:alias": "h100-nvl:1"},
    "nvl.2": {"pci_passthrough:alias": "h100-nvl:2", "gpu:link": "nvlink"},
    "nvl.2.preferred": {
        "pci_passthrough:alias": "h100-nvl:2",
        "gpu:link": "nvlink",
        "gpu:link_policy": "preferred",
    },
}
GPUS = {
    "h100.1": 1,
    "h100.2": 2,
    "h100.4": 4,
    "h100.4.numa": 4,
    "nvl.1": 1,
    "nvl.2": 2,
}


def play(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    """Play the chapter on a cloud that is not started yet.

    Placement has to run behind our extension: alone it offers every order of
    the same GPUs, and leaves the good ones out where its limit is reached.
    """
    with story.chapter(4, "Topology: which GPUs, not only how many"):
        _open_cloud(story, cloud)
        two, four = _fill_in_partitions(story, cloud)
        _give_back(story, cloud, two)
        halves = _boot_halves(story, cloud)
        _migrate(story, cloud, four, halves[0])
        _boot_on_one_node(story, cloud)
        lone = _use_bridges(story, cloud)
        _refuse(story, cloud, lone)
        _mistype(story, cloud)


def members(
    cloud: embedded.EmbeddedCloud, host: str, addresses: Sequence[str]
) -> int:
    """Return the set of devices of a host that have these addresses."""
    return topologies.make_mask(
        index
        for index, device in enumerate(cloud.devices(host))
        if device.address in addresses
    )


def is_partition(
    cloud: embedded.EmbeddedCloud, host: str, addresses: Sequence[str]
) -> bool:
    """Whether devices of a host are exactly one fabric partition."""
    topology = cloud.topology(host)
    return members(cloud, host, addresses) in topology.list_whole_partitions(
        len(addresses), topology.everything
    )


def weakest_link(
    cloud: embedded.EmbeddedCloud, host: str, addresses: Sequence[str]
) -> str:
    """Name the worst link between devices of a host."""
    topology = cloud.topology(host)
    return links.name(
        topology.find_weakest_link(members(cloud, host, addresses))
    )


def _open_cloud(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    with story.step(
        "The tag gpu_links in the device spec tells how GPUs are linked"
    ) as step:
        cloud.start()
        for host in HGX_HOSTS:
            cloud.add_compute(host, fake_machines.hgx_h100())
        cloud.add_compute(NVL_HOST, fake_machines.h100_nvl())
        for name, extra_specs in FLAVORS.items():
            cloud.create_flavor(name, extra_specs)
        specs = [
            line
            for line in (embedded.CONF_DIR / CONF).read_text().splitlines()
            if line.startswith("device_spec")
        ]
        step.quote(f"demo/conf/{CONF}", [specs[0], "...", specs[-1]])
        step.table(
            "Flavors",
            ("flavor", "extra specs"),
            [
                (name, " ".join(f"{k}={v}" for k, v in extra_specs.items()))
                for name, extra_specs in FLAVORS.items()
            ],
        )
        for host in (HGX_HOSTS[0], NVL_HOST):
            show.topology(step, cloud, host)
        step.expect(
            "hosts where the traits in Placement say what the tags say",
            cloud.hosts,
            [
                host
                for host in cloud.hosts
                if cloud.topology(host) == _by_tags(cloud, host)
            ],
        )


def _by_tags(cloud: embedded.EmbeddedCloud, host: str) -> topologies.Topology:
    """Return how the devices of an empty host are linked, as pools tell."""
    pools = sorted(cloud.pools(host), key=lambda pool: pool["address"])
    return host_topologies.build_from_pools(
        [
            (pool["address"], pool["gpu_links"], pool["numa_node"])
            for pool in pools
        ]
    )


def _boot(
    step: record.Step,
    cloud: embedded.EmbeddedCloud,
    name: str,
    flavor: str,
    host: str | None = None,
) -> cloud_reader.Server:
    """Boot a server and expect what holds for all."""
    server = cloud.boot(name, flavor, host=host)
    addresses = show.expect_running(
        step, cloud, server, devices=GPUS[flavor], in_placement=True
    )
    if server.host in HGX_HOSTS:
        _expect_partition(step, cloud, server, addresses)
    return server


def _expect_partition(
    step: record.Step,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
    addresses: Sequence[str],
) -> None:
    step.expect(
        f"the GPUs of {server.name} are a whole fabric partition",
        True,
        is_partition(cloud, server.host or "", addresses),
    )


def _fill_in_partitions(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> list[cloud_reader.Server]:
    """Fill a host with servers of 1, 2, 4 and 1 GPUs.

    :returns: those with 2 and with 4.
    """
    with story.step(
        "Boot servers with 1, 2, 4 and 1 GPUs: whole fabric partitions"
    ) as step:
        servers = [
            _boot(step, cloud, name, flavor)
            for name, flavor in (
                ("one", "h100.1"),
                ("two", "h100.2"),
                ("four", "h100.4"),
                ("one-more", "h100.1"),
            )
        ]
        show.servers(step, cloud, servers)
        host = servers[0].host or ""
        show.topology(step, cloud, host)
        step.expect(
            "hosts that they share, since weighers keep the other one whole",
            1,
            len({server.host for server in servers}),
        )
        singles = [
            address
            for server in (servers[0], servers[3])
            for address in cloud_reader.addresses(cloud.list_devices(server))
        ]
        step.expect(
            "the two with 1 GPU share a partition, and break no other",
            True,
            is_partition(cloud, host, singles),
        )
    return servers[1:3]


def _give_back(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    two: cloud_reader.Server,
) -> None:
    with story.step(
        f"Delete {two.name}, boot two-again: the partition is free again"
    ) as step:
        held = cloud_reader.addresses(cloud.list_devices(two))
        cloud.delete(two)
        again = _boot(step, cloud, "two-again", "h100.2")
        show.topology(step, cloud, again.host or "")
        step.expect(
            f"devices: those that {two.name} had",
            (two.host, held),
            (again.host, cloud_reader.addresses(cloud.list_devices(again))),
        )


def _boot_halves(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> list[cloud_reader.Server]:
    with story.step(
        "One request for two servers with 4 GPUs: both halves of a host"
    ) as step:
        halves = cloud.boot_many("half", "h100.4", 2)
        show.topology(step, cloud, halves[0].host or "")
        for half in halves:
            addresses = show.expect_running(
                step, cloud, half, devices=4, in_placement=True
            )
            _expect_partition(step, cloud, half, addresses)
        step.expect(
            "hosts that they share", 1, len({half.host for half in halves})
        )
    return halves


def _migrate(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
    leaving: cloud_reader.Server,
) -> None:
    with story.step(
        f"Delete {leaving.name}, cold migrate {server.name} to its place"
    ) as step:
        held = cloud_reader.addresses(cloud.list_devices(leaving))
        cloud.delete(leaving)
        cloud.migrate(server)
        moved = cloud.confirm(server)
        for host in HGX_HOSTS:
            show.topology(step, cloud, host)
        addresses = show.expect_running(
            step, cloud, moved, devices=4, in_placement=True
        )
        step.expect(
            f"devices: those that {leaving.name} had",
            (leaving.host, held),
            (moved.host, addresses),
        )
        _expect_partition(step, cloud, moved, addresses)


def _boot_on_one_node(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> None:
    with story.step(
        "hw:numa_nodes=1: four GPUs of one NUMA node of the host"
    ) as step:
        server = _boot(step, cloud, "one-node", "h100.4.numa")
        show.topology(step, cloud, server.host or "")
        held = cloud_reader.addresses(cloud.list_devices(server))
        step.expect(
            "NUMA nodes that its GPUs are on",
            1,
            len(
                {
                    device.numa_node
                    for device in cloud.devices(server.host or "")
                    if device.address in held
                }
            ),
        )


def _use_bridges(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> cloud_reader.Server:
    """Boot servers on the host with bridges.

    :returns: the one that has a GPU without a bridge.
    """
    with story.step(
        "PCIe boards: one GPU without a bridge, two GPUs with one, twice"
    ) as step:
        lone = _boot(step, cloud, "nvl-one", "nvl.1")
        pairs = [
            _boot(step, cloud, f"nvl-two-{number}", "nvl.2")
            for number in (1, 2)
        ]
        show.topology(step, cloud, NVL_HOST)
        [address] = cloud_reader.addresses(cloud.list_devices(lone))
        topology = cloud.topology(NVL_HOST)
        near = topology.find_neighbors(links.make_nvlink(1))
        device = members(cloud, NVL_HOST, [address]).bit_length() - 1
        step.expect(
            f"GPUs that a bridge joins with {address}", 0, near[device]
        )
        for pair in pairs:
            step.expect(
                f"weakest link of {pair.name}",
                "NV12",
                weakest_link(
                    cloud,
                    NVL_HOST,
                    cloud_reader.addresses(cloud.list_devices(pair)),
                ),
            )
    return lone


def _refuse(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    lone: cloud_reader.Server,
) -> None:
    with story.step(
        f"Delete {lone.name}: no bridge joins the two free GPUs, so required"
        " is refused, preferred goes on"
    ) as step:
        cloud.delete(lone)
        show.topology(step, cloud, NVL_HOST)
        decisions = cloud.decisions()
        refused = cloud.boot("nvl-two-3", "nvl.2")
        show.decision(step, decisions)
        show.expect_refused(step, refused)
        free = [
            device.address
            for device in cloud.devices(NVL_HOST)
            if device.server is None
        ]
        [reason] = decisions.refusals() or [""]
        step.expect(
            "the reason",
            "h100-nvl asks for 2 with gpu:link=nvlink; 2 free, largest nvlink"
            " set 1",
            reason.rpartition("links asked for: ")[2].rpartition(": ")[0],
        )
        step.expect(
            "cure in the reason",
            "would fit without gpu:link",
            reason.rpartition("; ")[2],
        )
        cloud.delete(refused)
        server = cloud.boot("nvl-two-4", "nvl.2.preferred")
        show.topology(step, cloud, NVL_HOST)
        addresses = show.expect_running(
            step, cloud, server, devices=2, in_placement=True
        )
        step.expect(f"devices of {server.name}", free, addresses)


def _mistype(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    bad = {"gpu:link": "nvlnk"}
    with story.step("A flavor with gpu:link=nvlnk") as step:
        cloud.create_flavor("typo", {"pci_passthrough:alias": "h100:2"})
        message = cloud.set_extra_specs("typo", bad)
        step.quote("nova-api", [message or "accepted"])
        step.expect(
            "nova-api lists the good values",
            ", ".join(requirement.value for requirement in links.Requirement),
            (message or "").rpartition("one of: ")[2].rstrip("."),
        )
        # Microversion 2.86 brought validation.
        message = cloud.set_extra_specs("typo", bad, microversion="2.85")
        step.expect("what nova-api of 2.85 says", None, message)
        decisions = cloud.decisions()
        server = cloud.boot("typo", "typo")
        show.decision(step, decisions)
        show.expect_refused(step, server)
        for part in ("flavor typo", "gpu:link", "'nvlnk'"):
            step.expect(
                f"reasons that name {part}",
                len(decisions.refusals()),
                sum(part in text for text in decisions.refusals()),
            )
