# SPDX-License-Identifier: Apache-2.0

"""Rules of udev that give a device to vfio-pci.

Source: udev(7).
"""

import fnmatch
import re

from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import tree as tree_lib

UDEV_PLACES = (
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
)


def read(tree: tree_lib.Tree) -> tuple[Evidence, ...]:
    """List the rules that set driver_override to vfio-pci."""
    found = []
    for place in UDEV_PLACES:
        for name in tree.list_entries(place):
            path = f"{place}/{name}"
            text = (tree.read(path) or "").replace("\\\n", " ")
            found += [
                Evidence(path, line.strip())
                for line in text.splitlines()
                if "driver_override" in line
                and re.search("vfio[-_]pci", line)
                and not line.lstrip().startswith("#")
            ]
    return tuple(found)


def matches(rule: str, function: Function) -> bool:
    """Tell whether a rule is for a device."""
    if str(function.address) in rule:
        return True
    values = {
        "vendor": f"0x{function.vendor_id:04x}",
        "device": f"0x{function.product_id:04x}",
        "class": f"0x{function.class_code:06x}",
    }
    asked = re.findall(
        r'ATTRS?\{(vendor|device|class)\}=="([^"]*)"', rule, re.I
    )
    return {"vendor"} < {name for name, _ in asked} and all(
        any(
            fnmatch.fnmatchcase(values[name], pattern.lower())
            for pattern in patterns.split("|")
        )
        for name, patterns in asked
    )
