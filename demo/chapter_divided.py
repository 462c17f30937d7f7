# SPDX-License-Identifier: Apache-2.0

"""Chapter 5: GPUs that several servers share: VFs and mediated devices."""

import importlib.metadata

from demo import chapter_upgrade
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines
from demo import mediated
from demo import record
from demo import show

CONF = "divided.conf"
VF_HOST = "vf-1"
MDEV_HOST = "mdev-1"
VF_CLASS = "CUSTOM_GPU_A40_8Q"
VGPU = "VGPU"

_TWO_VGPUS = {
    "resources1:VGPU": "1",
    "resources2:VGPU": "1",
    "group_policy": "none",
}
FLAVORS = {
    "vf.1": {"pci_passthrough:alias": "a40-8q:1"},
    "vf.2.spread": {
        "pci_passthrough:alias": "a40-8q:2",
        "gpu:spread": "spread",
    },
    "vf.2.pack": {"pci_passthrough:alias": "a40-8q:2", "gpu:spread": "pack"},
    "vgpu.2.spread": {**_TWO_VGPUS, "gpu:spread": "spread"},
    "vgpu.2.pack": {**_TWO_VGPUS, "gpu:spread": "pack"},
    "vgpu.17": {"resources:VGPU": "17"},
}


def play(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    """Play the chapter on a cloud that is not started yet."""
    with story.chapter(5, "Divided GPUs: VFs and mediated devices"):
        _open_cloud(story, cloud)
        servers = _boot_with_vfs(story, cloud)
        _fill_and_give_back(story, cloud, servers)
        _boot_with_vgpus(story, cloud)
        chapter_upgrade.refuse_by_placement(story, cloud, "vgpu-17", "vgpu.17")


def _taken(
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
    resource_class: str,
) -> dict[str, int]:
    """Say how much a server has of each GPU, in Placement."""
    return {
        provider: amounts[resource_class]
        for provider, amounts in cloud.allocations(server).items()
        if resource_class in amounts
    }


def _nova_series() -> int:
    return int(importlib.metadata.version("nova").partition(".")[0])


def _mdevs(cloud: embedded.EmbeddedCloud, server: cloud_reader.Server) -> int:
    """Count the mediated devices in the domain XML of a server."""
    return sum(
        "type='mdev'" in x.replace('"', "'") for x in cloud.hostdevs(server)
    )


def _open_cloud(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    with story.step(
        "One host gives VFs of its GPUs away, the other mediated devices"
    ) as step:
        cloud.start()
        cloud.add_compute(VF_HOST, fake_machines.a40_with_vfs())
        mediated.add_compute(cloud, MDEV_HOST)
        for name, extra_specs in FLAVORS.items():
            cloud.create_flavor(name, extra_specs)
        step.quote(
            f"demo/conf/{CONF}",
            [
                line
                for line in (embedded.CONF_DIR / CONF).read_text().splitlines()
                if line.startswith(("device_spec", "alias", "enabled_mdev"))
            ],
        )
        found = show.providers(step, cloud, [VF_HOST, MDEV_HOST])
        step.expect(
            "providers: one for each GPU, with what it can be divided into",
            [{VF_CLASS: 4}] * 2 + [{VGPU: 16}] * 2,
            [provider.inventory for provider in found],
        )


def _boot_with_vfs(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> list[cloud_reader.Server]:
    """Boot servers with two VFs.

    :returns: the one with VFs of both GPUs, and the one with those of one.
    """
    with story.step(
        "Two VFs: gpu:spread takes them of two GPUs, or of one"
    ) as step:
        servers = [
            cloud.boot("vfs-spread", "vf.2.spread"),
            cloud.boot("vfs-pack", "vf.2.pack"),
        ]
        show.servers(step, cloud, servers)
        show.guest(step, cloud, servers[0])
        for server, taken in zip(servers, ([1, 1], [2]), strict=True):
            name = server.name
            held = cloud_reader.addresses(cloud.list_devices(server))
            step.expect(
                f"state and host of {name}",
                ("ACTIVE", VF_HOST),
                (server.status, server.host),
            )
            step.expect(
                f"VFs of each GPU that {name} has in Placement",
                taken,
                sorted(_taken(cloud, server, VF_CLASS).values()),
            )
            step.expect(
                f"GPUs of {name} by the PCI tracker",
                len(taken),
                len({address.rpartition(".")[0] for address in held}),
            )
            step.expect(
                f"devices in the domain XML of {name}",
                held,
                cloud.hostdev_addresses(server),
            )
            step.expect(
                f"devices of {name} that libvirt leaves to their driver",
                2,
                sum(
                    "managed='no'" in text.replace('"', "'")
                    for text in cloud.hostdevs(server)
                ),
            )
    return servers


def _fill_and_give_back(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    servers: list[cloud_reader.Server],
) -> None:
    spread, packed = servers
    with story.step("Fill the host with VFs, and give some back") as step:
        more = cloud.boot_many("vf", "vf.1", 4)
        step.expect(
            "states of four servers with a VF",
            {"ACTIVE"},
            {server.status for server in more},
        )
        step.expect("free VFs", 0, show.free(cloud, VF_HOST))
        late = cloud.boot("vfs-late", "vf.2.pack")
        show.expect_refused(step, late)
        cloud.delete(late)
        held = _taken(cloud, packed, VF_CLASS)
        cloud.delete(packed)
        again = cloud.boot("vfs-again", "vf.2.pack")
        show.servers(step, cloud, [spread, *more, again])
        step.expect(
            f"VFs of the GPU that {packed.name} had",
            held,
            _taken(cloud, again, VF_CLASS),
        )


def _boot_with_vgpus(
    story: record.Story, cloud: embedded.EmbeddedCloud
) -> None:
    with story.step(
        "Two mediated devices: the same, by Placement's groups alone"
    ) as step:
        servers = [
            cloud.boot("vgpus-spread", "vgpu.2.spread"),
            cloud.boot("vgpus-pack", "vgpu.2.pack"),
        ]
        step.table(
            "Servers",
            ("server", "state", "host", "VGPU in Placement"),
            [
                (
                    server.name,
                    server.status,
                    server.host or "",
                    " ".join(
                        f"{provider}:{amount}"
                        for provider, amount in _taken(
                            cloud, server, VGPU
                        ).items()
                    ),
                )
                for server in servers
            ],
        )
        show.guest(step, cloud, servers[0])
        for server, taken in zip(servers, ([1, 1], [2]), strict=True):
            step.expect(
                f"state and host of {server.name}",
                ("ACTIVE", MDEV_HOST),
                (server.status, server.host),
            )
            step.expect(
                f"VGPU of each GPU that {server.name} has in Placement",
                taken,
                sorted(_taken(cloud, server, VGPU).values()),
            )
            step.expect(
                f"mediated devices in the domain XML of {server.name}",
                # Older ones look up the first allocation only
                # (``_allocate_mdevs`` in nova/virt/libvirt/driver.py).
                sum(taken) if _nova_series() >= 33 else taken[0],
                _mdevs(cloud, server),
            )
