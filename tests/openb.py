# SPDX-License-Identifier: Apache-2.0

"""The files of Alibaba's cluster trace 2023 ("openb"), or ones like them.

The trace is not ours to publish. Where it does not lie beside the repository,
one is drawn that has its hosts, its sizes of pods and how long they stay.
"""

import math
import pathlib
import random
from typing import Final

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "openb"
_NAMES: Final = ("openb_node_list_gpu_node.csv", "openb_pod_list_default.csv")

NODES: Final = {
    "A10": {1: 2},
    "G2": {8: 549},
    "G3": {8: 39},
    "P100": {1: 3, 2: 131},
    "T4": {2: 387, 4: 17},
    "V100M16": {1: 19, 4: 28, 8: 8},
    "V100M32": {4: 9, 8: 21},
}
"""Nodes of the trace: model -> GPUs of a node -> nodes."""

_PODS: Final = (
    # (GPUs, thousandths of one, pods, median and mean lifetime in seconds)
    (1, 1000, 3911, 633, 33924),
    (1, 500, 3078, 440, 17894),
    (2, 1000, 16, 2268, 61537),
    (4, 1000, 15, 542, 5628),
    (8, 1000, 44, 553, 71447),
)


def is_at_hand() -> bool:
    """Tell whether the trace itself lies beside the repository."""
    return DATA.is_dir()


def find_or_write(directory: pathlib.Path) -> list[str]:
    """Return the paths of the list of nodes and the list of pods.

    :param directory: where lists are written if the trace is not at hand.
    """
    if is_at_hand():
        return [str(DATA / name) for name in _NAMES]
    for name, lines in zip(_NAMES, (_list_nodes(), _draw_pods()), strict=True):
        (directory / name).write_text("\n".join(lines) + "\n")
    return [str(directory / name) for name in _NAMES]


def _list_nodes() -> list[str]:
    return [
        "sn,gpu,model",
        *(
            f"{model}-{gpus}-{number},{gpus},{model}"
            for model, nodes_by_gpus in NODES.items()
            for gpus, count in nodes_by_gpus.items()
            for number in range(count)
        ),
    ]


def _draw_pods() -> list[str]:
    """Draw pods whose lifetimes have a logarithmic normal distribution."""
    chance = random.Random(2023)
    pods = []
    for gpus, milli, count, median, mean in _PODS:
        sigma = math.sqrt(2 * math.log(mean / median))
        for _ in range(count):
            start = chance.randrange(12_900_000)
            end = start + round(chance.lognormvariate(math.log(median), sigma))
            pods.append((start, f"{gpus},{milli},{start},{end}"))
    return [
        "name,num_gpu,gpu_milli,creation_time,deletion_time",
        *(
            f"pod-{number},{line}"
            for number, (_, line) in enumerate(sorted(pods))
        ),
    ]
