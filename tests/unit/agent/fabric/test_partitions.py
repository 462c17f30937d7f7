# SPDX-License-Identifier: Apache-2.0

"""Fabric Manager has active what runs, whatever is killed or restarted."""

import gc
import logging
import threading
import weakref

import pytest

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.agent.fabric import partitions
from tests.unit.agent.fabric import managers
from tests.unit.agent.fabric import nodes

UUID = "0c2d7f4e-7d0a-4d39-9f7c-3f5cf1a5d0e1"
OTHER = "5a1b6b0e-19a5-4ec8-8a3d-6a2c1b0f7c22"


@pytest.fixture
def node(tmp_path):
    return nodes.Node(tmp_path)


def test_a_guest_has_its_partition_and_gives_it_back(node):
    name = node.start(3)
    assert node.manager.active() == {3}
    assert node.rows() == {3: ("active", name)}
    other = node.start(4)
    node.stop(name)
    assert node.manager.active() == {4}
    assert node.rows() == {4: ("active", other)}


def test_a_board_with_four_gpus(tmp_path):
    node = nodes.Node(tmp_path, managers.HGX_4)
    node.start(1)
    node.start(5)
    assert node.manager.active() == {1, 5}


def test_what_another_owns_is_not_deactivated(node):
    node.start(3)
    node.agent.release(OTHER)
    node.manager.inject("partition 99 1 31")
    assert node.look()
    assert node.manager.active() == {3, 99}


def test_a_guest_without_gpus_of_the_fabric_starts_without_fabric_manager(
    node,
):
    node.manager.set("away", 1)
    assert node.agent.prepare(UUID, {"0000:18:00.1"}) is None


def test_a_hard_reboot_keeps_or_changes_the_partition(node):
    node.start(3, UUID)
    node.start(3, UUID)
    assert node.manager.active() == {3}
    node.start(2, UUID)
    assert node.manager.active() == {2}
    assert node.rows() == {2: ("active", UUID)}


def test_gpus_that_another_guest_owns_are_refused(node):
    node.start(1, UUID)
    with pytest.raises(errors.Occupied, match=UUID):
        node.start(3, OTHER)
    assert node.manager.active() == {1}
    assert node.rows() == {1: ("active", UUID)}
    assert node.ledger.read_suspects() == {}


def test_a_partition_that_fails_suspects_its_gpus_and_no_others(node):
    node.manager.inject("fail fmActivateFabricPartition -10 1")
    with pytest.raises(fabric_manager.FabricError, match="FM_ST_NVLINK_ERROR"):
        node.start(3)
    assert node.ledger.read_suspects().keys() == node.known[3]
    assert node.rows() == {}
    with pytest.raises(errors.Suspected, match="FM_ST_NVLINK_ERROR"):
        node.start(1)
    node.start(4)
    assert node.manager.active() == {4}


@pytest.mark.parametrize("code", [-3, -6])
def test_a_host_that_is_not_set_up_suspects_no_gpu(node, code):
    node.manager.inject(f"fail fmActivateFabricPartition {code} 1")
    with pytest.raises(fabric_manager.Misconfigured):
        node.start(3)
    assert node.ledger.read_suspects() == {}


def test_a_list_that_is_refused_suspects_no_gpu(node):
    node.start(4, OTHER)
    node.manager.inject("fail fmGetSupportedFabricPartitions -2 1")
    with pytest.raises(
        fabric_manager.FabricError, match="FM_ST_GENERIC_ERROR"
    ):
        node.start(3)
    assert node.ledger.read_suspects() == {}
    assert node.rows() == {4: ("active", OTHER)}


def test_an_activation_of_which_nothing_is_heard_is_taken_back(node):
    node.manager.inject("fail fmActivateFabricPartition -5 1")
    with pytest.raises(fabric_manager.NotReady):
        node.start(3, UUID)
    assert node.rows() == {3: ("leaving", UUID)}
    assert node.ledger.read_suspects() == {}
    assert node.look()
    assert node.rows() == {}


def test_a_guest_that_keeps_failing_is_told_and_suspected_once(node, caplog):
    node.start(3, UUID)
    node.manager.restart()
    node.manager.inject("fail fmActivateFabricPartition -10 3")
    # The first finds that it has to connect again.
    node.agent.repair()
    assert not node.agent.repair()
    assert node.ledger.read_suspects().keys() == node.known[3]
    for device in node.known[3]:
        node.ledger.clear_suspect(device)
    caplog.clear()
    assert not node.agent.repair()
    assert node.ledger.read_suspects() == {}
    assert caplog.text == ""
    assert not node.agent.repair()
    assert node.agent.repair()
    assert node.manager.active() == {3}


def test_a_fabric_manager_that_is_away_fails_the_start_and_nothing_else(
    node,
):
    node.manager.set("away", 1)
    with pytest.raises(fabric_manager.NotReady):
        node.start(3, UUID)
    assert node.rows() == {}, "it was not asked to activate anything"
    assert node.ledger.read_suspects() == {}
    assert not node.look()
    node.manager.set("away", 0)
    assert node.look()
    assert node.rows() == {}
    node.start(3, OTHER)
    assert node.manager.active() == {3}


def test_a_start_waits_for_a_fabric_manager_that_is_starting(tmp_path):
    node = nodes.Node(tmp_path, deadline=30.0)
    node.manager.set("away", 1)
    back = threading.Timer(0.5, node.manager.set, ("away", 0))
    back.start()
    node.start(3)
    assert node.manager.active() == {3}


@pytest.mark.parametrize("code", [-5, -15, -22])
def test_a_start_asks_again_while_fabric_manager_is_not_ready(tmp_path, code):
    node = nodes.Node(tmp_path, deadline=30.0)
    node.manager.inject(f"fail fmActivateFabricPartition {code} 2")
    node.start(3)
    assert node.manager.active() == {3}


def test_what_stays_away_is_given_up_at_the_deadline(tmp_path, monkeypatch):
    node = nodes.Node(tmp_path, deadline=60.0)
    node.manager.set("away", 1)
    now = [0.0]

    def pause(seconds):
        now[0] += seconds

    monkeypatch.setattr(partitions.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(partitions.time, "sleep", pause)
    with pytest.raises(fabric_manager.NotReady, match="fmConnect"):
        node.start(3)
    assert now[0] == pytest.approx(60.0)


def test_a_release_that_fails_is_done_later(node):
    name = node.start(3)
    node.manager.inject("fail fmDeactivateFabricPartition -2 2")
    node.stop(name)
    assert node.manager.active() == {3}
    assert not node.agent.repair()
    assert node.agent.repair()
    assert node.manager.active() == set()


def test_fabric_manager_that_has_forgotten_is_repaired(node):
    node.start(3)
    node.start(2)
    node.manager.restart()
    node.agent.repair()
    assert node.agent.repair()
    assert node.manager.active() == {2, 3}


def test_one_that_resumes_is_sent_the_list_even_if_empty(tmp_path):
    node = nodes.Node(tmp_path, is_resilient=True)
    node.look()
    node.manager.restart(is_resilient=True)
    node.agent.repair()
    assert node.agent.repair()
    name = node.start(3)
    node.manager.restart(is_resilient=True)
    node.agent.repair()
    assert node.agent.repair()
    assert node.manager.active() == {3}
    node.kill_agent()
    node.manager.restart(is_resilient=True)
    node.start_agent()
    assert node.look()
    assert node.manager.active() == {3}
    node.stop(name)
    assert node.manager.active() == set()


def test_that_it_resumes_is_asked_once_of_a_file_that_may_change(tmp_path):
    node = nodes.Node(tmp_path)
    node.client.list_partitions()
    node.manager.restart(is_resilient=True)
    answers = iter([True])
    lister = fabric_manager.PartitionLister(
        node.ledger, node.client, lambda: next(answers, False)
    )
    # It is not ready: the connection that was good is not.
    assert lister.list_partitions()


def test_after_a_restart_of_the_host_nothing_is_owned(node):
    node.start(3)
    node.kill_agent()
    node.guests.clear()
    node.manager.restart()
    node.boot = "second"
    node.start_agent()
    assert node.rows() == {}
    node.start(1)
    assert node.manager.active() == {1}


def test_a_hook_that_was_killed_is_made_good(node):
    name = node.start(3)
    del node.guests[name]
    assert node.look()
    assert node.manager.active() == set()


def test_a_lost_ledger_is_made_again_of_what_runs(node, tmp_path):
    name = node.start(3)
    node.kill_agent()
    (tmp_path / "ledger").unlink()
    node.start_agent()
    assert node.look()
    assert node.rows() == {3: ("active", name)}
    node.stop(name)
    assert node.manager.active() == set()


def test_guests_without_a_partition_cost_one_reading_of_what_is_known(node):
    for number in range(3):
        node.guests[f"nic-{number}"] = frozenset({f"0000:18:00.{number}"})
    assert node.look()
    assert node.readings == 1


def test_guests_of_which_hooks_have_spoken_are_forgotten_in_time(node, caplog):
    # pytest keeps the arguments of messages.
    caplog.set_level(logging.CRITICAL, logger="nova_gpu_filter")

    class Uuid(str):
        """One can see when nobody has it any more."""

    uuids = [Uuid(UUID), Uuid(OTHER)]
    known = [weakref.ref(uuid) for uuid in uuids]
    for uuid in uuids:
        node.stop(node.start(3, uuid))
    del uuid, uuids
    assert node.look()
    gc.collect()
    assert [uuid() for uuid in known] == [None, None]


def test_devices_that_are_plugged_while_a_guest_runs_are_followed(node):
    # nova suspend, and nova resume.
    name = node.start(3)
    node.guests[name] = frozenset()
    assert node.look()
    assert node.manager.active() == set()
    node.guests[name] = node.known[3]
    assert node.look()
    assert node.manager.active() == {3}
    node.guests[name] = frozenset({managers.ADDRESSES[1]})
    assert node.look()
    assert node.manager.active() == {3}, "a guest that runs is not harmed"


def test_what_is_wrong_with_a_guest_is_logged_once_while_it_runs(node, caplog):
    def count():
        node.look()
        return sum(f"Domain {UUID}" in one for one in caplog.messages)

    node.guests[UUID] = frozenset(
        {managers.ADDRESSES[1], managers.ADDRESSES[2]}
    )
    assert (count(), count()) == (1, 1)
    odd = node.guests.pop(UUID)
    assert count() == 1
    node.guests[UUID] = odd
    assert (count(), count()) == (2, 2)


def test_a_guest_that_starts_while_libvirt_is_read_is_left_alone(node):
    mark = node.agent.mark()
    running = dict(node.guests)
    name = node.start(3)
    node.agent.reconcile(running, mark)
    assert node.manager.active() == {3}
    mark = node.agent.mark()
    running = dict(node.guests)
    node.stop(name)
    node.agent.reconcile(running, mark)
    assert node.rows() == {}
    assert node.manager.active() == set()


def test_vfs_are_activated_in_the_order_of_the_gpus(tmp_path):
    node = nodes.Node(tmp_path)
    node.manager = managers.Manager(
        tmp_path / "fm", managers.HGX_H100, managers.ADDRESSES
    )
    vfs = {"0000:87:00.4", "0000:86:00.4"}
    node.parents.update({one: one[:-1] + "0" for one in vfs})
    node.agent.prepare(UUID, vfs)
    assert node.manager.vfs() == ["0000:86:00.4", "0000:87:00.4"]
    node.guests[UUID] = frozenset(vfs)
    assert node.look()
    assert node.manager.active() == {3}


def test_vfs_whose_order_is_not_known_are_refused(node):
    node.parents["0000:86:00.4"] = "0000:86:00.0"
    with pytest.raises(errors.NoOrder, match=r"0000:86:00\.4"):
        node.agent.prepare(UUID, {"0000:86:00.4"})
    assert node.rows() == {}
