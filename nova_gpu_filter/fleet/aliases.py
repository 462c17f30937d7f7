# SPDX-License-Identifier: Apache-2.0

"""What flavors ask for: ``[pci]alias``, which no API shows, and extra specs.

The rules are those of nova/pci/request.py and, for what Placement is asked,
nova/compute/pci_placement_translator.py and nova/objects/request_spec.py,
restated so that no nova.conf of a service is needed.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
import re
from typing import Any
from typing import Final

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.nova_rules import names

ALIAS_KEY: Final = "pci_passthrough:alias"
"""Extra spec of a flavor: ``<alias>:<number>``, separated by commas."""

_KEYS: Final = frozenset(
    {
        "name",
        "capability_type",
        "vendor_id",
        "product_id",
        "device_type",
        "numa_policy",
        "resource_class",
        "traits",
        "live_migratable",
    }
)
_ID: Final = re.compile("(?:0x)?[0-9a-f]{4}", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Alias:
    """One ``[pci]alias``, as far as Placement is asked."""

    name: str
    resource_class: str
    traits: frozenset[str]
    """All of which a device must have."""
    numa_policy: str = "legacy"
    properties: tuple[tuple[str, str], ...] = ()
    """(key, value) that Nova compares with its devices: ids, dev_type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """How many devices of an alias a flavor asks for."""

    alias: str
    count: int


def parse(texts: Iterable[str], source: str) -> dict[str, Alias]:
    """Read values of ``[pci]alias``.

    :param source: what messages call the place they come from.
    :returns: by name.
    :raises BadAlias: one is no JSON, has keys that Nova does not know, or
        names no device; or two of them have the same name, which Nova refuses
        with PCI in Placement.
    """
    found: dict[str, Alias] = {}
    for text in texts:
        try:
            alias = _parse(json.loads(text))
        except (ValueError, RecursionError) as exc:
            raise errors.BadAlias(
                source=source, text=text, problem=exc
            ) from exc
        if found.setdefault(alias.name, alias) != alias:
            raise errors.BadAlias(
                source=source,
                text=text,
                problem=f"there is another alias {alias.name!r}, and with PCI"
                " in Placement Nova takes one spec an alias",
            )
    return found


def _parse(data: Any) -> Alias:
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    unknown = data.keys() - _KEYS
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    for key, value in data.items():
        if not isinstance(value, str):
            raise ValueError(f"{key} is no string")
    name = data.get("name", "").strip()
    if not name:
        raise ValueError("no name")
    ids = [data.get("vendor_id"), data.get("product_id")]
    for id_ in ids:
        if id_ is not None and not _ID.fullmatch(id_):
            raise ValueError(f"{id_!r} is no PCI id of 4 hexadecimal digits")
    resource_class = data.get("resource_class")
    if not resource_class and None in ids:
        raise ValueError(
            "neither resource_class nor vendor_id and product_id, so that"
            " Nova does not know what to ask Placement"
        )
    properties = {
        "vendor_id": ids[0],
        "product_id": ids[1],
        "dev_type": data.get("device_type"),
        "live_migratable": data.get("live_migratable"),
    }
    return Alias(
        name,
        names.resource_class_of(resource_class, ids[0], ids[1]),
        names.normalize_traits(data.get("traits", "")),
        data.get("numa_policy") or "legacy",
        tuple(
            (key, value.lower()) for key, value in properties.items() if value
        ),
    )


def asks(extra_specs: Mapping[str, str]) -> tuple[Ask, ...]:
    """Read what a flavor asks for; the first one is for its GPUs.

    :returns: empty for a flavor without devices.
    :raises ValueError: Nova cannot read it; the message says why.
    """
    text = extra_specs.get(ALIAS_KEY)
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        name, colon, number = part.partition(":")
        if not colon or ":" in number or not name.strip():
            raise ValueError(
                f"{ALIAS_KEY} = {text!r}: {part!r} is not <alias>:<number>"
            )
        if not re.fullmatch(r"\s*[0-9]+\s*", number) or not int(number):
            raise ValueError(
                f"{ALIAS_KEY} = {text!r}: {number!r} is no number of devices,"
                " 1 or more"
            )
        found.append(Ask(name.strip(), int(number)))
    return tuple(found)
