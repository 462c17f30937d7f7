# SPDX-License-Identifier: Apache-2.0

"""Chapter 3: two HGX H100, every GPU a resource provider."""

from demo import chapter_upgrade
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines
from demo import record
from demo import show

CONF = "h100.conf"
PLACEMENT_CONF = "placement.conf"
HOSTS = ("hgx-1", "hgx-2")
GPUS_PER_HOST = 8
RESOURCE_CLASS = "CUSTOM_GPU_H100"
TRAITS = {"CUSTOM_GPU_NVSWITCH", "CUSTOM_GPU_80GB"}
SIZES = (4, 2, 1)


def flavor(gpus: int) -> str:
    """Name the flavor with so many GPUs."""
    return f"gpu.h100.{gpus}"


def play(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    """Play the chapter on a cloud that is not started yet.

    Where a server moves, the target has exactly as many free GPUs as it
    needs. With more, stock Nova does not keep Placement and its own tracker
    together: for a resize or a cold migration nova-compute makes the PCI
    requests anew from the flavor (``_move_claim`` in
    nova/compute/resource_tracker.py), so it claims the first devices that fit
    instead of those that the scheduler allocated, then adds its own to the
    allocation.
    """
    with story.chapter(3, "Today: two hosts with 8 H100 each"):
        _open_cloud(story, cloud)
        one = _boot(story, cloud, "h100-1", 1)
        [other] = [host for host in HOSTS if host != one.host]
        _boot(story, cloud, "h100-2", 2, host=other)
        four = _boot(story, cloud, "h100-4", 4, host=other)
        _resize(story, cloud, one)
        _boot(story, cloud, "h100-4-more", 4)
        _migrate_and_back(story, cloud, four)
        _fill(story, cloud)
        chapter_upgrade.refuse_by_placement(
            story, cloud, "h100-late", flavor(1)
        )
        _delete_and_boot(story, cloud, four)


def _open_cloud(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    with story.step(
        "Resource class and traits in the device spec; a provider a GPU"
    ) as step:
        cloud.start()
        for host in HOSTS:
            cloud.add_compute(host, fake_machines.hgx_h100())
        for gpus in SIZES:
            cloud.create_flavor(
                flavor(gpus), {"pci_passthrough:alias": f"h100:{gpus}"}
            )
        for name in (CONF, PLACEMENT_CONF):
            step.quote(
                f"demo/conf/{name}",
                [
                    line
                    for line in (embedded.CONF_DIR / name)
                    .read_text()
                    .splitlines()
                    if name == PLACEMENT_CONF
                    or line.startswith(("device_spec", "alias"))
                ],
            )
        providers = show.providers(step, cloud, HOSTS)
        step.expect(
            "GPUs in Placement", GPUS_PER_HOST * len(HOSTS), len(providers)
        )
        step.expect(
            "inventory of every provider",
            [{RESOURCE_CLASS: 1}],
            _distinct(provider.inventory for provider in providers),
        )
        step.expect(
            "traits of ours on every provider",
            [TRAITS],
            _distinct(TRAITS & {*provider.traits} for provider in providers),
        )
        step.expect(
            "free devices in the pools",
            GPUS_PER_HOST * len(HOSTS),
            show.free(cloud),
        )


def _boot(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    name: str,
    gpus: int,
    host: str | None = None,
) -> cloud_reader.Server:
    where = f" on {host}" if host else ""
    with story.step(f"Boot {name} with h100:{gpus}{where}") as step:
        before = show.free(cloud)
        server = cloud.boot(name, flavor(gpus), host=host)
        show.servers(step, cloud, [server])
        show.guest(step, cloud, server)
        if host:
            step.expect("host chosen", host, server.host)
        show.expect_running(
            step, cloud, server, devices=gpus, in_placement=True
        )
        step.expect(
            "free devices in the pools", before - gpus, show.free(cloud)
        )
    return server


def _resize(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
) -> None:
    """Resize to two GPUs and confirm, then down to one again and revert."""
    before = show.free(cloud)
    source = server.host
    with story.step(f"Resize {server.name} from h100:1 to h100:2") as step:
        resized = cloud.resize(server, flavor(2))
        show.servers(step, cloud, [resized])
        step.expect("state", "VERIFY_RESIZE", resized.status)
        step.expect("it moved", True, resized.host != source)
        step.expect(
            "free devices until it is confirmed: source and target hold",
            before - 2,
            show.free(cloud),
        )
        confirmed = cloud.confirm(server)
        show.expect_running(
            step, cloud, confirmed, devices=2, in_placement=True
        )
        step.expect(
            "free devices after it is confirmed", before - 1, show.free(cloud)
        )
    with story.step(
        f"Resize {server.name} back to h100:1, then think again"
    ) as step:
        held = cloud_reader.addresses(cloud.list_devices(server))
        host = cloud.show(server).host
        resized = cloud.resize(server, flavor(1))
        step.expect("state", "VERIFY_RESIZE", resized.status)
        step.expect("it moved", True, resized.host != host)
        reverted = cloud.revert(server)
        show.servers(step, cloud, [reverted])
        step.expect("host after the revert", host, reverted.host)
        step.expect(
            "devices after the revert",
            held,
            show.expect_running(
                step, cloud, reverted, devices=2, in_placement=True
            ),
        )
        step.expect("free devices in the pools", before - 1, show.free(cloud))


def _migrate_and_back(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
) -> None:
    home = cloud.show(server).host
    [away] = [host for host in HOSTS if host != home]
    before = show.free(cloud)
    for target in (away, home):
        with story.step(f"Cold migrate {server.name} to {target}") as step:
            migrated = cloud.migrate(server, target)
            step.expect("state", "VERIFY_RESIZE", migrated.status)
            confirmed = cloud.confirm(server)
            show.servers(step, cloud, [confirmed])
            step.expect("host", target, confirmed.host)
            show.expect_running(
                step, cloud, confirmed, devices=4, in_placement=True
            )
            step.expect("free devices in the pools", before, show.free(cloud))


def _fill(story: record.Story, cloud: embedded.EmbeddedCloud) -> None:
    """Give away the four GPUs that are left."""
    filled: list[cloud_reader.Server] = []
    with story.step("Fill both hosts") as step:
        for gpus in (2, 1, 1):
            server = cloud.boot(f"fill-{len(filled) + 1}", flavor(gpus))
            filled.append(server)
            show.expect_running(
                step, cloud, server, devices=gpus, in_placement=True
            )
        show.servers(step, cloud, filled)
        providers = show.providers(step, cloud, HOSTS)
        step.expect("free devices in the pools", 0, show.free(cloud))
        step.expect(
            "GPUs used in Placement",
            GPUS_PER_HOST * len(HOSTS),
            sum(provider.usage[RESOURCE_CLASS] for provider in providers),
        )


def _delete_and_boot(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    server: cloud_reader.Server,
) -> None:
    with story.step(
        f"Delete {server.name}, boot h100-again with h100:4"
    ) as step:
        held = cloud_reader.addresses(cloud.list_devices(server))
        host = cloud.show(server).host
        cloud.delete(server)
        step.expect("free devices in the pools", 4, show.free(cloud))
        again = cloud.boot("h100-again", flavor(4))
        show.servers(step, cloud, [again])
        show.guest(step, cloud, again)
        step.expect("host chosen", host, again.host)
        step.expect(
            f"devices: those that {server.name} had",
            held,
            show.expect_running(
                step, cloud, again, devices=4, in_placement=True
            ),
        )


def _distinct(values):
    """List each different value once."""
    found = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
