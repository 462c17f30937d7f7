# SPDX-License-Identifier: Apache-2.0

"""A partition that cannot be activated: Nova builds on another host, and the
agent keeps later servers away from its GPUs.

Nova, Placement, our filter, the agent and the hook are real; libvirt is Nova's
fake one, which calls the hook as libvirt does.
"""

import contextlib
import io
import sys
import time
from unittest import mock

import fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
import pytest

from demo import chapter_topology
from demo import cloud as embedded
from demo import fake_machines
from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import cleaning
from nova_gpu_filter.agent import daemon
from nova_gpu_filter.agent import domains
from nova_gpu_filter.agent import keeper
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import libvirt_hook
from nova_gpu_filter.agent import providers
from nova_gpu_filter.agent import requests
from nova_gpu_filter.agent.fabric import service
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.fleet import api
from tests import sysfs_trees
from tests.functional.osc import shell
from tests.unit.agent import fakes
from tests.unit.agent.fabric import managers

HOSTS = ("hgx-1", "hgx-2")
OTHER = dict(zip(HOSTS, reversed(HOSTS), strict=True))
FLAVOR = "h100.2"
PAIRS = 4
"""Partitions of two GPUs that a host has."""
PASSES = 20
"""In which an agent at the latest has cleaned all devices of a host."""


class Host:
    """The agent of one host, whose passes the test makes."""

    def __init__(self, name, path, devices, conf, placement):
        self.manager = managers.Manager(path / "fm")
        self.libvirt = fakes.Libvirt(name)
        self.started = []
        """The devices of each guest that was to start."""
        tree = sysfs_trees.Host(path / "host", name)
        tree.nodes(2)
        tree.iommu()
        for group, address in enumerate(devices, 40):
            tree.add(
                sysfs_trees.Pci(
                    address,
                    f"pci{address[:7]}",
                    "10de:2330",
                    0x030200,
                    group=group,
                    driver="vfio-pci",
                    bars=(16 << 20, 128 << 30, 32 << 20),
                )
            )
            tree.write(f"/sys/bus/pci/devices/{address}/reset", "")
        options = path / "agent.conf"
        options.write_text(
            "[gpu_agent]\n"
            f"fabric_manager = {self.manager.path}\n"
            f"fabric_library = {managers.build()}\n"
        )
        settings = daemon.read_options([str(options)]).gpu_agent
        self._ledger = ledger_lib.Ledger(str(path / "ledger"))
        self._domains = domains.Libvirt("qemu:///system", self.libvirt)
        self._root = tree.root
        fabric = service.Service(
            settings,
            [conf],
            self._ledger,
            self._domains,
            lambda: None,
            str(tree.root),
        )
        self._requests = requests.Requests(lambda: None, fabric)
        self.keeper = self._make_keeper(name, path, tree, placement)

    def _make_keeper(self, name, path, tree, placement):
        bus = bus_lib.Bus(str(tree.root))
        cleaner = cleaning.Cleaner(
            bus,
            hooks=str(path / "hooks"),
            hook_seconds=10.0,
            tool_seconds=10.0,
            settle_seconds=0.0,
            corrected_errors=1000,
            gpu_admin_tools="",
        )
        return keeper.Keeper(
            self._ledger,
            providers.Providers(
                api.make_getter(
                    placement, "Placement", providers.MICROVERSION
                ),
                api.make_sender(
                    placement, "Placement", providers.MICROVERSION
                ),
                name,
            ),
            self._domains,
            bus,
            cleaner,
            submit=lambda clean: clean(),
            all_devices=True,
            reserve_in_use=True,
            corrected_errors=1000,
        )

    def call_hook(self, xml, operation, part):
        """Call the hook: (exit code, errors).

        In this process and without a socket, which would wait for ever for
        Nova's green threads.
        """
        with (
            mock.patch.object(libvirt_hook, "ask", self._answer),
            mock.patch.object(
                libvirt_hook, "DEVICES", f"{self._root}/sys/bus/pci/devices"
            ),
            mock.patch.object(sys, "stdin", io.StringIO(xml)),
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            code = libvirt_hook.main(["vm", operation, part, "-"])
        return code, errors.getvalue()

    def _answer(self, operation, uuid, xml):
        request = {"command": f"fabric-{operation}", "uuid": uuid, "xml": xml}
        return self._requests.answer(request, "root").get("error")

    def states(self):
        """Return the state of each device."""
        return {one.address: one.state for one in self.keeper.list_records()}

    def stop(self):
        """Close the ledger."""
        self._ledger.close()


@pytest.fixture
def cloud():
    """A cloud of two HGX H100 with their tags."""
    with embedded.EmbeddedCloud(
        chapter_topology.CONF, extend_placement=True
    ) as running:
        for name in HOSTS:
            running.add_compute(name, fake_machines.hgx_h100())
        running.create_flavor(FLAVOR, chapter_topology.FLAVORS[FLAVOR])
        yield running


@pytest.fixture
def hosts(cloud, tmp_path):
    """The agents, which have cleaned all GPUs; libvirt calls their hooks."""
    conf = str(embedded.CONF_DIR / chapter_topology.CONF)
    placement = shell.connection(cloud).placement
    made = {}
    for name in HOSTS:
        path = tmp_path / name
        path.mkdir()
        devices = [one.address for one in cloud.devices(name)]
        made[name] = Host(name, path, devices, conf, placement)
    have_libvirt_call_hooks(cloud, made)
    for host in made.values():
        for _pass in range(PASSES):
            host.keeper.run_once()
            if set(host.states().values()) == {State.FREE}:
                break
            # Nova may be about to write its devices to Placement.
            time.sleep(0.5)
        else:
            raise AssertionError((host.keeper.blind, host.states()))
    yield made
    for host in made.values():
        host.stop()


def have_libvirt_call_hooks(cloud, hosts):
    """Have Nova's fake libvirt do at a start what libvirt does."""
    start = fakelibvirt.Domain.createWithFlags

    def find_host(domain):
        for name, compute in cloud.services.computes.items():
            if (
                compute.manager.driver._host.get_connection()
                is domain._connection
            ):
                return name
        raise AssertionError("no host has this domain")

    def create(domain, flags):
        name = find_host(domain)
        host, uuid = hosts[name], domain.UUIDString()
        xml = cloud.services.domain_xml[name][uuid]
        devices = frozenset(domains.parse_hostdevs(xml))
        host.started.append(devices)
        code, errors = host.call_hook(xml, "prepare", "begin")
        if code:
            # qemuProcessInit of src/qemu/qemu_process.c stops the domain,
            # which calls the hook for its release.
            host.call_hook(xml, "release", "end")
            # virHookCall of src/util/virhook.c
            raise fakelibvirt.make_libvirtError(
                fakelibvirt.libvirtError,
                f"Hook script execution failed: {errors}",
                error_code=fakes.Libvirt.VIR_ERR_HOOK_SCRIPT_FAILED,
            )
        running = fakes.Domain(xml=xml)
        running.uuid = uuid
        host.libvirt.domains.append(running)
        start(domain, flags)

    cloud.services.useFixture(
        fixtures.MockPatchObject(fakelibvirt.Domain, "createWithFlags", create)
    )


def test_a_partition_that_fails_costs_one_try_and_gets_no_server_again(
    cloud, hosts
):
    before = cloud.boot("before", FLAVOR)
    # Where the next one is tried first: the weighers fill this host.
    there, other = hosts[before.host], hosts[OTHER[before.host]]
    active = there.manager.active()
    assert len(active) == 1

    there.manager.inject("fail fmActivateFabricPartition -10 1")
    moved = cloud.boot("moved", FLAVOR)
    assert (moved.status, moved.host) == ("ACTIVE", OTHER[before.host])
    [_, failed] = there.started
    assert len(other.manager.active()) == 1
    assert there.manager.active() == active

    there.keeper.run_once()
    quarantined = {
        address
        for address, state in there.states().items()
        if state is State.QUARANTINED
    }
    assert quarantined == failed
    # All others get a server each, at once, and then there is nothing left.
    servers = cloud.boot_many("more", FLAVOR, 2 * PAIRS - 3)
    assert {one.status for one in servers} == {"ACTIVE"}
    assert cloud.boot("last", FLAVOR).status == "ERROR"
    assert failed not in there.started[2:]
    assert (len(there.started), len(other.started)) == (PAIRS, PAIRS)
    assert len(there.manager.active()) == PAIRS - 1
    assert len(other.manager.active()) == PAIRS
