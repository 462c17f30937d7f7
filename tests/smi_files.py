# SPDX-License-Identifier: Apache-2.0

"""Outputs of nvidia-smi and fmpm: real ones, and ones made for a host."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import pathlib

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
SMI = DATA / "smi"
HGX_H100_PARTITIONS = DATA / "fabric_partitions_hgx_h100.json"

TOPO_FILES = (
    "a100_nc96ads_v4_4x_bridge_pairs.txt",
    "a100_pcie_4x_one_bridge_pair.txt",
    "a100_redstone_4x_leonardo.txt",
    "a100_redstone_4x_perlmutter.txt",
    "dgx1_v100_8x.txt",
    "h100_nvl_pcie_8x_bridge_pairs.txt",
    "hgx_a100_8x_epyc_nps4.txt",
    "hgx_a100_8x_p4d.txt",
    "hgx_h100_8x_13nic.txt",
    "hgx_h200_8x.txt",
    "pcie_8x_pix_node_sys.txt",
    "pcie_8x_pix_sys_2nic.txt",
    "rtx4090_pcie_8x_node_sys.txt",
    "rtx_a5000_pcie_8x.txt",
)


def topo(rows: Sequence[str], numa: Sequence[int] | None = None) -> str:
    """Print a matrix of GPUs as nvidia-smi does.

    :param rows: the cells of each GPU, one string each, without X:
        ``["NV12 SYS", ...]`` has them in column order, X among them.
    """
    heading = [f"GPU{index}" for index in range(len(rows))]
    lines = ["\t" + "\t".join([*heading, "CPU Affinity", "NUMA Affinity"])]
    for index, row in enumerate(rows):
        tail = ["0-63", "N/A" if numa is None else str(numa[index])]
        lines.append("\t".join([f"GPU{index}", *row.split(), *tail]))
    return "\n".join(lines) + "\n\nLegend:\n\n  X    = Self\n"


def query(module_ids: Mapping[str, int | None]) -> str:
    """Print ``nvidia-smi -q`` of GPUs: Module Id keyed by address."""
    lines = [
        "==============NVSMI LOG==============",
        "",
        "Driver Version                        : 550.90.07",
        "",
        f"Attached GPUs                         : {len(module_ids)}",
    ]
    for address, module_id in module_ids.items():
        domain, rest = address.split(":", 1)
        shown = "N/A" if module_id is None else module_id
        lines += [
            f"GPU {int(domain, 16):08X}:{rest.upper()}",
            "    Product Name                      : NVIDIA H100 80GB HBM3",
            "    Product Architecture              : Hopper",
            f"    Module ID                         : {shown}",
            "    GPU Operation Mode",
            "        Current                       : N/A",
            "",
        ]
    return "\n".join(lines)


def fmpm(
    partitions: Mapping[int, Sequence[int]],
    address_by_module: Mapping[int, str] | None = None,
) -> str:
    """Print ``fmpm -l``: Module Ids keyed by partition."""
    addresses = address_by_module or {}
    return json.dumps(
        {
            "maxNumPartitions": len(partitions),
            "numPartitions": len(partitions),
            "partitionInfo": [
                {
                    "gpuInfo": [
                        {
                            "maxNumNvLinks": 18,
                            "numNvLinksAvailable": 18,
                            "nvlinkLineRateMBps": 50000,
                            "pciBusId": addresses.get(module, ""),
                            "physicalId": module,
                            "uuid": "",
                        }
                        for module in modules
                    ],
                    "isActive": 0,
                    "numGpus": len(modules),
                    "partitionId": id_,
                }
                for id_, modules in partitions.items()
            ],
            "version": 16909068,
        },
        indent=3,
    )


# The table of an HGX H100 board: WP-12736-002 of NVIDIA.
HGX_H100 = {
    0: (1, 2, 3, 4, 5, 6, 7, 8),
    1: (1, 2, 3, 4),
    2: (5, 6, 7, 8),
    3: (1, 3),
    4: (2, 4),
    5: (5, 7),
    6: (6, 8),
    **{6 + module: (module,) for module in range(1, 9)},
}
