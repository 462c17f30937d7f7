# SPDX-License-Identifier: Apache-2.0

"""Boards whose NVLinks are known, and what they ask of a host."""

import itertools

import pytest

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.topology import links
from tests import sysfs_trees

CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"


def topo(size, cell):
    """The output of nvidia-smi topo -m; ``cell`` gives each pair's link."""
    names = [f"GPU{index}" for index in range(size)]
    rows = ["\t" + "\t".join(names) + "\tCPU Affinity\tNUMA Affinity"]
    rows += [
        "\t".join(
            [names[i]]
            + [" X " if i == j else cell(i, j) for j in range(size)]
            + ["0-55", str(2 * i // size)]
        )
        for i in range(size)
    ]
    return ("topo.txt", "\n".join(rows) + "\n")


def pcie_only(i, j):
    return "PXB" if i // 2 == j // 2 else "NODE" if i // 4 == j // 4 else "SYS"


def findings(host, check):
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    return [
        (one.severity, one.summary)
        for one in readiness.check(context)
        if one.check == check
    ]


def test_a_matrix_without_nvlinks_is_not_believed_of_a_board(
    build, read_links
):
    host_links = read_links(build("hgx_h100"), topo=topo(8, pcie_only))
    assert host_links.nvlink_known == frozenset()
    assert host_links.nvlink_from == ()
    assert "not one NVLink" in host_links.notes[0]


def test_the_board_may_say_what_the_matrix_lacks(build, read_links):
    host_links = read_links(
        build("hgx_h100"), topo=topo(8, pcie_only), baseboard="hgx-h100-8"
    )
    assert len(host_links.nvlink_known) == 8
    one, other, *_ = [one for one in host_links.devices if one.chip]
    link = host_links.build_topology((one, other)).links[0][1]
    assert links.name(link) == "NV18"


def test_a_gpu_of_a_board_without_nvlinks_is_not_known(build, read_links):
    host_links = read_links(
        build("hgx_h100"),
        topo=topo(8, lambda i, j: pcie_only(i, j) if 3 in (i, j) else "NV18"),
    )
    assert len(host_links.nvlink_known) == 7
    assert "no NVLink of 0000:44:00.0" in host_links.notes[0]


def test_cards_need_no_nvlinks(build, read_links):
    host_links = read_links(
        build("a100_bridge_pairs"),
        topo=topo(4, lambda i, j: "NODE" if i // 2 == j // 2 else "SYS"),
    )
    assert len(host_links.nvlink_known) == 4
    assert host_links.notes == ()


NEWER = [
    # (machine, its options, board, NVLinks of a pair, architecture)
    ("hgx_b200", {}, "hgx-b200-8", 18, "Blackwell"),
    ("hgx_b200", {"ids": "10de:3182"}, "hgx-b300-8", 18, "Blackwell"),
    ("gb200_tray", {}, "gb200-nvl-4", 18, "Blackwell"),
    ("gb200_tray", {"ids": "10de:31c2"}, "gb300-nvl-4", 18, "Blackwell"),
    ("h200_nvl", {"gpus": 4}, "h200-nvl-4", 6, "Hopper"),
    ("h200_nvl", {}, "h200-nvl-8", 6, "Hopper"),
]


@pytest.mark.parametrize(
    ("machine", "options", "board", "bonded", "architecture"), NEWER
)
def test_newer_boards_have_their_nvlinks(
    build, read, machine, options, board, bonded, architecture
):
    host = build(machine, **options)
    inventory = read(host)
    host_links = linking.join(inventory, linking.Sources(baseboard=board))
    for one, other in itertools.combinations(inventory.gpus, 2):
        link = host_links.build_topology((one, other)).links[0][1]
        is_linked = machine != "h200_nvl" or one.numa_node == other.numa_node
        assert links.is_direct(link) == is_linked
        assert not is_linked or links.name(link) == f"NV{bonded}"
    assert not host_links.notes
    assert {gpu.chip.architecture for gpu in inventory.gpus} == {architecture}
    context = Context(tree.Tree(str(host.root)), inventory)
    assert not [
        (one.check, one.summary)
        for one in readiness.check(context)
        if one.severity is Severity.ERROR
    ]
    specs = fragment.write(inventory, host_links, fragment.Options())
    assert specs.count(f'"gpu_links": "nv{bonded}:') == len(inventory.gpus)


@pytest.mark.parametrize(("machine", "options", "board", "_", "__"), NEWER)
def test_a_note_names_the_board_that_the_host_looks_like(
    build, read_links, machine, options, board, _, __
):
    (note,) = read_links(build(machine, **options)).notes
    assert f"name {'it' if 'h200' in board else 'the board'} with" in note
    assert note.endswith(f" --baseboard {board}")


@pytest.mark.parametrize("ids", ["10de:2fff", "1002:7fff", "8086:7fff"])
def test_a_gpu_that_pci_ids_does_not_know_has_a_class_by_its_ids(
    build, read, ids
):
    host = build("h200_nvl", ids=ids)
    inventory = read(host)
    host_links = linking.join(inventory)
    assert not any("--baseboard" in note for note in host_links.notes)
    text = fragment.write(inventory, host_links, fragment.Options())
    name = f"CUSTOM_PCI_{ids.replace(':', '_').upper()}"
    assert text.count(f'"resource_class": "{name}"') == 8
    (note,) = fragment.list_notes(inventory, fragment.Options())
    assert f"does not know {ids}: its resource class is made of" in note
    assert f"--resource-class {ids}=NAME" in note


def test_what_manages_nvswitches_is_no_network_card_for_guests(build, read):
    host = read(build("hgx_b200"))
    assert [nic.why_needed for nic in host.nics] == [
        "it manages the NVSwitches of the board"
    ] * 2
    chosen = fragment.choose_devices(host, fragment.Options(nics=True))
    assert {function.ids for function in chosen} == {"10de:2901"}


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("FABRIC_MODE=1\n", Severity.OK),
        ("FABRIC_MODE=0\n", Severity.WARNING),
        (None, Severity.WARNING),
    ],
)
def test_fabric_manager_is_needed_without_nvswitches_on_pci(
    build, text, severity
):
    host = build("hgx_b200")
    if text is None:
        host.remove(CONFIG)
    else:
        host.write(CONFIG, text)
    found = [one[0] for one in findings(host, "fabric-manager")]
    # With FABRIC_MODE=1 there is something to do at each start, too.
    assert [one for one in found if one is not Severity.NOTE] == [severity]


def test_the_managers_of_nvswitches_may_be_given_to_the_guest_of_all(build):
    host = build("hgx_b200")
    host.remove(CONFIG)
    for bus in ("a1", "a2"):
        link = host.path(f"/sys/bus/pci/devices/0000:{bus}:00.0/driver")
        link.unlink()
        link.symlink_to("../../../bus/pci/drivers/vfio-pci")
    ((severity, summary),) = findings(host, "fabric-manager")
    assert severity is Severity.NOTE
    assert "full passthrough" in summary


def test_nvlinks_to_other_hosts_are_noted(build):
    ((severity, summary),) = findings(build("gb200_tray"), "fabric")
    assert severity is Severity.NOTE
    assert "IMEX" in summary


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (8, ["0 of the 4 NVSwitches"]),
        (7, ["7 of the 8 GPUs", "0 of the 4 NVSwitches"]),
        # HGX H100 with 4 GPUs has none.
        (4, []),
    ],
)
def test_a_board_without_its_nvswitches_is_told(build, left, words):
    host = build("hgx_h100")
    for number in range(0xC3, 0xC7):
        host.remove(f"{address_lib.DEVICES}/0000:{number:02x}:00.0")
    for address in sysfs_trees.HGX_H100_GPUS[left:]:
        host.remove(f"{address_lib.DEVICES}/{address}")
    found = findings(host, "board")
    assert len(found) == len(words)
    for (severity, summary), word in zip(found, words, strict=True):
        assert severity is Severity.WARNING
        assert word in summary


def test_each_board_has_a_source():
    assert all(board.source for board in baseboards.BASEBOARDS.values())
