# SPDX-License-Identifier: Apache-2.0

"""What a ``[pci]alias`` asks for, by the rules of Nova.

The rules are those of nova/pci/request.py (what Nova refuses) and
nova/pci/stats.py (which devices it takes), restated so that they can be asked
of any host's files; a test compares them with Nova's own.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import re
from typing import Any

from nova_gpu_filter.host.configuration import device_spec
from nova_gpu_filter.host.inventory import Function

_TYPES = ("type-PCI", "type-PF", "type-VF")
_CHOICES = {
    "device_type": _TYPES,
    "numa_policy": ("legacy", "required", "preferred", "socket"),
    "capability_type": ("pci",),
}
_KEYS = frozenset(
    {
        *("name", "vendor_id", "product_id", "resource_class", "traits"),
        *("live_migratable", *_CHOICES),
    }
)
_ID = re.compile(r"^[0-9a-fA-F]{4}$")


class AliasError(ValueError):
    """Nova would refuse the alias."""


@dataclasses.dataclass(frozen=True)
class Alias:
    """One value of the option."""

    text: str
    """As it stands in the file."""
    name: str
    vendor_id: str | None
    product_id: str | None
    device_type: str | None
    resource_class: str | None
    live_migratable: bool | None
    doubled: tuple[str, ...] = ()
    """Keys that stand in it twice; JSON takes the last."""

    @property
    def allowed_types(self) -> tuple[str, ...]:
        """The types of devices that Nova takes for it.

        Without ``device_type`` all but PFs, which Nova keeps for those who
        ask for them.
        """
        if self.device_type is None:
            return ("type-PCI", "type-VF")
        return (self.device_type,)

    def names_ids_of(self, function: Function) -> bool:
        """Tell whether a device has the ids that are asked for."""
        return self.vendor_id in (
            None,
            f"{function.vendor_id:04x}",
        ) and self.product_id in (None, f"{function.product_id:04x}")


def parse(text: str) -> Alias:
    """Read one value of the option: a JSON object.

    :raises AliasError: Nova would refuse it.
    """
    try:
        data, doubled = device_spec.load(text)
    except ValueError as error:
        raise AliasError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise AliasError("no JSON object")
    for problem in _problems(data):
        raise AliasError(problem)
    return Alias(
        text=text,
        name=data["name"].strip(),
        vendor_id=_lower(data.get("vendor_id")),
        product_id=_lower(data.get("product_id")),
        device_type=data.get("device_type"),
        resource_class=data.get("resource_class"),
        live_migratable=device_spec.boolean(data.get("live_migratable")),
        doubled=doubled,
    )


def _lower(value: str | None) -> str | None:
    return None if value is None else value.lower()


def _problems(data: Mapping[str, Any]) -> Iterator[str]:
    unknown = sorted(set(data) - _KEYS)
    if unknown:
        yield f"unknown key {', '.join(unknown)}"
    for key, value in data.items():
        if not isinstance(value, str):
            yield f"{key} is no string"
    if not data.get("name"):
        yield "it has no name"
    for key in ("vendor_id", "product_id"):
        if key in data and not _ID.match(data[key]):
            yield f"{key} is '{data[key]}', not four hexadecimal digits"
    for key, choices in _CHOICES.items():
        if key in data and data[key] not in choices:
            yield f"{key} is '{data[key]}', none of {', '.join(choices)}"
    value = data.get("live_migratable")
    if value is not None and device_spec.boolean(value) is None:
        yield f"live_migratable is '{value}', neither yes nor no"
