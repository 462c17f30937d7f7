# SPDX-License-Identifier: Apache-2.0

"""Chapter 2: the cloud of chapter 1 learns PCI in Placement, in place."""

from collections.abc import Sequence

from demo import chapter_2016
from demo import cloud as embedded
from demo import cloud_reader
from demo import record
from demo import show

REPORT_CONF = "report-in-placement.conf"
SCHEDULE_CONF = "pci-in-placement.conf"
RESOURCE_CLASS = "CUSTOM_PCI_10DE_11BF"
"""Nova's default for a device spec without a resource class."""

_K2_HOST = chapter_2016.K2_HOST


def _conf_lines(name: str) -> list[str]:
    return [
        line
        for line in (embedded.CONF_DIR / name).read_text().splitlines()
        if line and not line.startswith("#")
    ]


def _expect_servers_live_on(
    step: record.Step,
    cloud: embedded.EmbeddedCloud,
    servers: Sequence[cloud_reader.Server],
    held_before: dict[str, list[str]],
    in_placement: bool,
) -> None:
    for server in servers:
        step.expect(
            f"devices of {server.name}, as before",
            held_before[server.name],
            show.expect_running(
                step, cloud, server, devices=1, in_placement=in_placement
            ),
        )


def play(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    servers: Sequence[cloud_reader.Server],
) -> None:
    """Play the chapter.

    :param servers: the two that chapter 1 left; if it was not told, the cloud
        is not started yet, and two are booted here.
    """
    with story.chapter(2, "The upgrade in place: PCI devices in Placement"):
        with story.step(
            "Two servers run; Placement knows nothing of their GPUs"
        ) as step:
            if not servers:
                chapter_2016.open_cloud(step, cloud)
                servers = [
                    cloud.boot(name, chapter_2016.FLAVOR)
                    for name in ("gpu-2", "gpu-4")
                ]
            show.servers(step, cloud, servers)
            held = {
                server.name: list(
                    show.expect_running(
                        step, cloud, server, devices=1, in_placement=False
                    )
                )
                for server in servers
            }
            step.expect(
                "PCI devices in Placement", [], cloud.providers(_K2_HOST)
            )

        with story.step(
            "report_in_placement on the hosts, restart nova-compute"
        ) as step:
            cloud.configure(chapter_2016.CONF, REPORT_CONF)
            for host in cloud.hosts:
                cloud.restart_compute(host)
            step.quote(f"demo/conf/{REPORT_CONF}", _conf_lines(REPORT_CONF))
            providers = show.providers(step, cloud, [_K2_HOST])
            servers = [cloud.show(server) for server in servers]
            show.servers(step, cloud, servers)
            step.expect(
                "providers of the host: total and used",
                [
                    (address, {RESOURCE_CLASS: 1}, {RESOURCE_CLASS: 1})
                    for address in chapter_2016.K2_ADDRESSES
                ],
                [
                    (provider.address, provider.inventory, provider.usage)
                    for provider in providers
                ],
            )
            # Nova healed the allocations of the servers that it found.
            _expect_servers_live_on(
                step, cloud, servers, held, in_placement=True
            )

        # The control plane still asks the pools alone: our filter says why.
        chapter_2016.refuse(story, cloud, "gpu-5")

        with story.step(
            "pci_in_placement on the control plane, restart nova-scheduler"
        ) as step:
            cloud.configure(chapter_2016.CONF, REPORT_CONF, SCHEDULE_CONF)
            cloud.restart_scheduler()
            step.quote(
                f"demo/conf/{SCHEDULE_CONF}", _conf_lines(SCHEDULE_CONF)
            )
            servers = [cloud.show(server) for server in servers]
            show.servers(step, cloud, servers)
            _expect_servers_live_on(
                step, cloud, servers, held, in_placement=True
            )

        leaving, staying = servers
        with story.step(
            f"Delete {leaving.name}, boot gpu-6: it lands as before"
        ) as step:
            cloud.delete(leaving)
            step.expect("free devices in the pools", 1, show.free(cloud))
            server = cloud.boot("gpu-6", chapter_2016.FLAVOR)
            show.servers(step, cloud, [staying, server])
            show.providers(step, cloud, [_K2_HOST])
            show.guest(step, cloud, server)
            step.expect("host chosen", _K2_HOST, server.host)
            step.expect(
                f"device of gpu-6 is the one that {leaving.name} had",
                held[leaving.name],
                show.expect_running(
                    step, cloud, server, devices=1, in_placement=True
                ),
            )
            _expect_servers_live_on(
                step, cloud, [staying], held, in_placement=True
            )

        refuse_by_placement(story, cloud, "gpu-7", chapter_2016.FLAVOR)


def refuse_by_placement(
    story: record.Story,
    cloud: embedded.EmbeddedCloud,
    name: str,
    flavor: str,
) -> None:
    """Try to boot a server for which Placement has no candidate.

    No filter is asked then, so the reason is the scheduler's own.
    """
    with story.step(
        f"Boot {name} ({flavor}): Placement has none left"
    ) as step:
        decisions = cloud.decisions()
        server = cloud.boot(name, flavor)
        show.servers(step, cloud, [server])
        show.decision(step, decisions)
        show.expect_refused(step, server)
        step.expect(
            "the reason: the scheduler got no allocation candidates",
            1,
            len(decisions.without_candidates()),
        )
        step.expect("our filter was not asked", [], decisions.summaries())
        cloud.delete(server)
