# SPDX-License-Identifier: Apache-2.0

"""The kernel's command line, and how names of modules are written.

Sources: the kernel's Documentation/admin-guide/kernel-parameters.rst and
lib/cmdline.c (next_arg).
"""

import re

CMDLINE = "/proc/cmdline"


def normalize_module_name(name: str) -> str:
    """Write a module as the kernel does: ``vfio-pci`` is ``vfio_pci``."""
    return name.replace("-", "_")


def split_arguments(text: str) -> list[str]:
    """Split a kernel command line into words, as they are written.

    What follows ``--`` is for init, and left out.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)
    return words[: words.index("--")] if "--" in words else words


def split(text: str) -> tuple[tuple[str, str | None], ...]:
    """Split a kernel command line into (parameter, value) pairs.

    Quotes keep spaces together; ``-`` and ``_`` are the same in names.
    """
    pairs = []
    for word in split_arguments(text):
        key, equals, value = word.replace('"', "").partition("=")
        pairs.append((normalize_module_name(key), value if equals else None))
    return tuple(pairs)
