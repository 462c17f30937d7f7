# SPDX-License-Identifier: Apache-2.0

"""Outputs of nvidia-smi and fmpm: real ones, and ones made for a host."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import pathlib

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
SMI = DATA / "smi"
HGX_H100_PARTITIONS = DATA / "fabric_partitions_hgx_h100.json"


def read_module_ids() -> dict[str, int]:
    """Read the Module Id of each GPU of an HGX H200, by address.

    Of the real machine, if its output is at hand: it is not ours to publish.
    """
    path = SMI / "hgx_h200_8x.module_ids.txt"
    if not path.exists():
        return dict(HGX_H200_MODULES)
    rows = [line.split() for line in path.read_text().splitlines()[2:]]
    return {row[1]: int(row[2]) for row in rows}


def read_guide() -> tuple[dict[int, tuple[int, ...]], tuple[int, ...]]:
    """Read what NVIDIA's WP-12736-002 says of HGX H100.

    As noted from the guide beside the repository, if that is at hand.

    :returns: the Module Ids of each partition, and those of the GPUs of its
        example in PCI order.
    """
    if not HGX_H100_PARTITIONS.exists():
        return HGX_H100, HGX_H100_MODULES
    guide = json.loads(HGX_H100_PARTITIONS.read_text())
    partitions = {
        entry["id"]: tuple(entry["modules"]) for entry in guide["partitions"]
    }
    modules = sorted(guide["module_by_pci_wp"].items())
    return partitions, tuple(module for _, module in modules)


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

HGX_H100_MODULES = (5, 7, 6, 8, 1, 3, 2, 4)
"""Of the GPUs of the guide's example, in PCI order."""

HGX_H200_MODULES = {
    "0000:83:00.0": 2,
    "0000:8b:00.0": 4,
    "0000:93:00.0": 1,
    "0000:9b:00.0": 3,
    "0000:a3:00.0": 7,
    "0000:ab:00.0": 5,
    "0000:b3:00.0": 6,
    "0000:bb:00.0": 8,
}
"""Of one HGX H200, by address."""
