# SPDX-License-Identifier: Apache-2.0

"""Reads ``vgpu.yaml``: how many VFs each PF shall have, and of which type."""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

from nova_gpu_filter import exception
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress

PATH = "/etc/nova-gpu/vgpu.yaml"
TOP = "physical_functions"
_SELECTORS = ("address", "slot", "id")
_KEYS = (*_SELECTORS, "vfs", "type", "mig", "autoprobe")
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
# drivers/pci/iov.c: the kernel keeps numbers of VFs in 16 bits.
_MOST_VFS = 0xFFFF


@dataclasses.dataclass(frozen=True)
class Row:
    """What one row wants of the PFs that it names, by one of three ways."""

    selector: str
    """How the row names its PFs: ``address 0000:41:00.0``."""
    vfs: int
    """With a type, the VFs that shall have it; else those that there are."""
    address: PciAddress | None = None
    slot: str | None = None
    """The name of a slot, as in /sys/bus/pci/slots."""
    id: str | None = None
    """Vendor and product id, ``10de:2235``: all PFs of this model."""
    type: str | None = None
    """The name of a vGPU type, or its number."""
    mig: bool | None = None
    """Whether the GPU has to be in MIG mode; None: it is not looked at."""
    autoprobe: bool | None = None
    """Whether new VFs are bound to a driver of the host; None: as it is."""

    @property
    def wanted(self) -> str:
        """What the row wants: ``4 VFs of type NVIDIA A40-8Q``."""
        count = f"{self.vfs} VF{'' if self.vfs == 1 else 's'}"
        return f"{count} of type {self.type}" if self.type else count


def parse(source: str, text: str) -> tuple[Row, ...]:
    """Read the file.

    Everything is read as text: YAML takes addresses such as 0000:41:00.0 for
    numbers to the base of 60.

    :raises BadInput: it is no YAML, or says something that cannot be.
    """
    with exception.name_source(source):
        document = _load(text)
        if not isinstance(document, dict) or set(document) != {TOP}:
            raise exception.Malformed(
                f"give one key, {TOP}, with a list of PFs"
            )
        entries = [] if document[TOP] == "" else document[TOP]
        if not isinstance(entries, list):
            raise exception.Malformed(f"{TOP} has to be a list of PFs")
    rows: dict[str, Row] = {}
    for place, entry in enumerate(entries):
        with exception.name_source(f"{source}: {TOP}[{place}]"):
            row = _read_row(entry)
            if row.selector in rows:
                raise exception.Malformed(
                    f"{row.selector} is named twice; write one row"
                )
        rows[row.selector] = row
    return tuple(rows.values())


def _load(text: str) -> Any:
    import yaml

    # BaseLoader makes texts, lists and maps, and no objects.
    class Loader(yaml.BaseLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            mapping = super().construct_mapping(node, deep)
            # Of a key that is there twice, PyYAML drops the first without a
            # word: a list of devices that nobody misses until they are.
            left = set(mapping)
            for key, _ in node.value:
                if key.value not in left:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value} is there twice",
                        problem_mark=key.start_mark,
                    )
                left.remove(key.value)
            return mapping

    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise exception.Malformed(
            f"this is no YAML{where}: {' '.join(str(problem).split())}"
        ) from None


def _read_row(entry: Any) -> Row:
    keys = ", ".join(_KEYS)
    if not isinstance(entry, Mapping):
        raise exception.Malformed(f"has to be a map with some of {keys}")
    for key, value in entry.items():
        if key not in _KEYS:
            raise exception.Malformed(f"unknown key '{key}'; keys are {keys}")
        if not isinstance(value, str) or not value.strip():
            raise exception.Malformed(f"{key} has to have one value")
    given = [name for name in _SELECTORS if name in entry]
    if len(given) != 1:
        raise exception.Malformed(
            "name the PFs by one of address, slot and id"
        )
    if "vfs" not in entry:
        raise exception.Malformed("vfs is missing: how many VFs")
    if not re.fullmatch("[0-9]{1,5}", entry["vfs"], re.ASCII) or (
        int(entry["vfs"]) > _MOST_VFS
    ):
        raise exception.Malformed(f"vfs: '{entry['vfs']}' is no number of VFs")
    address = address_lib.find(entry.get("address", ""))
    if "address" in entry and address is None:
        raise exception.Malformed(
            f"address: '{entry['address']}' is no PCI address, such as"
            " 0000:41:00.0"
        )
    ids = entry.get("id", "").lower() or None
    if ids and not re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", ids, re.ASCII):
        raise exception.Malformed(
            f"id: '{ids}' is no vendor and product id, such as 10de:2235"
        )
    mig, autoprobe = (
        _read_flag(key, entry.get(key)) for key in ("mig", "autoprobe")
    )
    if "type" in entry and autoprobe is False:
        raise exception.Malformed(
            "autoprobe: false keeps the driver away that makes vGPUs of the"
            " VFs; leave it out where there is a type"
        )
    if mig is not None and "type" not in entry:
        raise exception.Malformed("mig is about vGPU types: name a type, too")
    return Row(
        selector=f"{given[0]} {address or ids or entry['slot']}",
        vfs=int(entry["vfs"]),
        address=address,
        slot=entry.get("slot"),
        id=ids,
        type=entry.get("type"),
        mig=mig,
        autoprobe=autoprobe,
    )


def _read_flag(key: str, text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in _FLAGS:
        raise exception.Malformed(f"{key}: '{text}' is neither true nor false")
    return _FLAGS[text.lower()]
