# SPDX-License-Identifier: Apache-2.0

"""What is kept of the outputs of vendors' tools, and where."""

from collections.abc import Iterator
import json
import re
from typing import Any

from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.links import vendor_tools
from nova_gpu_filter.host.saved.archive import Entry
from nova_gpu_filter.host.saved.tokens import ADDRESS
from nova_gpu_filter.host.saved.tokens import REMOVED
from nova_gpu_filter.host.saved.tokens import Tokens

FOLDER = "/nova-gpu-host"
TOPO = f"{FOLDER}/nvidia-smi-topo.txt"
QUERY = f"{FOLDER}/nvidia-smi-q.txt"
FABRIC = f"{FOLDER}/fmpm-l.json"

# Of the matrix: names, links, affinities and the headings.
_TOPO_CELL = re.compile(
    r"GPU[0-9]{1,3}|NIC[0-9]{1,3}:?|X|NV[0-9]{1,2}|PIX|PXB|PHB|NODE|SYS|SOC"
    r"|PSB|N/A|ERR|ERROR|\?|-|[0-9]{1,5}(?:[-,][0-9]{1,5}){0,64}|GPU|CPU|NUMA"
    r"|Affinity|CPU_Affinity|ID|NIC|Legend:"
)
# What drivers and rdma-core call the devices of RDMA.
_RDMA_NAME = re.compile(
    r"(?:mlx[45]|bnxt_re|irdma|i40iw|qedr|ocrdma|hns|erdma|efa|mana|cxgb4"
    r"|vmw_pvrdma|rxe|siw)_?[0-9]{1,3}"
    r"|(?:ro|ib|iw)(?:ce)?(?:p[0-9]{1,5}s[0-9]{1,5}|o[0-9]{1,5}|s[0-9]{1,5})"
    r"(?:[fdnv][0-9]{1,5}){0,3}"
)


def name_path(tool: vendor_tools.Tool) -> str:
    """Say where the output of a vendor's tool is kept."""
    return f"{FOLDER}/{tool.key.replace('_', '-')}.txt"


def list_entries(
    tokens: Tokens,
    sources: linking.Sources,
    cc_modes: cc_mode.Modes | None = None,
) -> Iterator[Entry]:
    """Yield what is kept of each output that was given."""
    for path, source, keep in (
        (TOPO, sources.topo, _write_topo),
        (QUERY, sources.query, _write_query),
        (FABRIC, sources.fabric, _write_fabric),
    ):
        if source is not None:
            text = keep(tokens, source[1])
            yield Entry(path, text.encode("ascii", "replace"))
    for tool in vendor_tools.TOOLS:
        source = sources.vendor_tools.get(tool.key)
        if source is not None:
            text = tool.write(tool.parse(*source))
            yield Entry(name_path(tool), text.encode("ascii", "replace"))
    if cc_modes is not None:
        text = cc_mode.write(cc_modes)
        yield Entry(cc_mode.CAPTURED, text.encode("ascii", "replace"))


def _write_topo(tokens: Tokens, text: str) -> str:
    lines = []
    for line in printed.split_lines(text):
        words = re.split(r"([ \t]+)", line)
        shown = (
            word
            if not word.strip()
            or _TOPO_CELL.fullmatch(word)
            or _RDMA_NAME.fullmatch(word)
            else _clean_name(tokens, word)
            for word in words
        )
        lines.append("".join(shown))
    return printed.join_lines(lines)


def _clean_name(tokens: Tokens, word: str) -> str:
    name = tokens.clean_name(word) if word in tokens.rdma_devices else None
    return name or REMOVED


def _write_query(_: Tokens, text: str) -> str:
    """Keep which GPUs there are, and their Module Ids."""
    lines = []
    for line in printed.split_lines(text):
        if re.fullmatch(rf"GPU {ADDRESS}\s*", line) or re.fullmatch(
            r"\s+module\s+id\s*:\s*(?:[0-9]{1,4}|N/A)\s*", line, re.IGNORECASE
        ):
            lines.append(line.rstrip())
    return printed.join_lines(lines)


def _write_fabric(_: Tokens, text: str) -> str:
    """Write the list of partitions anew, from its numbers."""
    try:
        data = json.loads(text[max(text.find("{"), 0) :])
        found = [_write_partition(one) for one in data["partitionInfo"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # It is no list of partitions, so nobody can use it.
        return ""
    return json.dumps({"partitionInfo": found}, indent=1) + "\n"


def _write_partition(data: dict[str, Any]) -> dict[str, Any]:
    kept = _keep_numbers(data, ("partitionId", "numGpus", "isActive"))
    kept["gpuInfo"] = [_write_member(one) for one in data["gpuInfo"]]
    return kept


def _write_member(data: dict[str, Any]) -> dict[str, Any]:
    kept = _keep_numbers(data, ("physicalId",))
    address = data.get("pciBusId")
    if isinstance(address, str) and re.fullmatch(ADDRESS, address):
        kept["pciBusId"] = address
    return kept


def _keep_numbers(
    data: dict[str, Any], keys: tuple[str, ...]
) -> dict[str, Any]:
    return {
        key: data[key]
        for key in keys
        if isinstance(data.get(key), int) and abs(data[key]) < 1 << 32
    }
