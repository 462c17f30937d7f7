# SPDX-License-Identifier: Apache-2.0

"""Servers with many GPUs, on Placement with the extension and its defaults."""

import collections
from concurrent import futures
import contextlib
import logging
import time

import pytest

from demo import chapter_h100
from demo import cloud as embedded
from demo import fake_machines

# isort: split

from nova import context as nova_context

HOSTS = ("hgx-1", "hgx-2")
SIZES = (1, 2, 4, 6, 8)


@pytest.fixture
def _patient_cells(cloud, monkeypatch):
    """Let threads of several cells wait for each other as long as it takes.

    Nova's fixture has one database connection for all cells. A thread that
    does not get it for its cell at the third attempt raises RuntimeError,
    which a server then shows as its fault (nova/tests/fixtures/nova.py,
    ``_wrap_target_cell``). That is none of the failures looked for here.
    """
    target_cell = nova_context.target_cell

    @contextlib.contextmanager
    def wait(context, cell_mapping):
        with contextlib.ExitStack() as stack:
            for _ in range(1000):
                with contextlib.suppress(RuntimeError):
                    targeted = stack.enter_context(
                        target_cell(context, cell_mapping)
                    )
                    break
                time.sleep(0.01)
            yield targeted

    monkeypatch.setattr(nova_context, "target_cell", wait)


def _flavor(gpus):
    return f"gpu{gpus}"


@pytest.fixture
def cloud(tmp_path):
    """Two HGX H100; placement.conf sets nothing."""
    placement_conf = tmp_path / "placement.conf"
    placement_conf.touch()
    quota_conf = tmp_path / "quota.conf"
    quota_conf.write_text("[quota]\ninstances = -1\ncores = -1\nram = -1\n")
    with embedded.EmbeddedCloud(
        chapter_h100.CONF,
        quota_conf,
        placement_conf=placement_conf,
        extend_placement=True,
    ) as running:
        for host in HOSTS:
            running.add_compute(host, fake_machines.hgx_h100())
        for gpus in SIZES:
            running.create_flavor(
                _flavor(gpus), {"pci_passthrough:alias": f"h100:{gpus}"}
            )
        yield running


def _holders(cloud):
    """Map the name of each server to the GPUs that it holds."""
    holders = collections.defaultdict(list)
    for host in cloud.hosts:
        for device in cloud.devices(host):
            if device.server is not None:
                holders[device.server].append(device.address)
    return holders


def _check(cloud, servers):
    """Placement, the PCI tracker and libvirt agree on who has what."""
    for server in servers:
        expected = sorted(d.address for d in cloud.list_devices(server))
        assert cloud.allocated_addresses(server) == expected
        if server.status == "ACTIVE":
            assert cloud.hostdev_addresses(server) == expected
        else:
            assert not expected
    for host in cloud.hosts:
        for provider in cloud.providers(host):
            for rc, used in provider.usage.items():
                assert used <= provider.inventory[rc]


def test_flavors_of_6_and_8_boot(cloud, caplog):
    caplog.set_level(logging.DEBUG, "nova_gpu_filter.placement")
    servers = [
        cloud.boot("six", _flavor(6)),
        cloud.boot("eight", _flavor(8)),
        cloud.boot("two", _flavor(2)),
    ]
    assert [server.status for server in servers] == ["ACTIVE"] * 3
    composed = [
        record
        for record in caplog.records
        if record.getMessage().startswith("Composed ")
    ]
    assert len(composed) >= 3
    _check(cloud, servers)
    assert len(cloud.list_devices(servers[0])) == 6
    assert len(cloud.list_devices(servers[1])) == 8
    assert servers[2].host == servers[0].host


def test_what_does_not_fit_is_refused_and_fits_later(cloud):
    servers = [cloud.boot(f"six-{i}", _flavor(6)) for i in range(2)]
    refused = cloud.boot("eight", _flavor(8))
    assert refused.status == "ERROR"
    assert "No valid host" in refused.fault
    cloud.delete(servers[0])
    assert cloud.boot("eight-again", _flavor(8)).status == "ACTIVE"


@pytest.mark.usefixtures("_patient_cells")
def test_of_20_servers_at_once_as_many_start_as_fit(cloud):
    # 16 GPUs; every server asks for two.
    with futures.ThreadPoolExecutor(20) as pool:
        servers = list(
            pool.map(
                lambda number: cloud.boot(f"burst-{number}", _flavor(2)),
                range(20),
            )
        )
    started = [server for server in servers if server.status == "ACTIVE"]
    failed = [server for server in servers if server.status != "ACTIVE"]
    _check(cloud, servers)
    for server in failed:
        assert server.status == "ERROR"
        assert "No valid host" in server.fault
    # Nothing is lost: what is free now can be given.
    for attempt in range(8 - len(started)):
        more = cloud.boot(f"later-{attempt}", _flavor(2))
        assert more.status == "ACTIVE"
        started.append(more)
    assert len(started) == 8
    held = [d for found in _holders(cloud).values() for d in found]
    assert len(held) == 16
    full = cloud.boot("one-too-many", _flavor(1))
    assert full.status == "ERROR"
