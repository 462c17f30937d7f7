# SPDX-License-Identifier: Apache-2.0

"""Links of boards on which they are the same in every machine."""

from typing import Final

DGX1_NVLINKS: Final = (
    (0, 1, 1, 2, 2, 0, 0, 0),
    (1, 0, 2, 1, 0, 2, 0, 0),
    (1, 2, 0, 2, 0, 0, 1, 0),
    (2, 1, 2, 0, 0, 0, 0, 1),
    (2, 0, 0, 0, 0, 1, 1, 2),
    (0, 2, 0, 0, 1, 0, 2, 1),
    (0, 0, 1, 0, 1, 2, 0, 2),
    (0, 0, 0, 1, 2, 1, 2, 0),
)
"""NVLinks of each pair of a DGX-1 with 8 V100-SXM2, GPU0 to GPU7.

Two quads, each fully meshed, and one link from each GPU to its counterpart:
NVIDIA's white paper WP-08437-002, "DGX-1 With Tesla V100 System Architecture".
"""
