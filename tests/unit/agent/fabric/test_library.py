# SPDX-License-Identifier: Apache-2.0

"""The client of Fabric Manager, on a library with the layout of libnvfm.so."""

import ctypes

import pytest

from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.agent.fabric import library
from nova_gpu_filter.host.address import PciAddress
from tests.unit.agent.fabric import managers


@pytest.fixture
def manager(tmp_path):
    return managers.Manager(tmp_path / "fm")


@pytest.fixture
def fabric(manager):
    made = manager.client()
    yield made
    made.disconnect()


@pytest.mark.parametrize(
    ("structure", "size"),
    [
        # Sizes of the structures of nv_fm_types.h on 64 bits.
        (library.ConnectV1, 268),
        (library.ConnectV2, 272),
        (library.PciDevice, 16),
        (library.Gpu, 128),
        (library.Partition, 2060),
        (library.PartitionList, 131852),
        (library.ActivatedList, 264),
    ],
)
def test_structures_are_as_large_as_in_the_header(structure, size):
    assert ctypes.sizeof(structure) == size


def test_partitions_are_listed_with_module_ids_and_no_addresses(fabric):
    listed = fabric.list_partitions()
    assert {
        one.id: tuple(member.module_id for member in one.members)
        for one in listed
    } == managers.HGX_H100
    assert not any(one.is_active for one in listed)
    assert {m.address for one in listed for m in one.members} == {None}


def test_addresses_are_listed_where_fabric_manager_knows_them(tmp_path):
    manager = managers.Manager(
        tmp_path / "fm", {0: (1, 3)}, {1: "00000000:86:00.0", 3: "0:00:00.0"}
    )
    [one] = manager.client().list_partitions()
    assert [member.address for member in one.members] == [
        PciAddress(0, 0x86, 0, 0),
        None,
    ]


def test_a_partition_is_activated_and_deactivated_and_twice_is_no_error(
    manager, fabric
):
    fabric.activate(5)
    fabric.activate(5)
    assert manager.active() == {5}
    fabric.deactivate(5)
    fabric.deactivate(5)
    assert manager.active() == set()


def test_in_use_by_another_partition_is_no_success(manager, fabric):
    fabric.activate(1)
    with pytest.raises(
        fabric_manager.FabricError, match=r"partition 3.*FM_ST_IN_USE"
    ):
        fabric.activate(3)
    assert manager.active() == {1}


def test_the_list_of_activated_partitions_is_sent_even_if_empty(
    manager, fabric
):
    manager.restart(is_resilient=True)
    with pytest.raises(fabric_manager.NotReady):
        fabric.activate(5)
    with pytest.raises(fabric_manager.NotReady, match="FM_ST_NOT_CONFIGURED"):
        fabric.activate(5)
    fabric.set_activated([])
    fabric.activate(5)
    manager.restart(is_resilient=True)
    with pytest.raises(fabric_manager.NotReady, match="CONNECTION_NOT_VALID"):
        fabric.set_activated([5, 7])
    fabric.set_activated([5, 7])
    assert manager.active() == {5, 7}


def test_vfs_are_handed_on_in_their_order(manager, fabric):
    vfs = [PciAddress(0, 0x10, 0, 4), PciAddress(1, 0x0F, 2, 5)]
    fabric.activate(5, vfs)
    assert manager.active() == {5}
    assert manager.vfs() == ["0000:10:00.4", "0001:0f:02.5"]


def test_a_connection_that_is_lost_is_made_again(manager, fabric):
    fabric.list_partitions()
    assert fabric.connections == 1
    manager.restart()
    with pytest.raises(fabric_manager.NotReady):
        fabric.list_partitions()
    fabric.list_partitions()
    assert fabric.connections == 2


def test_an_older_library_is_given_older_parameters(manager):
    manager.inject("old 1")
    assert manager.client().list_partitions()


def test_an_address_of_ipv4_is_no_path(manager, monkeypatch):
    monkeypatch.setenv("FAKE_NVFM", manager.path)
    fabric = library.Library(managers.build(), "127.0.0.1:6666", 1.0)
    assert fabric.list_partitions()


def test_an_address_that_is_too_long_is_refused():
    fabric = library.Library(managers.build(), "/" + "x" * 256, 1.0)
    with pytest.raises(
        fabric_manager.Misconfigured, match="longer than 256 bytes"
    ):
        fabric.list_partitions()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(-1, fabric_manager.Misconfigured), (-2, fabric_manager.Misconfigured)]
    + [(number, fabric_manager.NotReady) for number in (-5, -8, -9)],
)
def test_a_connection_that_is_refused_is_no_fault_of_a_partition(
    manager, fabric, number, kind
):
    manager.inject(f"fail fmConnect {number} 1")
    with pytest.raises(kind, match="fmConnect"):
        fabric.activate(5)


def test_a_library_that_is_none_is_refused(tmp_path):
    path = tmp_path / "libnvfm.so"
    path.write_text("no library")
    with pytest.raises(fabric_manager.NoLibrary, match="fabric_library"):
        library.Library(str(path), "127.0.0.1", 1.0)
    with pytest.raises(fabric_manager.NoLibrary, match="fmLibInit"):
        library.Library("libc.so.6", "127.0.0.1", 1.0)


def test_all_codes_of_the_header_are_known():
    assert sorted(fabric_manager.CODES) == list(range(-29, 1))
    assert all(
        fabric_manager.CODES[number].number == number
        for number in fabric_manager.CODES
    )


AGAIN = {-4, -5, -8, -9, -15, -22}


@pytest.mark.parametrize("number", range(-30, 0))
def test_each_code_fails_with_its_words_or_is_asked_again(
    manager, fabric, number
):
    manager.inject(f"fail fmActivateFabricPartition {number} 1")
    code = fabric_manager.find_code(number)
    with pytest.raises(fabric_manager.FabricError) as caught:
        fabric.activate(5)
    assert str(caught.value) == (
        f"Fabric Manager ({manager.path}): fmActivateFabricPartition of"
        f" partition 5: {code.name} ({number}): {code.description}"
    )
    assert isinstance(caught.value, fabric_manager.NotReady) == (
        number in AGAIN
    )
    assert isinstance(caught.value, fabric_manager.Misconfigured) == (
        number in {-3, -6}
    )
    assert manager.active() == set()
    fabric.activate(5)
    assert manager.active() == {5}
