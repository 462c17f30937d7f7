# SPDX-License-Identifier: Apache-2.0

"""Which devices a ``[pci]device_spec`` matches, by the rules of Nova.

The rules are those of nova/pci/devspec.py, nova/pci/whitelist.py and
nova/pci/stats.py; a test compares them with Nova's own.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import re
from typing import Any
from typing import Protocol

from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import values
from nova_gpu_filter.topology import codec

SELECTORS = frozenset({"vendor_id", "product_id", "address", "devname"})
NOVA_TAGS = frozenset(
    {
        "physical_network",
        "trusted",
        "remote_managed",
        "managed",
        "live_migratable",
        "one_time_use",
        "resource_class",
        "traits",
    }
)
OUR_TAGS = frozenset({codec.TAG})
_BOOLEAN_TAGS = ("managed", "live_migratable", "one_time_use")

_MAXIMA = {"domain": 0xFFFF, "bus": 0xFF, "slot": 0x1F, "function": 0x7}
_WIDTHS = {"domain": 4, "bus": 2, "slot": 2, "function": 1}


class SpecError(ValueError):
    """Nova would refuse the device spec when nova-compute starts."""


class Address(Protocol):
    """The address of a PCI function, in numbers."""

    @property
    def domain(self) -> int: ...
    @property
    def bus(self) -> int: ...
    @property
    def slot(self) -> int: ...
    @property
    def function(self) -> int: ...


class Device(Protocol):
    """What a spec is compared with: one PCI function of a host."""

    @property
    def address(self) -> Address: ...
    @property
    def vendor_id(self) -> int: ...
    @property
    def product_id(self) -> int: ...
    @property
    def is_pf(self) -> bool: ...


def _list_numbers(address: Address) -> tuple[int, int, int, int]:
    return (address.domain, address.bus, address.slot, address.function)


@dataclasses.dataclass(frozen=True)
class DeviceSpec:
    """One device spec.

    ``fields`` holds, for each field of the address, a string to equal, a
    pattern to match at its start, or None for any.
    """

    text: str
    """As it stands in the file."""
    vendor_id: str | None
    product_id: str | None
    devname: str | None
    fields: Mapping[str, str | re.Pattern[str] | None]
    tags: Mapping[str, Any]
    doubled: tuple[str, ...] = ()
    """Keys that stand in it twice; JSON takes the last."""

    @property
    def exact_address(self) -> tuple[int, ...] | None:
        """The one address it names, as domain, bus, slot and function.

        None if it names a pattern or none.
        """
        numbers = []
        for value in self.fields.values():
            if isinstance(value, re.Pattern):
                # Nova takes plain hexadecimal digits for an address here, too.
                value = value.pattern
            if value is None or not re.fullmatch(r"[0-9a-fA-F]+", value):
                return None
            numbers.append(int(value, 16))
        return tuple(numbers)

    def matches(
        self,
        device: Device,
        parent: Device | None = None,
        interfaces: Mapping[str, Device] | None = None,
    ) -> bool:
        """Whether Nova would take the device by this spec.

        :param parent: the PF of a VF: a spec with the address of a PF matches
            its VFs, too.
        :param interfaces: the functions of the host by network interface, for
            ``devname``.
        """
        if not self.matches_ids(device.vendor_id, device.product_id):
            return False
        if self.devname is not None:
            named = (interfaces or {}).get(self.devname)
            if named is None:
                return False
            own = device.address == named.address
            return own or (
                named.is_pf
                and parent is not None
                and parent.address == named.address
            )
        if self._matches_address(device.address):
            return True
        # Nova asks its own sysfs whether an exact address is a PF.
        return (
            parent is not None
            and parent.is_pf
            and self.exact_address == _list_numbers(parent.address)
        )

    def matches_ids(self, vendor_id: int, product_id: int) -> bool:
        """Whether a device has the ids that the spec names."""
        return values.is_id(self.vendor_id, vendor_id) and values.is_id(
            self.product_id, product_id
        )

    def _matches_address(self, address: Address) -> bool:
        for (name, width), number in zip(
            _WIDTHS.items(), _list_numbers(address), strict=True
        ):
            text, value = f"{number:0{width}x}", self.fields[name]
            if isinstance(value, re.Pattern):
                if not value.match(text):
                    return False
            elif value is not None and value != text:
                return False
        return True

    def get_resource_class(self, vendor_id: int, product_id: int) -> str:
        """Name the resource class that Nova gives a device of it."""
        return names.get_resource_class(
            str(self.tags.get("resource_class") or ""),
            f"{vendor_id:04x}",
            f"{product_id:04x}",
        )

    @property
    def reported_traits(self) -> frozenset[str]:
        """The traits that a device of it has in Placement.

        Those of the tag, and those that Nova gives without being told
        (``_get_traits_for_dev`` and ``add_parent`` of
        nova/compute/pci_placement_translator.py).
        """
        own = {
            "COMPUTE_MANAGED_PCI_DEVICE": True,
            "HW_PCI_LIVE_MIGRATABLE": self.read_tag("live_migratable"),
            names.ONE_TIME_USE: self.read_tag("one_time_use"),
        }
        return names.normalize_traits(",".join(self.traits)) | {
            trait for trait, is_given in own.items() if is_given
        }

    def read_tag(self, name: str) -> bool | None:
        """Read a tag that is yes or no; None: it is not there."""
        return values.parse_boolean(self.tags.get(name))

    @property
    def traits(self) -> tuple[str, ...]:
        """The names in the tag ``traits``, spaces and all."""
        text = self.tags.get("traits")
        return tuple(text.split(",")) if isinstance(text, str) and text else ()


def parse(text: str) -> Iterator[DeviceSpec]:
    """Read one value of the option: a JSON object, or a list of them.

    :raises SpecError: Nova would refuse it.
    """
    try:
        data, doubled = values.load_json(text)
    except ValueError as error:
        raise SpecError(f"not JSON: {error}") from None
    entries = data if isinstance(data, list) else [data]
    for entry in entries:
        if not isinstance(entry, dict):
            raise SpecError("neither a JSON object nor a list of objects")
        yield _parse(text, entry, doubled)


def _parse(
    text: str, entry: dict[str, Any], doubled: tuple[str, ...]
) -> DeviceSpec:
    devname = entry.get("devname")
    address = entry.get("address")
    if devname and address:
        raise SpecError("address and devname exclude each other")
    for tag in _BOOLEAN_TAGS:
        value = entry.get(tag)
        if value is not None and values.parse_boolean(value) is None:
            raise SpecError(f"{tag} is '{value}', neither yes nor no")
    return DeviceSpec(
        text=text,
        vendor_id=_parse_id(entry, "vendor_id"),
        product_id=_parse_id(entry, "product_id"),
        devname=devname or None,
        fields=_parse_fields(address),
        tags={
            key: value for key, value in entry.items() if key not in SELECTORS
        },
        doubled=doubled,
    )


def _parse_id(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key, "*")
    if not isinstance(value, str):
        raise SpecError(f"{key} is no string")
    return _parse_hexadecimal(key, value.strip(), 0xFFFF, 4)


def _parse_hexadecimal(
    name: str, value: str, maximum: int, width: int
) -> str | None:
    if value == "*":
        return None
    try:
        number = int(value, 16)
    except ValueError:
        raise SpecError(f"{name} is '{value}', no hexadecimal number") from (
            None
        )
    if number > maximum:
        raise SpecError(f"{name} is {value}, above {maximum:x}")
    return f"{number:0{width}x}"


def _parse_fields(address: Any) -> dict[str, str | re.Pattern[str] | None]:
    if not address:
        return dict.fromkeys(_MAXIMA)
    if isinstance(address, dict):
        fields: dict[str, str | re.Pattern[str] | None] = {}
        for name in _MAXIMA:
            value = address.get(name, ".*")
            try:
                fields[name] = re.compile(value)
            except (re.error, TypeError, OverflowError, RecursionError):
                raise SpecError(
                    f"{name} of the address is no regular expression"
                ) from None
        return fields
    if not isinstance(address, str):
        raise SpecError("address is neither a string nor an object")
    return _parse_glob(address)


def _parse_glob(address: str) -> dict[str, str | re.Pattern[str] | None]:
    """Read an address with wildcards; what is left out is one."""
    front, _, function = address.partition(".")
    given = front.split(":") if front else []
    if len(given) > 3:
        raise SpecError(f"address '{address}' has too many fields")
    texts = ["*"] * (3 - len(given)) + [part.strip() or "*" for part in given]
    texts.append(function.strip() or "*")
    return {
        name: _parse_hexadecimal(
            f"{name} of the address", value, _MAXIMA[name], _WIDTHS[name]
        )
        for name, value in zip(_MAXIMA, texts, strict=True)
    }
