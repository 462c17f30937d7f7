# SPDX-License-Identifier: Apache-2.0

"""What a ``[pci]alias`` asks for, by the rules of Nova.

The rules are those of nova/pci/request.py (what Nova refuses),
nova/pci/stats.py (which devices it takes), and of
nova/compute/pci_placement_translator.py and nova/objects/request_spec.py (what
Placement is asked); tests compare them with Nova's own.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import re
from typing import Any
from typing import Final

from nova_gpu_filter.nova_rules import device_types
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import values

_CHOICES: Final = {
    "device_type": (device_types.PCI, device_types.PF, device_types.VF),
    "numa_policy": ("legacy", "required", "preferred", "socket"),
    "capability_type": ("pci",),
}
_KEYS: Final = frozenset(
    {
        *("name", "vendor_id", "product_id", "resource_class", "traits"),
        *("live_migratable", *_CHOICES),
    }
)
MAX_NAME: Final = 256
"""Characters."""
_ID: Final = re.compile(r"^[\da-fA-F]{4}$")


class AliasError(ValueError):
    """Nova would refuse the alias."""


@dataclasses.dataclass(frozen=True, slots=True)
class Alias:
    """One value of the option."""

    name: str
    resource_class: str
    """As Placement is asked for it."""
    traits: frozenset[str] = frozenset()
    """All of which a device must have, as Placement is asked for them."""
    numa_policy: str = "legacy"
    vendor_id: str | None = None
    product_id: str | None = None
    device_type: str | None = None
    live_migratable: bool | None = None
    text: str = dataclasses.field(default="", compare=False)
    """As it stands in the file."""
    doubled: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Keys that stand in it twice; JSON takes the last."""

    @property
    def allowed_types(self) -> tuple[str, ...]:
        """The types of devices that Nova takes for it.

        Without ``device_type`` all but PFs, which Nova keeps for those who
        ask for them.
        """
        if self.device_type is None:
            return (device_types.PCI, device_types.VF)
        return (self.device_type,)

    def matches_ids(self, vendor_id: int, product_id: int) -> bool:
        """Whether a device has the ids that are asked for."""
        return values.is_id(self.vendor_id, vendor_id) and values.is_id(
            self.product_id, product_id
        )


def parse(text: str) -> Alias:
    """Read one value of the option: a JSON object.

    :raises AliasError: Nova would refuse it, whatever its other options are.
    """
    try:
        data, doubled = values.load_json(text)
    except ValueError as error:
        raise AliasError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise AliasError("no JSON object")
    for problem in _find_problems(data):
        raise AliasError(problem)
    vendor_id, product_id = data.get("vendor_id"), data.get("product_id")
    return Alias(
        name=data["name"].strip(),
        resource_class=names.get_resource_class(
            data.get("resource_class"), vendor_id, product_id
        ),
        traits=names.normalize_traits(data.get("traits", "")),
        numa_policy=data.get("numa_policy", "legacy"),
        vendor_id=vendor_id and vendor_id.lower(),
        product_id=product_id and product_id.lower(),
        device_type=data.get("device_type"),
        live_migratable=values.parse_boolean(data.get("live_migratable")),
        text=text,
        doubled=doubled,
    )


def _find_problems(data: Mapping[str, Any]) -> Iterator[str]:
    unknown = sorted(set(data) - _KEYS)
    if unknown:
        yield f"unknown key {', '.join(unknown)}"
    for key, value in data.items():
        if not isinstance(value, str):
            yield f"{key} is no string"
    if not data.get("name"):
        yield "it has no name"
    elif len(data["name"]) > MAX_NAME:
        yield f"its name has more than {MAX_NAME} characters"
    for key in ("vendor_id", "product_id"):
        if key in data and not _ID.match(data[key]):
            yield f"{key} is '{data[key]}', not four hexadecimal digits"
    for key, choices in _CHOICES.items():
        if key in data and data[key] not in choices:
            yield f"{key} is '{data[key]}', none of {', '.join(choices)}"
    value = data.get("live_migratable")
    if value is not None and values.parse_boolean(value) is None:
        yield f"live_migratable is '{value}', neither yes nor no"
    if "resource_class" not in data and not (
        "vendor_id" in data and "product_id" in data
    ):
        yield "it has neither resource_class nor vendor_id and product_id"
