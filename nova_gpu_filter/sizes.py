# SPDX-License-Identifier: Apache-2.0

"""Sizes of memory as people write them."""


def format_size(size: int) -> str:
    """Write bytes in the largest unit that fits: ``80 GiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    digits = f"{value:.1f}".removesuffix(".0")
    return f"{digits} {unit}"
