# SPDX-License-Identifier: Apache-2.0

"""Links of AMD, Ascend and Gaudi devices, from texts in documented forms."""

import itertools

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.links import vendor_tools
from nova_gpu_filter.host.saved import outputs
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links
from tests import sysfs_trees

AMD, ASCEND, GAUDI = "1002:740f", "19e5:d802", "1da3:1020"


@pytest.fixture
def machine(tmp_path, read):
    """Build a host with eight accelerators, four on each NUMA node."""

    def build_machine(ids, devices=8):
        host = sysfs_trees.Host(tmp_path / "host")
        host.nodes(2)
        for index in range(devices):
            root_bus = f"pci0000:{0x10 + 0x10 * index:02x}"
            bus = 0x11 + 0x10 * index
            port = host.bridge(f"0000:{bus - 1:02x}:01.0", root_bus)
            host.add(
                sysfs_trees.Pci(
                    address(index), port, ids, 0x120000, numa=index // 4
                )
            )
        return read(host)

    return build_machine


def address(index):
    return f"0000:{0x11 + 0x10 * index:02x}:00.0"


def square(names, cell, diagonal, tail=lambda _: ""):
    """Write a matrix under a heading, as all of the tools do."""
    lines = ["       " + " ".join(f"{name:12}" for name in names)]
    for a, name in enumerate(names):
        cells = [
            diagonal if a == b else cell(min(a, b), max(a, b))
            for b in range(len(names))
        ]
        row = " ".join(f"{text:12}" for text in cells)
        lines.append(f"{name:6} {row}{tail(a)}")
    return lines


def rocm(link_type, devices=8, weight=None, buses=None, nodes=None):
    """Write rocm-smi --showbus --showtopo."""
    names = [f"GPU{index}" for index in range(devices)]
    weight = weight or (
        lambda a, b: "15" if link_type(a, b) == "XGMI" else "52"
    )
    lines = [
        "============ ROCm System Management Interface ============",
        "======================= PCI Bus ID =======================",
        *(
            f"GPU[{index}]\t\t: PCI Bus: {bus.upper()}"
            for index, bus in enumerate(buses or ())
        ),
        "================ Weight between two GPUs =================",
        *square(names, weight, "0"),
        "",
        "================= Hops between two GPUs ==================",
        *square(
            names,
            lambda a, b: "1" if link_type(a, b) == "XGMI" else "2",
            "0",
        ),
        "",
        "=============== Link Type between two GPUs ===============",
        *square(names, link_type, "0"),
        "",
        "======================= Numa Nodes =======================",
    ]
    for index, node in enumerate(nodes or ()):
        lines.append(f"GPU[{index}]\t\t: (Topology) Numa Node: {node}")
        lines.append(f"GPU[{index}]\t\t: (Topology) Numa Affinity: {node}")
    lines.append("================== End of ROCm SMI Log ===================")
    return "\n".join(lines) + "\n"


def npu(cell, devices=8, name="NPU", buses=None, dies=1):
    """Write npu-smi info and npu-smi info -t topo."""
    lines = []
    if buses:
        lines += [
            "+-------------------------------------------------------------+",
            "| npu-smi 24.1.rc2         Version: 24.1.rc2                  |",
            "+---------------------------+---------------+-----------------+",
            "| NPU   Name                | Health        | Power(W) Temp(C)|",
            "| Chip                      | Bus-Id        | AICore(%)       |",
            "+===========================+===============+=================+",
        ]
    for index, bus in enumerate(buses or ()):
        card, die = divmod(index, dies)
        chip = f"{die}" if dies == 1 else f"{die}     {index}"
        lines += [
            f"| {card:<5} 910B3               | OK            | 92.1   38 |",
            f"| {chip:<25} | {bus.upper():13} | 0       0 / 0   |",
            "+===========================+===============+=================+",
        ]
    lines += square(
        [f"{name}{index}" for index in range(devices)],
        cell,
        "X",
        lambda a: f" {24 * a}-{24 * a + 23}",
    )
    lines[-devices - 1] += " CPU Affinity"
    lines += [
        "",
        "Legend:",
        "",
        "  X    = Self",
        "  HCCS = Connection traversing HCCS.",
        "  NA   = Unknown relationship.",
    ]
    return "\n".join(lines) + "\n"


def hl(modules):
    """Write hl-smi topo -c -N."""
    return "\n".join(
        [
            "modID   CPU Affinity    NUMA Affinity    ",
            "-----   ------------    -------------    ",
            *(
                f"{module}       0-39, 80-119    {module // 4}"
                for module in modules
            ),
        ]
    )


def two_hives(a, b):
    return "XGMI" if a // 4 == b // 4 else "PCIE"


def read_with(host, **texts):
    return linking.join(
        host,
        linking.Sources(
            vendor_tools={key: (key, text) for key, text in texts.items()}
        ),
    )


def linked_pairs(host_links):
    return {
        (a, b): links.name(host_links.matrix[a][b])
        for a, b in itertools.combinations(range(len(host_links.devices)), 2)
        if links.is_direct(host_links.matrix[a][b])
    }


ALL_PAIRS = list(itertools.combinations(range(8), 2))
IN_HIVES = [(a, b) for a, b in ALL_PAIRS if a // 4 == b // 4]


@pytest.mark.parametrize(
    ("ids", "key", "text", "link", "pairs"),
    [
        (AMD, "rocm_smi_topo", rocm(lambda *_: "XGMI"), "XGMI1", ALL_PAIRS),
        (AMD, "rocm_smi_topo", rocm(lambda *_: "PCIE"), None, []),
        (
            AMD,
            "rocm_smi_topo",
            rocm(
                two_hives,
                buses=map(address, range(8)),
                nodes=[0] * 4 + [1] * 4,
            ),
            "XGMI1",
            IN_HIVES,
        ),
        (
            AMD,
            "rocm_smi_topo",
            rocm(
                lambda *_: "XGMI",
                weight=lambda a, b: "15" if a // 4 == b // 4 else "30",
                buses=map(address, range(8)),
            ),
            "XGMI1",
            IN_HIVES,
        ),
        (ASCEND, "npu_smi_topo", npu(lambda *_: "HCCS"), "HCCS", ALL_PAIRS),
        (
            ASCEND,
            "npu_smi_topo",
            npu(
                lambda a, b: "HCCS" if a // 4 == b // 4 else "SYS",
                buses=[address(i) for i in range(8)],
            ),
            "HCCS",
            IN_HIVES,
        ),
        (
            ASCEND,
            "npu_smi_topo",
            npu(
                lambda a, b: "SIO" if a // 2 == b // 2 else "HCCS_SW",
                name="Phy-ID",
                buses=[address(i) for i in range(8)],
                dies=2,
            ),
            "HCCS",
            ALL_PAIRS,
        ),
        (GAUDI, "hl_smi_topo", hl(range(8)), "GAUDI", ALL_PAIRS),
    ],
)
def test_links_of_other_vendors(machine, ids, key, text, link, pairs):
    host_links = read_with(machine(ids), **{key: text})
    assert linked_pairs(host_links) == dict.fromkeys(pairs, link)
    assert host_links.nvlink_from == (key,)
    assert host_links.notes == ()


@pytest.mark.parametrize("ids", ["1002:74a1", "1002:74a2", "1002:74a5"])
def test_modules_without_a_link_are_not_believed(machine, ids):
    text = rocm(lambda *_: "PCIE")
    host = machine(ids)
    host_links = read_with(host, rocm_smi_topo=text)
    assert host_links.nvlink_known == frozenset()
    assert host_links.nvlink_from == ()
    refused, unknown = host_links.notes
    assert refused.startswith("rocm_smi_topo: not one link of XGMI")
    assert unknown.startswith("XGMI (AMD Infinity Fabric): unknown for")
    whole = read_with(host, rocm_smi_topo=rocm(lambda *_: "XGMI"))
    assert linked_pairs(whole) == dict.fromkeys(ALL_PAIRS, "XGMI1")
    assert whole.notes == ()


def test_devices_are_known_by_their_addresses(machine):
    order = [6, 2, 0, 4, 5, 1, 3, 7]
    host_links = read_with(
        machine(ASCEND),
        npu_smi_topo=npu(
            lambda a, b: "HCCS" if a // 4 == b // 4 else "PHB",
            buses=map(address, order),
        ),
    )
    assert set(linked_pairs(host_links)) == {
        pair
        for four in (order[:4], order[4:])
        for pair in itertools.combinations(sorted(four), 2)
    }


NPU_PROCESSES = """\
+-----------------+--------------+--------------+---------------------+
| NPU     Chip    | Process id   | Process name | Process memory(MB)  |
+=================+==============+==============+=====================+
| 0       0       | 123456       | python3      | 3014                |
| No running processes found in NPU 1                                 |
+=================+==============+==============+=====================+
"""


@pytest.mark.parametrize("name", ["910B3", "910B4-1", "910_9382", "310"])
@pytest.mark.parametrize("processes", ["", NPU_PROCESSES])
def test_npus_are_known_whatever_their_name_and_processes(
    machine, name, processes
):
    text = npu(
        lambda a, b: "HCCS" if a // 4 == b // 4 else "SYS",
        buses=[address(i) for i in range(8)],
    )
    text = text.replace("910B3".ljust(len(name)), name.ljust(5))
    start = text.index("       NPU0")
    text = text[:start] + processes + text[start:]
    host_links = read_with(machine(ASCEND), npu_smi_topo=text)
    assert linked_pairs(host_links) == dict.fromkeys(IN_HIVES, "HCCS")


def test_addresses_of_rocm_smi_are_found_among_colors(machine):
    text = rocm(two_hives, buses=map(address, range(8)), nodes=[0] * 4)
    text = text.replace("GPU[0]", "\x1b[1mGPU[0]\x1b[0m")
    text = text.replace("PCI Bus: ", "PCI Bus: \x1b[0m")
    host_links = read_with(machine(AMD), rocm_smi_topo=text)
    assert linked_pairs(host_links) == dict.fromkeys(IN_HIVES, "XGMI1")


def test_links_end_up_in_the_tag(machine):
    host = machine(AMD)
    host_links = read_with(host, rocm_smi_topo=rocm(lambda *_: "XGMI"))
    described = host_links.build_device_links(host_links.devices)
    assert {
        codec.format_text(found).split(",")[0] for found in described.values()
    } == {"xgmi1:0"}


@pytest.mark.parametrize(
    ("ids", "option"),
    [
        (AMD, "--rocm-smi-topo"),
        (ASCEND, "--npu-smi-topo"),
        (GAUDI, "--hl-smi-topo"),
    ],
)
def test_without_a_file_a_note_says_that_there_are_other_links(
    machine, ids, option
):
    (note,) = linking.join(machine(ids)).notes
    assert "links of their own, which sysfs does not show" in note
    assert note.endswith(option)


def test_one_device_has_nobody_to_be_linked_with(machine):
    assert linking.join(machine(AMD, devices=1)).notes == ()


SIX = rocm(lambda *_: "XGMI", devices=6)


@pytest.mark.parametrize(
    ("ids", "key", "text", "said"),
    [
        (AMD, "rocm_smi_topo", "", "no output of 'rocm-smi --showtopo'"),
        (AMD, "rocm_smi_topo", SIX, "6 devices, but"),
        (AMD, "rocm_smi_topo", rocm(two_hives), "--showbus"),
        (
            AMD,
            "rocm_smi_topo",
            rocm(lambda *_: "NVL"),
            "'NVL' is no link type",
        ),
        (
            AMD,
            "rocm_smi_topo",
            rocm(two_hives, buses=[f"0000:{i:02x}:00.1" for i in range(8)]),
            "of another host",
        ),
        (
            AMD,
            "rocm_smi_topo",
            rocm(two_hives, buses=map(address, range(8)), nodes=[1] * 8),
            "is on NUMA node 1",
        ),
        (
            AMD,
            "rocm_smi_topo",
            rocm(two_hives, buses=[address(0)] * 8),
            "one PCI address",
        ),
        (
            ASCEND,
            "npu_smi_topo",
            "NPU0",
            "no output of 'npu-smi info -t topo'",
        ),
        (ASCEND, "npu_smi_topo", npu(lambda *_: "NV18"), "'NV18' is no link"),
        (
            ASCEND,
            "npu_smi_topo",
            npu(lambda *_: "HCCS").replace("\nNPU7", "\nNPU9"),
            "has no column",
        ),
        (
            ASCEND,
            "npu_smi_topo",
            npu(lambda a, b: "HCCS" if b < 4 else "SYS"),
            "into one file",
        ),
        (GAUDI, "hl_smi_topo", "none", "no output of 'hl-smi topo -c -N'"),
        (GAUDI, "hl_smi_topo", hl(range(4)), "here are 0 1 2 3"),
    ],
)
def test_what_makes_no_sense_is_refused(machine, ids, key, text, said):
    with pytest.raises(exception.BadInput, match=said):
        read_with(machine(ids), **{key: text})


@pytest.mark.parametrize("tool", vendor_tools.TOOLS, ids=lambda tool: tool.key)
@pytest.mark.parametrize(
    "text",
    [
        rocm(two_hives, buses=map(address, range(8)), nodes=[0] * 8),
        npu(lambda *_: "HCCS", buses=map(address, range(8))),
        hl(range(8)),
    ],
)
def test_any_part_of_a_text_is_read_or_refused(tool, text):
    for end in range(0, len(text), 7):
        for part in (text[:end], text[end:], text[:end] + "\x00" + text[end:]):
            try:
                found = tool.parse("file", part)
            except exception.BadInput:
                continue
            assert set(found.link_by_pair) == set(
                itertools.combinations(found.devices, 2)
            )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("rocm_smi_topo", rocm(lambda *_: "XGMI")),
        (
            "rocm_smi_topo",
            rocm(two_hives, buses=map(address, range(8)), nodes=[0] * 8),
        ),
        ("npu_smi_topo", npu(lambda *_: "HCCS")),
        (
            "npu_smi_topo",
            npu(
                lambda a, b: "SIO" if a // 2 == b // 2 else "PHB",
                name="Phy-ID",
                buses=[address(i) for i in range(8)],
                dies=2,
            ),
        ),
        ("hl_smi_topo", hl(range(8))),
    ],
)
def test_a_capture_keeps_what_was_read_and_nothing_else(key, text):
    (tool,) = (tool for tool in vendor_tools.TOOLS if tool.key == key)
    serial = "SN-4711 serial\n"
    found = tool.parse("file", serial + text + serial)
    (entry,) = outputs.list_entries(
        None, linking.Sources(vendor_tools={key: ("file", serial + text)})
    )
    kept = entry.content.decode()
    assert "4711" not in kept
    assert tool.parse("capture", kept) == found
    assert entry.path == outputs.name_path(tool)
