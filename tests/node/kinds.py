# SPDX-License-Identifier: Apache-2.0

"""Kinds of emulated compute hosts, and what users are offered of each."""

from collections.abc import Mapping
import dataclasses

from cloud import emulated
from tests.hardware import cures
from tests.hardware import emulated_machines


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of compute host."""

    machine: emulated_machines.Machine
    alias: str
    """Of its GPUs."""
    flavors: Mapping[str, Mapping[str, str]]
    """Extra specs by name."""
    options: tuple[str, ...] = ()
    """Of ``nova-gpu-host config``, beside those that every host needs."""
    warnings: frozenset[cures.Complaint] = frozenset()
    """What ``nova-gpu-host check`` has to warn of."""


K2 = Kind(
    emulated_machines.K2_NODE,
    "a1",
    {
        "k2.1": {"pci_passthrough:alias": "a1:1"},
        "k2.1.other": {"pci_passthrough:alias": "a1:1"},
        "k2.2": {"pci_passthrough:alias": "a1:2", "gpu:link": "pix"},
    },
)
HGX = Kind(
    emulated_machines.HGX_BOARD,
    "hgx",
    {
        f"hgx.{gpus}": {
            "pci_passthrough:alias": f"hgx:{gpus}",
            **({"gpu:link": "nvlink"} if gpus > 1 else {}),
        }
        for gpus in (1, 2, 4, 8)
    },
    ("--baseboard", "hgx-h100-8"),
    # Nobody emulates Fabric Manager.
    frozenset({("warning", "fabric-manager", None)}),
)
KINDS = dict(zip(emulated.KINDS, (K2, HGX), strict=True))
"""By the names that ``make cloud`` knows."""
