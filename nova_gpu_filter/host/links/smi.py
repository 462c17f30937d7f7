# SPDX-License-Identifier: Apache-2.0

"""Reads what nvidia-smi prints: ``topo -m`` and ``-q``.

The text is for people, and has changed over the years: tabs or spaces, with
and without NUMA columns, network cards as ``mlx5_0`` or as ``NIC0`` with a
legend. Texts from manuals and tickets have lost their first white space, or
end early.
"""

import dataclasses
import re

from nova_gpu_filter import exception
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

_GPU = re.compile(r"GPU([0-9]{1,3})")
# NIC0, or the name of an RDMA device: mlx5_0, rocep23s0f0, ibp75s0, irdma0.
# The kernel lets a name be anything (ib_device_rename in
# drivers/infiniband/core/device.c); rdma-core's begin with a letter.
_NIC = re.compile(r"(?!GPU)[A-Za-z][\w.:-]{0,63}", re.ASCII)
_LEGEND = re.compile(r"\s*(NIC[0-9]+):\s+(\S+)")
_CPU_COLUMN = re.compile(r"\s*(?:CPU Affinity|CPU_Affinity)", re.IGNORECASE)
_AFFINITY_COLUMNS = re.compile(
    r"CPU[ _]Affinity|NUMA[ _]Affinity|GPU NUMA ID", re.IGNORECASE
)

# Names of drivers before 2017, and what they are called now.
_OLD_NAMES = {"SOC": "SYS", "PSB": "PIX"}
# What stands where NVML could not tell.
_UNKNOWN = frozenset({"N/A", "ERR", "ERROR", "?", "-"})


@dataclasses.dataclass(frozen=True, slots=True)
class TopoMatrix:
    """One ``nvidia-smi topo -m``: cells by the names of its rows."""

    gpus: int
    """GPU0 to GPU<gpus - 1>, in the order of nvidia-smi's indices."""
    nics: tuple[str, ...]
    """Network cards: RDMA device names, where a legend tells them."""
    cells: tuple[tuple[Link | None, ...], ...]
    """Symmetric; GPUs first, then NICs. None: nvidia-smi did not know."""
    numa: tuple[int | None, ...]
    """NUMA affinity of each GPU; None if not one node, or not printed."""


def parse_topo(source: str, text: str) -> TopoMatrix:
    """Read the output of ``nvidia-smi topo -m``.

    :param source: what error messages call it, for example its path.
    :raises BadInput: there is no matrix, a row is missing or too short, a
        cell is no link, or the two cells of a pair differ.
    """
    with exception.name_source(source):
        return _parse_topo(printed.split_lines(text))


def _parse_topo(lines: list[str]) -> TopoMatrix:
    start = _find_heading(lines)
    names = _read_columns(lines[start])
    gpus = _list_gpus(names)
    nics = [name for name in names if name not in gpus]
    rows = _read_rows(lines[start + 1 :], names)
    cells = {
        (name, other): _read_cell(name, other, cell)
        for name, (row, _) in rows.items()
        for other, cell in zip(names, row, strict=True)
    }
    missing = [name for name in gpus if name not in rows]
    if missing:
        raise exception.Malformed(
            f"the row of {', '.join(missing)} is missing: save all of"
            " the output of 'nvidia-smi topo -m'"
        )
    legend = {
        match[1]: match[2]
        for line in lines[start:]
        if (match := _LEGEND.fullmatch(line.rstrip()))
    }
    return TopoMatrix(
        gpus=len(gpus),
        nics=tuple(legend.get(name, name) for name in nics),
        cells=tuple(
            tuple(_combine(cells, a, b) for b in gpus + nics)
            for a in gpus + nics
        ),
        numa=tuple(_read_numa(lines[start], rows[name][1]) for name in gpus),
    )


def _find_heading(lines: list[str]) -> int:
    """Find the line with the names of the columns.

    Network cards can stand before the GPUs. Then it is a sentence about GPU0
    unless it names what the rows below it name.

    :raises Malformed: there is none, or it goes on in the next line.
    """
    is_cut = False
    for index, line in enumerate(lines[:-1]):
        names = _read_columns(line)
        if "GPU0" not in names or _is_row(line):
            continue
        below = next((one for one in lines[index + 1 :] if one.strip()), "")
        if _is_row(below) and below.split()[0] in names:
            return index
        is_cut = is_cut or names[0] == "GPU0"
    if is_cut:
        raise exception.Malformed(
            "the line below the heading is no row: the lines were"
            " wrapped or are missing; save all of the output anew, as with"
            " 'nvidia-smi topo -m > FILE'"
        )
    raise exception.Malformed(
        "this is no output of 'nvidia-smi topo -m': no line with the"
        " columns GPU0, GPU1"
    )


def _is_row(line: str) -> bool:
    """Tell a row, whose second word is a cell, from the heading."""
    words = line.split()
    return len(words) > 1 and (
        words[1] in _UNKNOWN or _parse_link(words[1]) is not None
    )


def _read_columns(heading: str) -> list[str]:
    match = _CPU_COLUMN.search(heading)
    return heading[: match.start() if match else None].split()


def _list_gpus(names: list[str]) -> list[str]:
    """List the columns of GPUs; the others have to be network cards."""
    gpus = [name for name in names if _GPU.fullmatch(name)]
    for name in names:
        if name not in gpus and not _NIC.fullmatch(name):
            raise exception.Malformed(
                f"unknown column {name!r} in the heading"
            )
    if gpus != [f"GPU{index}" for index in range(len(gpus))]:
        raise exception.Malformed(
            "the columns are not GPU0, GPU1 and so on in their order:"
            f" {' '.join(gpus)}"
        )
    return gpus


def _read_rows(
    lines: list[str], names: list[str]
) -> dict[str, tuple[list[str], str]]:
    """Give cells and what follows them, keyed by the name of the row."""
    rows: dict[str, tuple[list[str], str]] = {}
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] not in names:
            if _GPU.fullmatch(words[0]) and _is_row(line):
                raise exception.Malformed(
                    f"a row of {words[0]}, which the heading has not"
                )
            continue
        name = words[0]
        if name in rows:
            raise exception.Malformed(f"the row of {name} is there twice")
        cells = words[1 : len(names) + 1]
        if len(cells) < len(names):
            raise exception.Malformed(
                f"the row of {name} has {len(cells)} cells, and the"
                f" heading {len(names)} columns"
            )
        rest = line
        for word in [name, *cells]:
            rest = rest.split(word, 1)[1]
        rows[name] = (cells, rest)
    return rows


def _read_cell(name: str, other: str, cell: str) -> Link | None:
    if (cell == "X") != (name == other):
        raise exception.Malformed(
            f"row {name}, column {other}: '{cell}'; X stands on the"
            " diagonal and nowhere else"
        )
    if cell in _UNKNOWN:
        return None
    link = _parse_link(cell)
    if link is None:
        raise exception.Malformed(
            f"row {name}, column {other}: '{cell}' is no link; links"
            " are NV1, NV2 ..., PIX, PXB, PHB, NODE, SYS"
        )
    return link


def _parse_link(name: str) -> Link | None:
    try:
        return links.parse(_OLD_NAMES.get(name, name))
    except ValueError:
        return None


def _combine(
    cells: dict[tuple[str, str], Link | None], a: str, b: str
) -> Link | None:
    # Excerpts leave out the rows of network cards: one cell of a pair will do.
    present = [cells[pair] for pair in ((a, b), (b, a)) if pair in cells]
    if not present:
        return links.SELF if a == b else None
    if present[0] != present[-1]:
        raise exception.Malformed(
            f"{a} to {b} is {_name_link(present[0])}, but {b} to {a} is"
            f" {_name_link(present[-1])}"
        )
    return present[0]


def _name_link(link: Link | None) -> str:
    return "unknown" if link is None else links.name(link)


def _read_numa(heading: str, tail: str) -> int | None:
    """Read the NUMA affinity, the column after that of the CPUs.

    A cell can be empty: that of the CPUs where none is near, all of them
    where the driver does not know.
    """
    columns = _AFFINITY_COLUMNS.findall(heading)
    if len(columns) < 2 or not columns[1].upper().startswith("NUMA"):
        return None
    # White space at the end is no cell: editors and mail add or take it.
    tail = tail.rstrip()
    if "\t" in tail:
        cells = [cell.strip() for cell in tail.split("\t")[1:]]
    else:
        # Spaces do not show which of the cells is empty.
        cells = tail.split()
        if len(cells) != len(columns):
            return None
    if len(cells) < 2:
        return None
    return int(cells[1]) if re.fullmatch(r"[0-9]{1,5}", cells[1]) else None


_QUERY_GPU = re.compile(r"GPU ([0-9A-Fa-f:.]+)\s*")
_QUERY_MODULE = re.compile(r"\s+module\s+id\s*:\s*(.*?)\s*", re.IGNORECASE)


def parse_query(source: str, text: str) -> dict[PciAddress, int | None]:
    """Read the GPUs and their Module Ids in the output of ``nvidia-smi -q``.

    By its Module Id Fabric Manager knows a GPU (its physicalId).

    :returns: in the order of indices; None where the board has no Module Ids.
    :raises BadInput: it names no GPU, or one twice, or one Module Id twice.
    """
    with exception.name_source(source):
        module_ids = _parse_query(printed.split_lines(text))
        known = [one for one in module_ids.values() if one is not None]
        for module_id in known:
            if known.count(module_id) > 1:
                raise exception.Malformed(
                    f"Module Id {module_id} is there twice"
                )
    return module_ids


def _parse_query(lines: list[str]) -> dict[PciAddress, int | None]:
    module_ids: dict[PciAddress, int | None] = {}
    address = None
    for line in lines:
        if match := _QUERY_GPU.fullmatch(line):
            address = address_lib.find(match[1])
            if address is None:
                raise exception.Malformed(f"'{match[1]}' is no PCI address")
            if address in module_ids:
                raise exception.Malformed(f"GPU {address} is there twice")
            module_ids[address] = None
        elif address and (match := _QUERY_MODULE.fullmatch(line)):
            if match[1] in ("N/A", ""):
                continue
            if not re.fullmatch(r"[0-9]{1,4}", match[1]):
                raise exception.Malformed(
                    f"{address}: Module Id '{match[1]}' is no number"
                )
            module_ids[address] = int(match[1])
    if not module_ids:
        raise exception.Malformed(
            "this is no output of 'nvidia-smi -q': no line such as"
            " 'GPU 00000000:83:00.0'"
        )
    return module_ids
