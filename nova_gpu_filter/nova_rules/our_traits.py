# SPDX-License-Identifier: Apache-2.0

"""How names begin that ``nova-gpu-host config`` makes for Placement.

Those of links stand in :mod:`nova_gpu_filter.topology.codec`.
"""

from typing import Final

PREFIX: Final = "CUSTOM_GPU_"
"""All traits of ours about GPUs."""
MODEL: Final = f"{PREFIX}MODEL_"
"""The product."""
ARCHITECTURE: Final = f"{PREFIX}ARCHITECTURE_"
ISA: Final = f"{PREFIX}ISA_"
COUNT: Final = f"{PREFIX}COUNT_"
"""How many GPUs a host has."""
VGPU_CLASS: Final = "CUSTOM_VGPU_"
"""Resource classes of VFs, by their type."""
VGPU_TYPE: Final = "CUSTOM_VGPU_TYPE_"
"""The type of mediated devices."""
