# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import smi
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from tests import machines
from tests import smi_files
from tests import sysfs_trees
from tests import topo_tables

MODULES = dict(
    zip(sysfs_trees.HGX_H100_GPUS, sysfs_trees.HGX_H100_MODULES, strict=True)
)
QUERY = ("q.txt", smi_files.query(MODULES))
FABRIC = ("fmpm.json", smi_files.fmpm(smi_files.HGX_H100))
NV18 = smi_files.topo(
    [" ".join("X" if a == b else "NV18" for b in range(8)) for a in range(8)],
    (0, 0, 0, 0, 1, 1, 1, 1),
)
PAIRS = smi_files.topo(
    [
        "X NV12 SYS SYS",
        "NV12 X SYS SYS",
        "SYS SYS X NV12",
        "SYS SYS NV12 X",
    ],
    (0, 0, 1, 1),
)


def gpu_topology(host_links):
    return host_links.build_topology(
        [device for device in host_links.devices if device.kind.value == "gpu"]
    )


def test_without_nvidia_smi_nvlinks_are_unknown_and_not_invented(
    build, read_links
):
    host_links = read_links(build("hgx_h100"))
    assert host_links.nvlink_known == frozenset()
    topology = gpu_topology(host_links)
    assert max(topology.levels) <= links.PIX
    (note,) = host_links.notes
    assert note.startswith("NVLink: unknown for 0000:0f:00.0 ")
    assert "--nvidia-smi-topo" in note
    assert "--baseboard" in note
    a, b = host_links.devices[2], host_links.devices[3]
    assert not host_links.is_certain(a, b)


@pytest.mark.parametrize(
    ("product", "is_asked"),
    [
        ("26b9", False),  # L40S: AD102
        ("2bb5", False),  # RTX PRO 6000 Blackwell: GB202
        ("25b6", False),  # A16: GA107
        ("1b38", False),  # P40: GP102
        ("1eb8", True),  # TU104, of which some have NVLinks
        ("2235", True),  # A40: GA102
        ("2c31", True),  # RTX PRO 4500 Blackwell: GB203, without a source
        ("2339", True),  # H100
        ("3340", True),  # not known
    ],
)
def test_nobody_is_asked_for_nvlinks_of_chips_without(
    tmp_path, read_links, product, is_asked
):
    host = sysfs_trees.Host(tmp_path)
    host.write(
        "/usr/share/hwdata/pci.ids",
        "10de  NVIDIA Corporation\n\t1b38  GP102GL [Tesla P40]\n",
    )
    for slot in (1, 2):
        host.add(
            sysfs_trees.Pci(
                f"0000:00:{slot:02x}.0",
                "pci0000:00",
                f"10de:{product}",
                0x030200,
                driver="vfio-pci",
                bars=(sysfs_trees.GIB,),
            )
        )
    host_links = read_links(host)
    asked = [one for one in host_links.notes if "NVLink: unknown" in one]
    assert len(asked) == is_asked
    a, b = host_links.devices
    assert host_links.is_certain(a, b) is not is_asked


@pytest.mark.parametrize("machine", ["k2_host", "rtx_with_audio_and_usb"])
def test_old_chips_and_single_gpus_have_no_nvlinks_to_ask_for(
    build, read_links, machine
):
    assert read_links(build(machine)).notes == ()


def test_a_matrix_of_nvidia_smi_is_joined_in_pci_order(build, read_links):
    host_links = read_links(
        build("a100_bridge_pairs"), topo=("topo.txt", PAIRS)
    )
    texts = {
        str(address): codec.format_text(device_links)
        for address, device_links in host_links.build_device_links(
            host_links.devices
        ).items()
    }
    assert texts == {
        "0000:01:00.0": "nv12:0,node:0",
        "0000:21:00.0": "nv12:0,node:0",
        "0000:81:00.0": "nv12:1,node:1",
        "0000:a1:00.0": "nv12:1,node:1",
    }
    assert host_links.notes == ()


def test_a_query_says_which_gpus_nvidia_smi_saw(build, read_links):
    topo = smi_files.topo(["X NV12", "NV12 X"], (1, 1))
    seen = {"0000:81:00.0": None, "0000:a1:00.0": None}
    host_links = read_links(
        build("a100_bridge_pairs"),
        topo=("topo.txt", topo),
        query=("q.txt", smi_files.query(seen)),
    )
    first, second, third, fourth = host_links.devices
    known = host_links.build_topology((first, second, third, fourth)).links
    assert known[2][3] == links.make_nvlink(12)
    assert known[0][1] == links.NODE
    assert host_links.is_certain(third, fourth)
    assert not host_links.is_certain(first, second)
    (note,) = host_links.notes
    assert "unknown for 0000:01:00.0 0000:21:00.0" in note


@pytest.mark.parametrize(
    ("machine", "topo", "message"),
    [
        (
            "a100_bridge_pairs",
            smi_files.topo(["X NV12", "NV12 X"]),
            "2 GPUs, but a100-1 has 4 NVIDIA GPUs",
        ),
        (
            "a100_bridge_pairs",
            PAIRS.replace("0-63\t1", "0-63\t0"),
            "GPU2 is on NUMA node 0, but 0000:81:00.0 on 1",
        ),
        (
            "a100_bridge_pairs",
            smi_files.topo(
                [
                    "X SYS NV12 SYS",
                    "SYS X SYS NV12",
                    "NV12 SYS X SYS",
                    "SYS NV12 SYS X",
                ]
            ),
            "are SYS (on two NUMA nodes), but NODE in sysfs",
        ),
        ("k2_host", PAIRS, "4 GPUs, but k2-1 has 2 NVIDIA GPUs"),
    ],
)
def test_a_matrix_of_another_host_or_order_is_refused(
    build, read_links, machine, topo, message
):
    with pytest.raises(exception.BadInput) as raised:
        read_links(build(machine), topo=("topo.txt", topo))
    assert message in str(raised.value)
    assert str(raised.value).startswith("topo.txt: ")


def make_host_of(matrix, directory, numa=None):
    """A host with the GPUs of a matrix, each at a root port of its own."""
    host = sysfs_trees.Host(directory)
    host.nodes(8)
    for index in range(matrix.gpus):
        bus = 16 * index + 1
        port = host.bridge(
            f"0000:{bus - 1:02x}:01.1", f"pci0000:{bus - 1:02x}", None
        )
        host.add(
            sysfs_trees.Pci(
                f"0000:{bus:02x}:00.0",
                port,
                "10de:20f1",
                0x030200,
                numa=(numa or matrix.numa)[index],
                driver="nvidia",
            )
        )
    return host


@pytest.mark.parametrize(
    "name", [name for name in topo_tables.NAMES if "dgx1" not in name]
)
def test_a_real_matrix_whose_numa_column_fits_is_accepted(
    name, tmp_path, read_links
):
    text = topo_tables.read(name)
    matrix = smi.parse_topo(name, text)
    # sysfs shows none of the PCIe switches, as in a virtual machine.
    host = make_host_of(matrix, tmp_path)
    found = read_links(host, topo=(name, text))
    for a, b in itertools.combinations(range(matrix.gpus), 2):
        link = matrix.cells[a][b]
        if links.is_direct(link):
            assert found.matrix[a][b] == link
    other = [(node + 1) % 8 for node in matrix.numa]
    with pytest.raises(
        exception.BadInput, match="this file is of another host"
    ):
        read_links(
            make_host_of(matrix, tmp_path / "other", other),
            topo=(name, text),
        )


SWITCHES = smi_files.topo(
    [
        "X PIX NODE NODE",
        "PIX X NODE NODE",
        "NODE NODE X PIX",
        "NODE NODE PIX X",
    ],
    (0, 0, 0, 0),
)


@pytest.mark.parametrize(
    "switches", ["aabb", "abab", "abba", "aaab", "abcd", "aaaa"]
)
def test_gpus_in_another_order_are_found_below_their_switches(
    switches, tmp_path, read_links
):
    host = sysfs_trees.Host(tmp_path)
    host.nodes(2)
    ports = {
        name: host.bridge(f"0000:{bus}0:01.1", f"pci0000:{bus}0", None)
        for bus, name in enumerate(sorted(set(switches)), start=1)
    }
    for index, name in enumerate(switches):
        # On one switch each letter; addresses in the order of the letters.
        host.add(
            sysfs_trees.Pci(
                f"0000:{20 + index}:00.0",
                ports[name],
                "10de:20f1",
                0x030200,
                numa=0,
                driver="nvidia",
            )
        )
    if switches in ("abab", "abba"):
        with pytest.raises(exception.BadInput, match="in another order"):
            read_links(host, topo=("topo.txt", SWITCHES))
    else:
        notes = read_links(host, topo=("topo.txt", SWITCHES)).notes
        assert any("sysfs is taken" in note for note in notes) == (
            switches != "aabb"
        )


def test_network_cards_show_that_a_matrix_is_of_another_host(
    build, read_links
):
    # All GPUs have NVLinks, so only the card tells.
    lines = NV18.splitlines()
    lines[0] = lines[0].replace("\tCPU", "\tmlx5_0\tCPU")
    for index in range(8):
        cell = "SYS" if index == 0 else "NODE"
        lines[index + 1] = lines[index + 1].replace(
            "\t0-63", f"\t{cell}\t0-63"
        )
    with pytest.raises(exception.BadInput, match="but PIX in sysfs"):
        read_links(build("hgx_h100"), topo=("topo.txt", "\n".join(lines)))


def test_a_query_of_another_host_is_refused(build, read_links):
    query = smi_files.query({"0000:99:00.0": 1})
    with pytest.raises(exception.BadInput, match=r"0000:99:00.0 is no GPU of"):
        read_links(build("k2_host"), query=("q.txt", query))


def test_a_link_that_nvidia_smi_could_not_tell_is_noted(build, read_links):
    topo = PAIRS.replace("NV12", "N/A")
    host_links = read_links(build("a100_bridge_pairs"), topo=("t", topo))
    assert [note for note in host_links.notes if "does not know" in note]
    assert gpu_topology(host_links).levels == (links.NODE, links.SYS)


def test_partitions_are_joined_by_module_id_and_not_by_pci_order(
    build, read_links
):
    host_links = read_links(
        build("hgx_h100"),
        topo=("topo.txt", NV18),
        query=QUERY,
        fabric=FABRIC,
    )
    by_id = {
        partition.id: [str(address) for address in partition.addresses]
        for partition in host_links.partitions
    }
    assert len(by_id) == 15
    assert by_id[3] == ["0000:86:00.0", "0000:87:00.0"]
    assert by_id[5] == ["0000:0f:00.0", "0000:10:00.0"]
    assert by_id[7] == ["0000:86:00.0"]
    assert by_id[2] == list(sysfs_trees.HGX_H100_GPUS[:4])


def test_gpu_links_of_an_hgx_host_are_those_of_the_machine(build, read_links):
    host_links = read_links(
        build("hgx_h100"),
        topo=("topo.txt", NV18),
        query=QUERY,
        fabric=FABRIC,
    )
    topology = gpu_topology(host_links)
    assert topology == machines.on_pcie_switches(
        machines.hgx_h100_partitions()
    )
    chosen = [d for d in host_links.devices if d.kind.value == "gpu"]
    described = host_links.build_device_links(chosen)
    again = groups.compose(
        [
            (str(gpu.address), described[gpu.address], gpu.numa_node)
            for gpu in chosen
        ]
    )
    assert again == topology
    assert codec.format_text(described[chosen[0].address]) == (
        "nv18:0,pix:0,node:0,fabric:0/8,fabric:2/4,fabric:5/2,fabric:11/1"
    )


def test_partitions_without_module_ids_are_refused(build, read_links):
    with pytest.raises(
        exception.BadInput, match="it is not guessed"
    ) as raised:
        read_links(build("hgx_h100"), fabric=FABRIC)
    assert "--nvidia-smi-q" in str(raised.value)


def test_partitions_that_bear_addresses_need_no_module_ids(build, read_links):
    by_module = {
        module: f"0000{address.upper()}" for address, module in MODULES.items()
    }
    fabric = smi_files.fmpm(smi_files.HGX_H100, by_module)
    host_links = read_links(build("hgx_h100"), fabric=("f", fabric))
    assert [str(a) for a in host_links.partitions[3].addresses] == [
        "0000:86:00.0",
        "0000:87:00.0",
    ]


def test_partitions_of_another_board_are_refused(build, read_links):
    fabric = smi_files.fmpm({0: (1,)}, {1: "00000000:99:00.0"})
    with pytest.raises(
        exception.BadInput, match=r"99:00.0 of partition 0 is no"
    ):
        read_links(build("hgx_h100"), fabric=("f", fabric))


def test_module_ids_that_contradict_fabric_manager_are_refused(
    build, read_links
):
    fabric = smi_files.fmpm({0: (1,)}, {1: "00000000:0f:00.0"})
    with pytest.raises(
        exception.BadInput, match=r"Module Id 1 is 0000:0f:00.0"
    ):
        read_links(build("hgx_h100"), query=QUERY, fabric=("f", fabric))


@pytest.mark.parametrize(
    ("machine", "board", "expected"),
    [
        ("hgx_h100", "hgx-h100-8", machines.hgx_h100()),
        ("dgx1_v100", "dgx1-v100", machines.dgx1_v100()),
    ],
)
def test_a_named_baseboard_gives_its_nvlinks(
    build, read_links, machine, board, expected
):
    host_links = read_links(build(machine), baseboard=board)
    topology = gpu_topology(host_links)
    # Below NVLink the PCIe switches of the real host differ.
    for a, b in itertools.combinations(range(expected.n), 2):
        if expected.links[a][b] > links.PIX:
            assert topology.links[a][b] == expected.links[a][b]
        else:
            assert topology.links[a][b] <= links.PIX
    assert host_links.notes == ()


def test_a_baseboard_and_its_matrix_may_be_given_together(build, read_links):
    host_links = read_links(
        build("dgx1_v100"),
        topo=("topo.txt", topo_tables.read("dgx1_v100_8x")),
        baseboard="dgx1-v100",
    )
    assert host_links.nvlink_from == ("topo.txt", "baseboard dgx1-v100")


def test_a_matrix_that_contradicts_the_baseboard_is_refused(build, read_links):
    topo = NV18.replace("NV18", "NV12")
    with pytest.raises(
        exception.BadInput, match=r"have NV18, but NV12 in topo"
    ):
        read_links(
            build("hgx_h100"),
            topo=("topo.txt", topo),
            baseboard="hgx-h100-8",
        )


@pytest.mark.parametrize(
    ("machine", "board", "message"),
    [
        ("k2_host", "hgx-h100-8", "0 GPUs 10de:2330, not 8"),
        ("hgx_h100", "hgx-a100-8", "0 GPUs 10de:20b0 or 10de:20b2, not 8"),
        ("hgx_h100", "hgx-9000", "known are dgx1-v100"),
    ],
)
def test_a_baseboard_that_the_host_does_not_have_is_refused(
    build, read_links, machine, board, message
):
    with pytest.raises(exception.BadInput) as raised:
        read_links(build(machine), baseboard=board)
    assert message in str(raised.value)


def test_a_baseboard_with_missing_nvswitches_is_refused(build, read_links):
    host = build("hgx_h100")
    host.remove("/sys/bus/pci/devices/0000:c6:00.0")
    with pytest.raises(exception.BadInput, match="3 NVSwitches, not 4"):
        read_links(host, baseboard="hgx-h100-8")


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("0000:06:00.0/numa_node", 1, "3 GPUs on NUMA node 0, not 4"),
        ("0000:06:00.0/numa_node", -1, "3 GPUs on NUMA node 0, not 4"),
    ],
)
def test_a_baseboard_with_gpus_on_other_nodes_is_refused(
    build, read_links, path, content, message
):
    host = build("dgx1_v100")
    host.write(f"/sys/bus/pci/devices/{path}", content)
    with pytest.raises(exception.BadInput, match=message):
        read_links(host, baseboard="dgx1-v100")


def test_a_dgx_1_whose_pairs_share_no_switch_is_refused(tmp_path, read_links):
    host = sysfs_trees.Host(tmp_path)
    host.nodes(2)
    for index in range(8):
        host.add(
            sysfs_trees.Pci(
                f"0000:{index + 16:02x}:00.0",
                f"pci0000:{index + 16:02x}",
                "10de:1db1",
                0x030200,
                numa=index // 4,
            )
        )
    with pytest.raises(exception.BadInput, match="do not share a PCIe switch"):
        read_links(host, baseboard="dgx1-v100")


def test_module_ids_are_kept(build, read_links):
    host_links = read_links(build("hgx_h100"), query=QUERY)
    assert dict(host_links.module_ids) == {
        PciAddress.parse(address): module
        for address, module in MODULES.items()
    }
