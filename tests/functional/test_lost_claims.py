# SPDX-License-Identifier: Apache-2.0

"""What a server gets when others claim between the question and its claim."""

from nova.scheduler.client import report
from oslo_utils import uuidutils
import pytest

from demo import chapter_topology
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines
from nova_gpu_filter.scheduler import free_devices

HOST = "hgx"
CLASS = "CUSTOM_GPU_H100"
AMOUNT = (CLASS, 1)


@pytest.fixture
def cloud(tmp_path):
    """One host with eight GPUs; Placement lists two sets for it."""
    conf = tmp_path / "sets.conf"
    conf.write_text("[gpu_filter]\nmax_sets_per_tree = 2\n")
    with embedded.EmbeddedCloud(
        chapter_topology.CONF, conf, extend_placement=True
    ) as cloud:
        cloud.add_compute(HOST, fake_machines.hgx_h100())
        cloud.create_flavor("four", {"pci_passthrough:alias": "h100:4"})
        yield cloud


@pytest.fixture
def race(monkeypatch):
    """Have others claim GPUs before the next claim of a server.

    :returns: a function, which takes what chooses the providers that others
        claim; and a list with those of each claim that was tried.
    """
    claim = report.SchedulerReportClient.claim_resources
    choosers, tried = [], []

    def claim_late(self, context, consumer, request, *args, **kwargs):
        devices = {
            uuid
            for uuid, one in request["allocations"].items()
            if CLASS in one["resources"]
        }
        tried.append(devices)
        while choosers:
            root = request["mappings"][""][0]
            free = free_devices.list_free(root, [AMOUNT])[AMOUNT]
            taken = choosers.pop()(devices, free)
            answer = self.put(
                f"/allocations/{uuidutils.generate_uuid()}",
                {
                    "allocations": {
                        uuid: {"resources": {CLASS: 1}} for uuid in taken
                    },
                    "project_id": context.project_id,
                    "user_id": context.user_id,
                    "consumer_generation": None,
                },
                version="1.28",
            )
            assert answer.status_code == 204, answer.text
        return claim(self, context, consumer, request, *args, **kwargs)

    monkeypatch.setattr(
        report.SchedulerReportClient, "claim_resources", claim_late
    )
    return choosers.append, tried


def _take_one_of_each_half(devices, free):
    return {min(devices), min(free - devices)}


def test_a_server_gets_a_set_that_was_not_listed(cloud, race):
    happens, tried = race
    happens(_take_one_of_each_half)

    server = cloud.boot("four", "four")

    assert server.status == "ACTIVE"
    gpus = cloud.allocated_addresses(server)
    assert len(gpus) == 4
    assert gpus == cloud_reader.addresses(cloud.list_devices(server))
    assert gpus == cloud.hostdev_addresses(server)
    lost, won = tried
    assert len(lost & won) < 4


def test_a_server_is_refused_after_one_claim_where_nothing_is_left(
    cloud, race
):
    happens, tried = race
    happens(lambda devices, free: free)

    assert cloud.boot("four", "four").status == "ERROR"
    assert len(tried) == 1


def test_what_was_listed_is_tried_where_placement_does_not_say(
    cloud, race, monkeypatch, caplog
):
    happens, tried = race

    def take_one_and_break(devices, _free):
        monkeypatch.setattr(free_devices, "_MICROVERSION", "1.3")
        return {min(devices)}

    happens(take_one_and_break)
    assert cloud.boot("four", "four").status == "ACTIVE"
    lost, won = tried
    assert not lost & won
    [warning] = [
        record.getMessage()
        for record in caplog.records
        if record.name == free_devices.__name__
    ]
    assert "does not say which devices of the compute node" in warning
    assert "GET /resource_providers?in_tree=" in warning
