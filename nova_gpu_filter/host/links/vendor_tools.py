# SPDX-License-Identifier: Apache-2.0

"""Reads what the tools of AMD, Huawei and Intel print of their own links.

Like nvidia-smi's, the texts are for people. Which device a row is about is
known where the tool printed PCI addresses, too; else only if all pairs have
the same link, so that it does not matter.
"""

from collections.abc import Callable
import dataclasses
import itertools
import re
from typing import Final

from nova_gpu_filter import exception
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.links import direct_links
from nova_gpu_filter.host.links.direct_links import DirectLinks
from nova_gpu_filter.topology import links


@dataclasses.dataclass(frozen=True)
class Tool:
    """A program that knows the links of the devices of one vendor."""

    key: str
    """By which it is known to the options and to :class:`linking.Sources`."""
    commands: str
    """What to save: one file takes the outputs of all of them."""
    links: str
    """What the vendor calls them."""
    vendor_id: int
    base_classes: frozenset[int]
    """PCI classes of its accelerators."""
    read: Callable[[str], DirectLinks]
    """Reads what was printed.

    :raises Malformed: the output makes no sense.
    """
    write: Callable[[DirectLinks], str]
    """Writes anew what was parsed, and nothing else, for a capture."""
    always_linked: frozenset[int] = frozenset()
    """Product ids of modules that are linked on every board that takes them:
    an output without a link is not that of a board in order."""

    @property
    def option(self) -> str:
        """The option that takes the file."""
        return f"--{self.key.replace('_', '-')}"

    def parse(self, source: str, text: str) -> DirectLinks:
        """Read what the program has printed.

        :param source: what error messages call it, for example its path.
        :raises BadInput: it makes no sense.
        """
        with exception.name_source(source):
            return self.read(text)


# The heading of a section of rocm-smi: ==== Link Type between two GPUs ====
_ROCM_SECTION = re.compile(r"=+ (.*?) =+")
_ROCM_NAME = re.compile(r"GPU([0-9]{1,3})")
_ROCM_BUS = re.compile(r"GPU ?\[?([0-9]{1,3})\]?\s*:\s*PCI Bus:\s*(\S+)")
_ROCM_NODE = re.compile(
    r"GPU ?\[?([0-9]{1,3})\]?\s*:\s*\(Topology\) Numa Node:\s*([0-9]{1,5})"
)
_ROCM_TYPES = "Link Type between two GPUs"
_ROCM_WEIGHTS = "Weight between two GPUs"
_ROCM_HOPS = "Hops between two GPUs"
# AMD SMI's how-to: one hop over XGMI has this weight. rocm-smi says XGMI of
# pairs that reach each other through a third GPU, too.
_ROCM_WEIGHT_OF_ONE_HOP = 15


def parse_rocm(text: str) -> DirectLinks:
    """Read ``rocm-smi --showtopo``, with ``--showbus`` for the addresses.

    How many links a pair has bonded is not printed: each counts as one.

    :raises Malformed: there is no table of link types, or it makes no sense.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    lines = printed.split_lines(text)
    text = "\n".join(lines)
    for line in lines:
        if match := _ROCM_SECTION.fullmatch(line.strip()):
            current = sections.setdefault(match[1].strip(), [])
        else:
            current.append(line)
    if _ROCM_TYPES not in sections:
        raise exception.Malformed(
            "this is no output of 'rocm-smi --showtopo': no section"
            f" '{_ROCM_TYPES}'"
        )
    devices, types = direct_links.parse_matrix(
        sections[_ROCM_TYPES], _ROCM_NAME
    )
    for cell in types.values():
        if cell not in ("XGMI", "PCIE", "N/A", "UNKNOWN"):
            raise exception.Malformed(
                f"'{cell}' is no link type; these are XGMI and PCIE"
            )
    weights, hops = (
        direct_links.parse_matrix(sections.get(name, ()), _ROCM_NAME)[1]
        for name in (_ROCM_WEIGHTS, _ROCM_HOPS)
    )

    def is_direct(pair: direct_links.Pair) -> bool:
        return (
            types[pair] == "XGMI"
            and _read_number(weights.get(pair)) <= _ROCM_WEIGHT_OF_ONE_HOP
            and _read_number(hops.get(pair)) <= 1
        )

    return DirectLinks(
        devices,
        {
            pair: links.parse("XGMI1") if is_direct(pair) else None
            for pair in types
        },
        direct_links.parse_addresses(_ROCM_BUS.findall(text)),
        {int(gpu): int(node) for gpu, node in _ROCM_NODE.findall(text)},
    )


def write_rocm(found: DirectLinks) -> str:
    """Write what :func:`parse_rocm` read."""
    lines = [
        "= PCI Bus ID =",
        *(f"GPU[{n}] : PCI Bus: {a}" for n, a in found.addresses.items()),
        f"= {_ROCM_TYPES} =",
        *direct_links.format_matrix(found, "GPU", "0", "PCIE", "XGMI"),
        "= Numa Nodes =",
        *(
            f"GPU[{n}] : (Topology) Numa Node: {m}"
            for n, m in found.numa.items()
        ),
    ]
    return printed.join_lines(lines)


def _drop_until(heading: re.Pattern[str], lines: list[str]) -> list[str]:
    """Leave out what is before a heading; all, if there is none."""
    return list(
        itertools.dropwhile(lambda line: not heading.match(line), lines)
    )


def _read_number(cell: str | None) -> int:
    return int(cell) if cell and re.fullmatch(r"[0-9]{1,6}", cell) else 0


# Atlas A2 numbers cards, A3 the dies of cards.
_NPU_NAME = re.compile(r"(?:NPU|Phy-ID)([0-9]{1,3})")
_NPU_HEADING = re.compile(r"(?:\s*(?:NPU|Phy-ID)[0-9]{1,3}(?!\S)){2}")
# The legend of npu-smi info -t topo. SIO joins the two dies of one package;
# HCCS_SW goes through a switch.
_NPU_DIRECT = frozenset({"HCCS", "HCCS_SW", "SIO"})
_NPU_CELLS = _NPU_DIRECT | {"PIX", "PXB", "PHB", "SYS", "NA", "N/A"}
# npu-smi info: | 0     910B3 | OK | ..., and below | 0 | 0000:C1:00.0 | ...;
# with several dies the lower line is | 0     1 | 0000:9F:00.0 | ... A table of
# processes follows: | 0     0 | 123456 | python3 | ... Names such as 910B4-1
# and 310 say nothing of the line, but its second cell does.
_NPU_CARD = re.compile(r"\|\s*([0-9]{1,3})\s+\S+\s*\|\s*[A-Za-z]+\s*\|.*")
_NPU_CHIP = re.compile(
    r"\|\s*[0-9]{1,3}(?:\s+([0-9]{1,3}))?\s*\|\s*([0-9A-Fa-f]+:[0-9A-Fa-f:.]+)"
    r"\s*\|.*"
)


def parse_npu(text: str) -> DirectLinks:
    """Read ``npu-smi info -t topo``, and ``npu-smi info`` for the addresses.

    :raises Malformed: there is no matrix, or it makes no sense.
    """
    lines = printed.split_lines(text)
    matrix = _drop_until(_NPU_HEADING, lines)
    if not matrix:
        raise exception.Malformed(
            "this is no output of 'npu-smi info -t topo': no line that"
            " begins with the columns NPU0, NPU1"
        )
    devices, cells = direct_links.parse_matrix(matrix, _NPU_NAME)
    for cell in cells.values():
        if cell not in _NPU_CELLS:
            raise exception.Malformed(
                f"'{cell}' is no link; links are"
                f" {', '.join(sorted(_NPU_CELLS))}",
            )
    found = []
    card = None
    for line in lines:
        if match := _NPU_CARD.fullmatch(line.strip()):
            card = match[1]
        elif card and (match := _NPU_CHIP.fullmatch(line.strip())):
            found.append((match[1] or card, match[2]))
    return DirectLinks(
        devices,
        {
            pair: links.parse("HCCS") if cell in _NPU_DIRECT else None
            for pair, cell in cells.items()
        },
        direct_links.parse_addresses(found),
        {},
    )


def write_npu(found: DirectLinks) -> str:
    """Write what :func:`parse_npu` read."""
    lines = [
        line
        for number, address in found.addresses.items()
        for line in (f"| {number} NPU | OK |", f"| 0 | {address} | |")
    ]
    lines += direct_links.format_matrix(found, "NPU", "X", "NA", "HCCS")
    return printed.join_lines(lines)


_HL_HEADING = re.compile(r"\s*modID\s")
_HL_ROW = re.compile(r"\s*([0-9]{1,3})\s.*")
# Gaudi, Gaudi 2 and Gaudi 3 white papers: on a universal baseboard of eight
# OAMs, seven (Gaudi) or 21 ports of each go to the seven others.
_HL_MODULES: Final = tuple(range(8))


def parse_hl(text: str) -> DirectLinks:
    """Read ``hl-smi topo -c -N``: which modules of a baseboard there are.

    It tells no links. On a board of eight, each module is wired to all others.

    :raises Malformed: there are no modules, or other than 0 to 7.
    """
    lines = printed.split_lines(text)
    table = _drop_until(_HL_HEADING, lines)
    if not table:
        raise exception.Malformed(
            "this is no output of 'hl-smi topo -c -N': no line that"
            " begins with the column modID"
        )
    modules = [
        int(match[1])
        for line in table[1:]
        if (match := _HL_ROW.fullmatch(line))
    ]
    if sorted(modules) != list(_HL_MODULES):
        raise exception.Malformed(
            "only of a baseboard with the modules 0 to 7 it is known"
            " that all are linked; here are"
            f" {' '.join(map(str, modules)) or 'none'}",
        )
    return DirectLinks(
        _HL_MODULES,
        dict.fromkeys(
            itertools.combinations(_HL_MODULES, 2), links.parse("GAUDI")
        ),
        {},
        {},
    )


def write_hl(found: DirectLinks) -> str:
    """Write what :func:`parse_hl` read."""
    rows = (f"{module} -" for module in found.devices)
    return printed.join_lines(["modID -", *rows])


TOOLS: Final = (
    Tool(
        "rocm_smi_topo",
        "rocm-smi --showbus --showtopo",
        "XGMI (AMD Infinity Fabric)",
        0x1002,
        frozenset({0x0300, 0x0302, 0x0380, 0x1200}),
        parse_rocm,
        write_rocm,
        # Instinct MI300X, MI308X, MI325X, MI300X HF (pci.ids): modules, each
        # with 7 links to the 7 others of a platform (AMD's data sheets).
        frozenset({0x74A1, 0x74A2, 0x74A5, 0x74A9}),
    ),
    Tool(
        "npu_smi_topo",
        "npu-smi info; npu-smi info -t topo",
        "HCCS",
        0x19E5,
        frozenset({0x1200}),
        parse_npu,
        write_npu,
    ),
    Tool(
        "hl_smi_topo",
        "hl-smi topo -c -N",
        "Gaudi's own Ethernet links",
        0x1DA3,
        frozenset({0x1200}),
        parse_hl,
        write_hl,
    ),
)
