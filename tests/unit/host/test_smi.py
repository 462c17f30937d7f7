# SPDX-License-Identifier: Apache-2.0

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.links import smi
from nova_gpu_filter.topology import links
from tests import smi_files
from tests import topo_tables

SELF = links.SELF


def parse_table(name):
    return smi.parse_topo(name, topo_tables.read(name))


# GPUs; the links between GPUs and how many pairs have each; network cards;
# NUMA affinity.
FACTS = {
    "a100_nc96ads_v4_4x_bridge_pairs": (
        4,
        {"NV12": 2, "SYS": 4},
        0,
        (0, 1, 2, 3),
    ),
    "a100_pcie_4x_one_bridge_pair": (
        4,
        {"NV12": 1, "NODE": 1, "SYS": 4},
        2,
        (0, 0, 1, 1),
    ),
    "a100_redstone_4x_leonardo": (4, {"NV4": 6}, 4, (0, 0, 0, 0)),
    "a100_redstone_4x_perlmutter": (4, {"NV4": 6}, 0, (3, 2, 1, 0)),
    "dgx1_v100_8x": (
        8,
        {"NV1": 8, "NV2": 8, "SYS": 12},
        4,
        (None,) * 8,
    ),
    "h100_nvl_pcie_8x_bridge_pairs": (
        8,
        {"NV12": 4, "NODE": 8, "SYS": 16},
        2,
        (0, 0, 0, 0, 1, 1, 1, 1),
    ),
    "hgx_a100_8x_epyc_nps4": (
        8,
        {"NV12": 28},
        1,
        (3, 3, 1, 1, 7, 7, 5, 5),
    ),
    "hgx_a100_8x_p4d": (8, {"NV12": 28}, 0, (0, 0, 0, 0, 1, 1, 1, 1)),
    "hgx_h100_8x_13nic": (
        8,
        {"NV18": 28},
        13,
        (0, 0, 0, 0, 1, 1, 1, 1),
    ),
    "hgx_h200_8x": (8, {"NV18": 28}, 8, (0, 0, 0, 0, 1, 1, 1, 1)),
    "pcie_8x_pix_node_sys": (
        8,
        {"PIX": 4, "NODE": 8, "SYS": 16},
        0,
        (0, 0, 0, 0, 1, 1, 1, 1),
    ),
    "pcie_8x_pix_sys_2nic": (
        8,
        {"PIX": 12, "SYS": 16},
        2,
        (0, 0, 0, 0, 1, 1, 1, 1),
    ),
    "rtx4090_pcie_8x_node_sys": (
        8,
        {"NODE": 12, "SYS": 16},
        0,
        (0, 0, 0, 0, 1, 1, 1, 1),
    ),
    "rtx_a5000_pcie_8x": (
        8,
        {"PXB": 10, "PIX": 2, "SYS": 16},
        2,
        (0, 0, 0, 0, 1, 1, 1, 1),
    ),
}


def test_no_table_is_without_its_facts():
    there = {path.stem for path in smi_files.SMI.glob("*.txt")}
    there -= {"SOURCES", "hgx_h200_8x.module_ids"}
    assert set(FACTS) == set(topo_tables.NAMES)
    assert there <= set(FACTS)


@pytest.mark.parametrize("name", topo_tables.NAMES)
def test_every_real_matrix_is_read(name):
    gpus, counts, nics, numa = FACTS[name]
    matrix = parse_table(name)
    found = {}
    for a, b in itertools.combinations(range(matrix.gpus), 2):
        key = links.name(matrix.cells[a][b])
        found[key] = found.get(key, 0) + 1
    assert (matrix.gpus, found, len(matrix.nics), matrix.numa) == (
        gpus,
        counts,
        nics,
        numa,
    )


@pytest.mark.parametrize("name", topo_tables.NAMES)
def test_every_cell_of_a_real_matrix_agrees_with_a_plain_reading(name):
    """The rows once more, cut by columns of words and nothing else."""
    matrix = parse_table(name)
    lines = topo_tables.read(name).splitlines()
    rows = [line.split() for line in lines if line.split()[1:]]
    wanted = matrix.gpus + len(matrix.nics)
    body = [row for row in rows[1:] if row[0].startswith("GPU")]
    for gpu in range(matrix.gpus):
        cells = [
            None if link is None else links.name(link)
            for link in matrix.cells[gpu]
        ]
        assert body[gpu][1 : wanted + 1] == cells


def test_cards_are_called_as_the_legend_says():
    assert parse_table("hgx_h100_8x_13nic").nics[-1] == "mlx5_eth4"


def test_cards_without_a_legend_keep_their_columns_name():
    assert parse_table("hgx_h200_8x").nics[0] == "NIC0"
    assert parse_table("dgx1_v100_8x").nics[0] == "mlx5_0"


TWO = smi_files.topo(["X NV12", "NV12 X"], (0, 1))
QUOTED = "".join(f"> {line}" for line in TWO.splitlines(True))


@pytest.mark.parametrize(
    "text",
    [
        TWO,
        TWO.replace("\t", "    "),
        TWO.lstrip(),
        TWO.replace("\n", "\r\n"),
        "$ nvidia-smi topo -m\n" + TWO,
        TWO.replace("GPU0\tGPU1", "\x1b[4mGPU0\tGPU1", 1).replace(
            "NUMA Affinity", "NUMA Affinity\x1b[0m"
        ),
        TWO.replace("\tX", "\t X ").replace("NUMA Affinity", "NUMA Affinity "),
        "\ufeff" + TWO,
        QUOTED,
        "".join(f">{line}" for line in QUOTED.splitlines(True)),
        TWO.replace("\n", "\r"),
        TWO.replace("\n", "\r\r\n"),
        TWO.replace("\n", "\n\n"),
        TWO.replace("\n", "  \t \n"),
        TWO.expandtabs().replace("\n", "\t\n"),
        TWO.replace("\t", "\u00a0\u00a0").replace(" ", "\u00a0"),
        "\x1b]0;root@node: ~\x07\x1b(B\x1b[m" + TWO,
        TWO.replace("GPU0\tGPU1", "^[[4mGPU0\tGPU1", 1).replace(
            "NUMA Affinity", "NUMA Affinity^[[0m"
        ),
        TWO.replace("GPU0\tGPU1", "[4mGPU0\tGPU1", 1).replace(
            "NUMA Affinity", "NUMA Affinity[0m"
        ),
        TWO[: TWO.index("Legend")],
        TWO.replace("X    = Self", "X    =\nSelf"),
    ],
    ids=[
        "tabs",
        "spaces",
        "no indent",
        "dos",
        "prompt",
        "colors",
        "padded cells",
        "byte order mark",
        "quoted in a mail",
        "quoted in an answer",
        "classic mac",
        "two carriage returns",
        "blank lines",
        "white space at the end",
        "spaces, and a tab at the end",
        "spaces of a web page",
        "title of a window",
        "visible escapes",
        "lost escapes",
        "no legend",
        "wrapped legend",
    ],
)
def test_the_same_matrix_is_read_however_it_was_saved(text):
    matrix = smi.parse_topo("x", text)
    assert matrix.cells == (
        (SELF, links.make_nvlink(12)),
        (links.make_nvlink(12), SELF),
    )
    assert matrix.numa == (0, 1)


def test_cards_may_stand_before_the_gpus():
    text = (
        "\tNIC0\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
        "NIC0\t X \tPIX\tSYS\t\t\n"
        "GPU0\tPIX\t X \tNV4\t0-7\t0\n"
        "GPU1\tSYS\tNV4\t X \t8-15\t1\n"
        "\nNIC Legend:\n\n  NIC0: mlx5_0\n"
    )
    matrix = smi.parse_topo("x", "GPU0 and NIC0 are near:\n" + text)
    assert (matrix.gpus, matrix.nics, matrix.numa) == (2, ("mlx5_0",), (0, 1))
    assert matrix.cells[0][1] == links.make_nvlink(4)
    assert [matrix.cells[gpu][2] for gpu in (0, 1)] == [links.PIX, links.SYS]


def test_a_numa_affinity_that_is_not_known_is_none():
    matrix = smi.parse_topo("x", smi_files.topo(["X NV12", "NV12 X"]))
    assert matrix.numa == (None, None)


@pytest.mark.parametrize("name", topo_tables.NAMES)
def test_a_wrapped_matrix_is_refused_or_whole(name):
    """No column is lost without a word."""
    text = topo_tables.read(name).expandtabs()
    whole = smi.parse_topo("x", text)
    refused = 0
    for width in range(40, 200, 8):
        wrapped = "\n".join(
            line[start : start + width]
            for line in text.splitlines()
            for start in range(0, max(len(line), 1), width)
        )
        try:
            assert smi.parse_topo("x", wrapped) == whole
        except exception.BadInput as exc:
            assert str(exc).count("\n") == 0  # noqa: PT017
            refused += 1
    assert refused


@pytest.mark.parametrize(
    "name",
    [
        "NIC0",
        "mlx5_0",
        "mlx5_bond_0",
        "rocep23s0f0",
        "ibp75s0",
        "irdma0",
        "bnxt_re0",
        "rdmap0s6",
        "rocep1s0-1",
        "ib0.1",
    ],
)
def test_names_of_rdma_devices_are_columns_of_cards(name):
    text = smi_files.topo(["X NV12 PIX", "NV12 X SYS"])
    text = text.replace("GPU1\tCPU", f"GPU1\t{name}\tCPU")
    assert smi.parse_topo("x", text).nics == (name,)


HEADINGS = "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"


@pytest.mark.parametrize(
    ("headings", "tail", "node"),
    [
        (HEADINGS, "\t0-55\t1\t\tN/A", 1),
        (HEADINGS, "\t0-55\t1\tN/A", 1),
        (HEADINGS, "\t\t1\t\tN/A", 1),
        (HEADINGS, "\t\t\t\t1", None),
        (HEADINGS, "\t\t\t1", None),
        (HEADINGS, "\t\t\tN/A", None),
        (HEADINGS, "\t\t0-1\t\t1", None),
        (HEADINGS, "   0-55   1   N/A", 1),
        (HEADINGS, "   0   1   2", 1),
        (HEADINGS, "   1   N/A", None),
        (HEADINGS, "   0-55   1", None),
        (HEADINGS, "   1", None),
        (HEADINGS[:2], "\t\t1", 1),
        (HEADINGS[:2], "   0-55   1", 1),
        (HEADINGS[:2], "   1", None),
        (HEADINGS[::2], "\t0-55\t1", None),
        (HEADINGS[::2], "   0-55   1", None),
        (HEADINGS[:1], "   0-55   1", None),
    ],
)
def test_an_empty_cell_is_not_filled_from_the_next_column(
    headings, tail, node
):
    gap = "\t" if "\t" in tail else "   "
    text = f"{gap}{gap.join(['GPU0', *headings])}\nGPU0{gap} X {tail}\n"
    assert smi.parse_topo("x", text).numa == (node,)


@pytest.mark.parametrize(
    ("cell", "link"),
    [
        ("SOC", links.SYS),
        ("PSB", links.PIX),
        ("N/A", None),
        ("ERR", None),
        ("NV1", links.make_nvlink(1)),
        ("NV18", links.make_nvlink(18)),
    ],
)
def test_cells_of_other_drivers_are_read(cell, link):
    text = smi_files.topo([f"X {cell}", f"{cell} X"])
    assert smi.parse_topo("x", text).cells[0][1] == link


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no output of 'nvidia-smi topo -m'"),
        ("No devices were found\n", "no output of 'nvidia-smi topo -m'"),
        (TWO.replace("NV12", "FOO", 1), "row GPU0, column GPU1: 'FOO' is no"),
        (TWO.replace("NV12", "NV8", 1), "GPU0 to GPU1 is NV8, but GPU1 to"),
        (TWO.replace("NV12", "X", 1), "X stands on the diagonal"),
        (TWO[: TWO.index("GPU1\tNV12")], "the row of GPU1 is missing"),
        (TWO.replace("GPU0\tGPU1", "GPU0\tGPU2", 1), "not GPU0, GPU1"),
        (TWO.replace("GPU0\tGPU1", "GPU0\t!", 1), "unknown column '!'"),
        (TWO.replace("GPU1\tNV12\tX\t0-63\t1", "GPU1\tNV12"), "has 1 cells"),
        (TWO + "GPU1\tNV12\tX\n", "the row of GPU1 is there twice"),
        (TWO + "GPU2\tNV12\tX\n", "a row of GPU2, which the heading has"),
        (TWO.replace("\tCPU", "\n\tCPU"), "the lines were wrapped"),
        (TWO[: TWO.index("\nGPU0")], "no output of 'nvidia-smi topo -m'"),
        (TWO.replace("\t", ","), "no output of 'nvidia-smi topo -m'"),
        (TWO.lower(), "no output of 'nvidia-smi topo -m'"),
    ],
)
def test_what_is_no_matrix_is_refused_with_row_and_column(text, message):
    with pytest.raises(exception.BadInput) as raised:
        smi.parse_topo("topo.txt", text)
    assert str(raised.value).startswith("topo.txt: ")
    assert message in str(raised.value)


LINKS = st.sampled_from(
    [links.SYS, links.NODE, links.PHB, links.PXB, links.PIX]
) | st.integers(1, 18).map(links.make_nvlink)


@st.composite
def matrices(draw):
    """A symmetric matrix of GPUs and cards, and their NUMA nodes."""
    gpus = draw(st.integers(1, 5))
    nics = draw(st.integers(0, 2))
    pairs = list(itertools.combinations(range(gpus + nics), 2))
    drawn = draw(st.lists(LINKS, min_size=len(pairs), max_size=len(pairs)))
    cells = [[SELF] * (gpus + nics) for _ in range(gpus + nics)]
    for (a, b), link in zip(pairs, drawn, strict=True):
        cells[a][b] = cells[b][a] = link
    node = st.none() | st.integers(0, 9)
    return (
        gpus,
        nics,
        cells,
        draw(st.lists(node, min_size=gpus, max_size=gpus)),
    )


@given(matrices(), st.sampled_from(["\t", "    "]), st.booleans())
def test_any_matrix_is_read_as_it_was_printed(matrix, gap, with_nic_rows):
    gpus, nics, cells, numa = matrix
    names = [f"GPU{i}" for i in range(gpus)]
    names += [f"mlx5_{i}" for i in range(nics)]
    lines = [
        gap
        + gap.join([*names, "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])
    ]
    for i, name in enumerate(names[: gpus + nics * with_nic_rows]):
        row = [name, *(links.name(link) for link in cells[i])]
        if i < gpus:
            node = "N/A" if numa[i] is None else str(numa[i])
            row += ["0-7,16-23", node, "N/A"]
        lines.append(gap.join(row))
    read = smi.parse_topo("x", "\n".join(lines))
    assert read.gpus == gpus
    assert read.nics == tuple(names[gpus:])
    assert read.numa == tuple(numa)
    for a, b in itertools.product(range(gpus), range(gpus + nics)):
        assert read.cells[a][b] == cells[a][b]


def test_a_single_gpu_has_a_matrix_of_one_cell():
    matrix = smi.parse_topo("x", smi_files.topo(["X"], (0,)))
    assert (matrix.gpus, matrix.cells, matrix.numa) == (1, ((SELF,),), (0,))


@given(st.text() | st.text("GPU01NVX \t\nSYS24-", max_size=200))
def test_any_text_is_a_matrix_or_bad_input(text):
    try:
        matrix = smi.parse_topo("x", text)
    except exception.BadInput as exc:
        assert str(exc).startswith("x: ")  # noqa: PT017 (one of two ends)
    else:
        assert len(matrix.cells) == matrix.gpus


def test_gpus_and_module_ids_are_read_in_the_order_of_indices():
    text = smi_files.query({"0000:83:00.0": 2, "0000:0f:00.0": None})
    assert [
        (str(address), module_id)
        for address, module_id in smi.parse_query("x", text).items()
    ] == [("0000:83:00.0", 2), ("0000:0f:00.0", None)]


def test_module_ids_of_a_real_board_are_read():
    modules = smi_files.read_module_ids()
    read = smi.parse_query("x", smi_files.query(modules))
    assert {str(address): id_ for address, id_ in read.items()} == modules
    assert sorted(modules.values()) == list(range(1, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no output of 'nvidia-smi -q'"),
        ("GPU 99\n", "'99' is no PCI address"),
        ("GPU 0:1:2\n", "'0:1:2' is no PCI address"),
        (
            "GPU 00000000:83:00.0\n    Module Id : two\n",
            "Module Id 'two' is no number",
        ),
        (
            "GPU 00000000:83:00.0\nGPU 00000000:83:00.0\n",
            "GPU 0000:83:00.0 is there twice",
        ),
        (
            smi_files.query({"0000:01:00.0": 3, "0000:02:00.0": 3}),
            "Module Id 3 is there twice",
        ),
    ],
)
def test_a_query_that_contradicts_itself_is_refused(text, message):
    with pytest.raises(exception.BadInput, match=message):
        smi.parse_query("q.txt", text)


@given(st.text() | st.text("GPU 0:.\nModule Id123\t", max_size=200))
def test_any_text_is_a_query_or_bad_input(text):
    try:
        gpus = smi.parse_query("x", text)
    except exception.BadInput as exc:
        assert str(exc).startswith("x: ")  # noqa: PT017 (one of two ends)
    else:
        assert gpus


def test_a_query_is_read_however_it_was_saved():
    text = smi_files.query({"0000:83:00.0": 2, "0000:0f:00.0": None})
    quoted = "".join(f"> {line}" for line in text.splitlines(True))
    for saved in ("\ufeff" + text, quoted, text.replace("\n", "\r\n")):
        assert smi.parse_query("x", saved) == smi.parse_query("x", text)
