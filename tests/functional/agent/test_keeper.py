# SPDX-License-Identifier: Apache-2.0

"""The agent between Placement, libvirt and sysfs."""

import dataclasses
import pathlib
import uuid

import pytest

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.fleet import reserving
from nova_gpu_filter.fleet.reserving import Mark
from tests.functional.agent import worlds
from tests.unit.agent import connections

GPU, OTHER = worlds.GPUS
pytestmark = worlds.MODES


@pytest.fixture
def world(placement, tmp_path, is_one_time_use):
    """A node whose GPUs were cleaned once."""
    made = worlds.World(placement, tmp_path, is_one_time_use)
    made.run(2)
    assert made.offered() == set(worlds.GPUS)
    return made


def test_a_suspect_is_quarantined_whether_placement_answers_or_not(world):
    world.ledger.suspect([GPU], "no NVLink")
    world.is_placement_away = True
    world.run()
    assert world.state(GPU) is State.QUARANTINED
    assert world.ledger.read_suspects() == {}
    world.is_placement_away = False
    world.run()
    assert world.offered() == {OTHER}


def test_a_suspect_of_a_new_ledger_is_quarantined_with_its_first_record(
    placement, tmp_path, is_one_time_use, caplog
):
    world = worlds.World(placement, tmp_path, is_one_time_use)
    world.ledger.suspect([GPU, "0000:01:00.0"], "no NVLink")
    world.run()
    assert world.state(GPU) is State.QUARANTINED
    assert world.ledger.get(GPU).reason == "no NVLink"
    assert world.ledger.read_suspects() == {}
    assert "0000:01:00.0 is not quarantined" in caplog.text
    world.run()
    assert world.offered() == {OTHER}


def test_ten_uses_and_each_time_it_is_clean_before_the_next(world):
    resets = world.resets[GPU]
    for _ in range(10):
        assert world.claim(GPU)
        world.run()
        assert world.state(GPU) is State.CLAIMED
        world.boot(GPU)
        world.run()
        assert world.state(GPU) is State.IN_USE
        world.delete(GPU)
        assert GPU not in world.offered()
        world.check()
        world.run()
        assert world.state(GPU) is State.FREE
        assert GPU in world.offered()
    assert world.resets[GPU] == resets + 10
    assert world.resets[OTHER] == 1
    assert not world.dirty


def test_the_history_of_a_use_can_be_listed(world):
    world.claim(GPU)
    world.run()
    world.boot(GPU)
    world.run()
    owner = world.domains[GPU].uuid
    world.delete(GPU)
    world.run()
    assert [
        (one.state.value, one.owner)
        for one in world.keeper.list_history(GPU)[:6]
    ] == [
        ("free", owner),
        ("checked", owner),
        ("cleaning", owner),
        ("released", owner),
        ("in-use", owner),
        ("claimed", world.keeper.list_history(GPU)[5].owner),
    ]


def test_a_device_that_is_at_rest_costs_no_write(world):
    before = world.fuse.writes
    world.run(3)
    assert world.fuse.writes == before


def test_passes_at_rest_ask_placement_little(world):
    world.run(2)
    before = len(world.adapter.asked)
    world.run()
    # The root, its tree, and the allocations of each device.
    assert len(world.adapter.asked) - before == 2 + len(worlds.GPUS)


def test_a_stopped_server_keeps_its_device(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.shut(GPU)
    world.run(2)
    assert world.state(GPU) is State.CLAIMED
    assert world.resets[GPU] == 1
    world.boot(GPU)
    world.run()
    assert world.state(GPU) is State.IN_USE


def test_a_migration_that_is_reverted_frees_the_other_end(world):
    world.claim(GPU)
    world.run()
    world.delete(GPU)
    world.run()
    assert world.state(GPU) is State.FREE
    assert GPU in world.offered()


def test_a_failed_reset_is_quarantine_with_its_reason(world):
    world.problem[GPU] = "Inappropriate ioctl for device"
    world.claim(GPU)
    world.run()
    world.delete(GPU)
    world.run(2)
    record = world.keeper.find(GPU)
    assert record.state is State.QUARANTINED
    assert record.reason == (
        "it cannot be reset: Inappropriate ioctl for device"
    )
    assert reserving.read_marked(world.get, Mark.QUARANTINED) == {
        world.uuid(GPU)
    }
    world.check_settled()


def test_a_hook_that_fails_is_quarantine(world):
    directory = pathlib.Path(world.path, "hooks", "after.d")
    directory.mkdir(parents=True, mode=0o755)
    hook = directory / "10-burn-in"
    hook.write_text('#!/bin/sh\necho "$GPU_AGENT_DEVICE is slow"; exit 3\n')
    hook.chmod(0o755)
    world.claim(GPU)
    world.run()
    world.delete(GPU)
    world.run(2)
    record = world.keeper.find(GPU)
    assert record.reason == f"{hook}: ended with 3: {GPU} is slow"
    assert GPU not in world.offered()


def test_a_link_that_is_narrower_than_before_is_quarantine(world):
    world.claim(GPU)
    world.run()
    world.tree.write(f"/sys/bus/pci/devices/{GPU}/current_link_width", "8")
    world.delete(GPU)
    world.run(2)
    record = world.keeper.find(GPU)
    assert record.state is State.QUARANTINED
    assert "its link has x8, and had x16" in record.reason


def test_errors_of_the_link_are_quarantine_while_the_server_goes_on(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.tree.write(
        f"/sys/bus/pci/devices/{GPU}/aer_dev_fatal",
        "DLP 1\nTOTAL_ERR_FATAL 1",
    )
    world.run()
    record = world.keeper.find(GPU)
    assert record.state is State.QUARANTINED
    assert record.reason == "1 fatal PCIe errors"
    assert world.placement.allocations(world.consumers[GPU])
    world.delete(GPU)
    world.run(2)
    assert world.state(GPU) is State.QUARANTINED
    assert GPU not in world.offered()


def _make_errors(world):
    world.tree.write(
        f"/sys/bus/pci/devices/{GPU}/aer_dev_fatal",
        "DLP 1\nTOTAL_ERR_FATAL 1",
    )


def test_errors_right_after_a_device_was_cleaned_are_seen(world):
    world.claim(GPU)
    world.run()
    world.delete(GPU)
    world.run()
    assert world.state(GPU) is State.FREE
    _make_errors(world)
    world.run()
    assert world.keeper.find(GPU).reason == "1 fatal PCIe errors"
    assert GPU not in world.offered()
    # They are old when people have released it.
    world.keeper.release(GPU, "cleaned its contacts", "root")
    world.run(3)
    assert world.state(GPU) is State.FREE


def test_errors_while_no_agent_ran_are_seen(world):
    _make_errors(world)
    world.start_agent()
    world.run()
    assert world.keeper.find(GPU).reason == "1 fatal PCIe errors"
    assert world.offered() == {OTHER}


def test_a_device_that_vanishes_is_quarantined(world):
    world.tree.remove(f"/sys/bus/pci/devices/{GPU}")
    world.run(2)
    assert world.state(GPU) is State.QUARANTINED
    assert world.offered() == {OTHER}


def test_people_quarantine_and_release_as_often_as_they_like(world):
    for _ in range(2):
        record = world.keeper.quarantine(GPU, "it hums", "root")
        assert (record.reason, record.by) == ("it hums", "root")
    world.run()
    assert GPU not in world.offered()
    resets = world.resets[GPU]
    for _ in range(2):
        world.keeper.release(GPU, "another fan", "root")
    world.run(2)
    assert world.state(GPU) is State.FREE
    assert GPU in world.offered()
    assert world.resets[GPU] == resets + 1


def test_the_controller_quarantines_and_releases(world):
    reserving.quarantine(world.get, world.send, world.uuid(GPU))
    world.run()
    record = world.keeper.find(GPU)
    assert record.state is State.QUARANTINED
    assert record.by == "placement"
    assert reserving.release(world.get, world.send, world.uuid(GPU))
    assert GPU not in world.offered()
    world.run(2)
    assert world.state(GPU) is State.FREE
    assert GPU in world.offered()
    assert not reserving.read_marked(world.get, Mark.RELEASE_ASKED)


def test_a_server_keeps_a_quarantined_device_and_can_be_released_with_it(
    world,
):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    resets = world.resets[GPU]
    world.keeper.quarantine(GPU, "test", "root")
    world.run()
    world.keeper.release(GPU, "test", "root")
    world.run()
    assert world.state(GPU) is State.IN_USE
    assert world.resets[GPU] == resets


def test_cleaning_on_demand_is_for_free_devices(world):
    resets = world.resets[GPU]
    world.keeper.clean(GPU, "asked for", "root")
    world.run()
    assert world.resets[GPU] == resets + 1
    assert world.state(GPU) is State.FREE
    world.claim(GPU)
    world.run()
    with pytest.raises(errors.NotNow, match="has it"):
        world.keeper.clean(GPU, "asked for", "root")
    world.keeper.quarantine(OTHER, "test", "root")
    with pytest.raises(errors.NotNow, match="release it first"):
        world.keeper.clean(OTHER, "asked for", "root")


def test_a_device_that_nobody_looks_after_is_named_with_those_that_are(world):
    with pytest.raises(errors.UnknownDevice) as raised:
        world.keeper.quarantine("0000:99:00.0", "why", "root")
    assert GPU in str(raised.value)
    assert world.keeper.find("85:00.0").address == GPU


@pytest.mark.parametrize("who", ["placement", "libvirt"])
def test_nothing_changes_while_a_service_is_away(world, who):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.delete(GPU)

    def set_away(value):
        if who == "placement":
            world.is_placement_away = value
        else:
            world.libvirt.is_away = value

    set_away(True)
    before = world.fuse.writes
    world.run(3)
    assert world.fuse.writes == before
    assert world.state(GPU) is State.IN_USE
    assert world.keeper.blind
    world.check()
    set_away(False)
    world.run()
    assert world.state(GPU) is State.FREE
    assert world.keeper.blind is None
    world.check_settled()


def test_a_quarantine_while_placement_is_away_reaches_it_later(world):
    world.is_placement_away = True
    world.keeper.quarantine(GPU, "why", "root")
    world.run()
    world.is_placement_away = False
    world.run()
    assert GPU not in world.offered()


def test_a_use_while_the_agent_was_down_for_a_day_is_seen(world):
    world.ledger.close()
    world.claim(GPU)
    world.boot(GPU)
    world.delete(GPU)
    world.claim(OTHER)
    world.boot(OTHER)
    world.start_agent()
    world.run(2)
    assert GPU not in world.dirty
    assert world.state(GPU) is State.FREE
    assert world.state(OTHER) is State.IN_USE
    world.check_settled()


def test_a_lost_ledger_is_rebuilt_and_what_is_unsure_is_quarantined(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.keeper.quarantine(OTHER, "why", "root")
    world.run()
    world.ledger.close()
    pathlib.Path(world.path, "ledger").unlink()
    world.start_agent()
    assert world.ledger.is_new
    world.run()
    assert world.state(GPU) is State.IN_USE
    assert world.state(OTHER) is State.QUARANTINED
    world.check_settled()


def test_a_dirty_device_of_a_lost_ledger_is_quarantined_with_a_reason(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.delete(GPU)
    world.ledger.close()
    pathlib.Path(world.path, "ledger").write_bytes(b"noise" * 5000)
    world.start_agent()
    world.run(2)
    record = world.keeper.find(GPU)
    assert record.state is State.QUARANTINED
    assert "the ledger does not say why" in record.reason
    world.keeper.release(GPU, "looked at it", "root")
    world.run(2)
    assert world.state(GPU) is State.FREE
    assert GPU not in world.dirty


def test_a_provider_that_is_made_anew_is_reserved_again(world):
    world.keeper.quarantine(GPU, "why", "root")
    world.run()
    world.make_providers()
    assert GPU in world.offered()
    world.run()
    assert world.offered() == {OTHER}
    assert world.state(GPU) is State.QUARANTINED
    # It may have been used in between.
    assert world.resets[OTHER] == 2


@pytest.fixture(name="made")
def made_connections(monkeypatch):
    return connections.keep_connections(monkeypatch)


@pytest.fixture
def set_writable(made, world):
    """Have SQLite answer as for a file system that is mounted read-only."""

    def set_(is_writable):
        made[0].execute(
            f"PRAGMA query_only = {'OFF' if is_writable else 'ON'}"
        )

    return set_


@pytest.mark.parametrize("is_back_in_use", [True, False])
def test_what_cannot_be_written_down_is_not_given_away_dirty(
    set_writable, world, is_back_in_use
):
    set_writable(False)
    world.run()
    # There was nothing to write.
    assert world.keeper.blind is None
    world.claim(GPU)
    world.boot(GPU)
    world.run(2)
    assert "readonly" in world.keeper.blind
    if is_back_in_use:
        set_writable(True)
        world.run()
        assert world.state(GPU) is State.IN_USE
        set_writable(False)
    world.delete(GPU)
    world.run(2)
    assert world.offered() == {OTHER}
    world.check()
    set_writable(True)
    world.run(2)
    assert world.keeper.blind is None
    assert world.state(GPU) is State.FREE
    assert world.resets[GPU] == 2
    world.check_settled()


def test_a_use_between_two_passes_that_cannot_be_written_is_no_loss(
    set_writable, world
):
    set_writable(False)
    world.claim(GPU)
    world.boot(GPU)
    world.delete(GPU)
    world.run(2)
    assert world.offered() == {OTHER}
    set_writable(True)
    world.run(2)
    assert world.state(GPU) is State.FREE
    world.check_settled()


def test_a_disk_that_is_full_is_one_line(made, world):
    [(pages,)] = made[0].execute("PRAGMA page_count")
    made[0].execute(f"PRAGMA max_page_count = {pages}")
    record = dataclasses.replace(world.ledger.get(GPU), reason="x" * 100000)
    with pytest.raises(errors.LedgerUnusable, match="full"):
        world.ledger.change(record)
    # What was written stays, and is read.
    assert world.state(GPU) is State.FREE


def test_a_provider_that_is_made_anew_while_its_device_is_cleaned(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.delete(GPU)
    reset = world.bus.reset

    def make_anew(address, held):
        # Nova's does not keep its UUID.
        old, new = world.uuid(address), str(uuid.uuid4())
        world.uuids[address] = new
        path = f"/resource_providers/{old}"
        body = {
            "uuid": new,
            "name": f"{worlds.HOST}_{address.upper()}",
            "parent_provider_uuid": world.get(path)["parent_provider_uuid"],
        }
        traits = world.get(f"{path}/traits")["traits"]
        world.placement.stock(path, method="DELETE")
        world.placement.stock("/resource_providers", method="POST", body=body)
        path = f"/resource_providers/{new}"
        for what, value in (
            ("inventories", {worlds.CLASS: {"total": 1}}),
            ("traits", traits),
        ):
            generation = world.get(path)["generation"]
            world.placement.stock(
                f"{path}/{what}",
                method="PUT",
                body={
                    what: value,
                    "resource_provider_generation": generation,
                },
            )
        assert address in world.offered()
        world.bus.reset = reset
        world.keeper.run_once()
        assert address not in world.offered()
        return reset(address, held)

    world.bus.reset = make_anew
    world.run(3)
    assert world.state(GPU) is State.FREE
    world.check_settled()


def test_libvirt_that_is_restarted_while_a_device_is_cleaned(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.delete(GPU)
    reset = world.bus.reset

    def restart(address, held):
        world.libvirt.is_away = True
        assert not world.keeper.run_once()
        assert address not in world.offered()
        world.libvirt.is_away = False
        assert world.keeper.run_once()
        return reset(address, held)

    world.bus.reset = restart
    world.run(2)
    assert world.state(GPU) is State.FREE
    assert world.resets[GPU] == 2
    world.check_settled()


def test_a_provider_that_others_keep_changing_is_tried_again(world):
    world.claim(GPU)
    world.boot(GPU)
    world.run()
    world.delete(GPU)
    send, refused = world.send, []

    def change_first(path, body):
        # As nova-compute, between each reading and writing of ours.
        if len(refused) < 20 and world.uuid(GPU) in path:
            refused.append(path)
            found = reserving.read(world.get, world.uuid(GPU))
            send(
                f"/resource_providers/{found.uuid}/aggregates",
                {
                    "aggregates": sorted(found.aggregates),
                    "resource_provider_generation": found.generation,
                },
            )
        return send(path, body)

    world.send = change_first
    while len(refused) < 20:
        world.run()
        world.check()
    world.run(2)
    assert world.state(GPU) is State.FREE
    world.check_settled()


def test_a_compute_node_that_was_renamed_is_one_line_until_it_is_known(world):
    world.claim(GPU)
    world.run()
    world.placement.replace_providers([])
    assert not world.keeper.run_once()
    assert "hypervisor_hostname" in world.keeper.blind
    assert world.state(GPU) is State.CLAIMED
