# SPDX-License-Identifier: Apache-2.0

"""The forms of what services answer, as far as we read it.

An answer is checked whole, once, where it comes in: what reads it may then
rely on types, and one of another form is one line that names the field.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import re
import reprlib
from typing import Any
from typing import Final
from typing import TypeAlias
from urllib import parse

from nova_gpu_filter.fleet import model

_Form: TypeAlias = Any
"""``str``, ``int`` or ``float``; ``[form]`` for a list; a mapping of fields to
forms for an object with these among others, where the name of one that may be
missing ends with ``?``; or one of the classes below."""

_MOST: Final = (1 << 63) - 1
"""No column of a database of theirs holds a greater number."""
_NAMES: Final = {
    str: "a text",
    int: f"a whole number up to {_MOST}",
    float: f"a number up to {_MOST}",
    list: "a list",
    dict: "an object",
}
_KEY: Final = re.compile("[A-Za-z_][A-Za-z0-9_-]*")


@dataclasses.dataclass(frozen=True, slots=True)
class _Map:
    """An object with any keys."""

    form: _Form
    is_mixed: bool = False
    """Whether there may be values beside it that are no objects."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Maybe:
    """A form, or one of the values that say that there is nothing."""

    form: _Form
    nothing: tuple[Any, ...] = (None,)


@dataclasses.dataclass(frozen=True, slots=True)
class _OfCell:
    """What Nova tells nothing more of where its cell is down."""

    always: Mapping[str, _Form]
    reached: Mapping[str, _Form]


class Wrong(Exception):
    """A value has another form than it should."""

    def __init__(self, problem: str) -> None:
        """Begin with the value itself: ``is 'a', and not a number``."""
        super().__init__(problem)
        self._where = ""

    def put_below(self, key: str | int) -> None:
        """Note below which key, or at which place, the value is."""
        if isinstance(key, str) and _KEY.fullmatch(key):
            self._where = f".{key}{self._where}"
        else:
            self._where = f"[{key!r}]{self._where}"

    def __str__(self) -> str:
        """Name the field, and what is wrong with it."""
        return f"{self._where.removeprefix('.')} {self.args[0]}"


def check(service: str, path: str, answer: Mapping[str, Any]) -> None:
    """Check the answer of a service, but for what it lacks at the top: other
    questions have other answers.

    :param service: as in messages: ``Nova``.
    :param path: what it was asked for, with or without the query.
    :raises Wrong: it has another form.
    """
    fields = _FIELDS.get(service, {})
    asked = parse.urlsplit(path).path
    _check_each(
        (key, form, answer[key])
        for key in fields.keys() & answer.keys()
        for pattern, form in fields[key].items()
        if re.fullmatch(f".*{pattern}", asked)
    )


def _check_each(parts: Iterable[tuple[str | int, _Form, Any]]) -> None:
    """Check values: where each is in a list or object, its form, itself."""
    for where, form, value in parts:
        try:
            _check(form, value)
        except Wrong as exc:
            exc.put_below(where)
            raise


def _check(form: _Form, value: Any) -> None:
    if isinstance(form, type):
        _check_type(form, value)
    elif isinstance(form, dict):
        _check_fields(form, value)
    elif isinstance(form, list):
        _check_type(list, value)
        _check_each((place, form[0], one) for place, one in enumerate(value))
    elif isinstance(form, _Map):
        _check_type(dict, value)
        _check_each(
            (key, form.form, one)
            for key, one in value.items()
            if isinstance(one, dict) or not form.is_mixed
        )
    elif isinstance(form, _OfCell):
        _check_fields(form.always, value)
        if value["status"] != model.CELL_IS_DOWN:
            _check_fields(form.reached, value)
    elif value not in form.nothing:
        _check(form.form, value)


def _check_type(wanted: type, value: Any) -> None:
    if wanted in (int, float):
        # True is no number here, and what is not finite is above all.
        fits = type(value) in (int, wanted) and -_MOST <= value <= _MOST
    else:
        fits = isinstance(value, wanted)
    if not fits:
        raise Wrong(f"is {reprlib.repr(value)}, and not {_NAMES[wanted]}")


def _check_fields(fields: Mapping[str, _Form], value: Any) -> None:
    _check_type(dict, value)
    for field, form in fields.items():
        key = field.removesuffix("?")
        try:
            if key in value:
                _check(form, value[key])
            elif key == field:
                raise Wrong("is missing")
        except Wrong as exc:
            exc.put_below(key)
            raise


_SUMMARY: Final = {
    "resources": _Map({"capacity": int, "used": int}),
    "traits": [str],
}
_FLAVOR: Final = {
    "id": str,
    "name": str,
    "vcpus": int,
    "ram": int,
    "disk": int,
    "OS-FLV-EXT-DATA:ephemeral": int,
    # An empty text for none, before microversion 2.75.
    "swap": _Maybe(int, ("",)),
    "extra_specs?": _Map(str),
}
_SERVER: Final = _OfCell(
    {"id": str, "tenant_id": str, "status": str},
    {
        "name": str,
        "flavor": {
            "original_name": str,
            "vcpus": int,
            "ram": int,
            "disk": int,
            "ephemeral": int,
            "swap": int,
            "extra_specs?": _Map(str),
        },
        "OS-EXT-SRV-ATTR:hypervisor_hostname?": _Maybe(str),
        "OS-EXT-AZ:availability_zone?": _Maybe(str),
        "fault?": _Maybe({"message?": _Maybe(str)}),
        # An empty text for one that was made from a volume.
        "image?": _Maybe({"properties?": _Map(str)}, (None, "")),
    },
)
_COMPUTE_SERVICE: Final = _OfCell(
    {"host": str, "status": str},
    {"state": str, "zone?": str, "disabled_reason?": _Maybe(str)},
)
_MIGRATION: Final = {
    "uuid": str,
    "instance_uuid": str,
    "migration_type": str,
    "status": str,
    "source_node": _Maybe(str),
}
_LINKS: Final = [{"rel": str}]
_PROJECT: Final = {"id": str, "name": str}
_LIMIT: Final = {
    "resource_name": str,
    "service_id": str,
    "region_id": _Maybe(str),
}

_FIELDS: Final[Mapping[str, Mapping[str, Mapping[str, _Form]]]] = {
    "Placement": {
        "resource_providers": {
            "/resource_providers": [
                {
                    "uuid": str,
                    "name": str,
                    "generation": int,
                    "root_provider_uuid": str,
                }
            ]
        },
        "resource_provider_generation": {"": int},
        "provider_summaries": {"/allocation_candidates": _Map(_SUMMARY)},
        "inventories": {
            "/inventories": _Map(
                {"total": int, "reserved": int, "allocation_ratio?": float}
            )
        },
        "usages": {"/usages": _Map(int)},
        "traits": {"/traits": [str]},
        "aggregates": {"/aggregates": [str]},
        "allocations": {
            "/resource_providers/[^/]+/allocations": _Map(
                {"resources": _Map(int)}
            ),
            "/allocations/[^/]+": _Map(
                {"resources": _Map(int), "generation": int}
            ),
        },
        "project_id": {"/allocations/[^/]+": str},
    },
    "Nova": {
        "server": {"/servers/[^/]+": _SERVER},
        "servers": {"/servers": [{"name": str}], "/servers/detail": [_SERVER]},
        "servers_links": {"": _LINKS},
        "flavors": {"/flavors/detail": [_FLAVOR]},
        "flavors_links": {"": _LINKS},
        # Beside the id of the project, which is a text.
        "quota_set": {
            "/detail": _Map(
                {"limit": int, "in_use": int, "reserved": int}, is_mixed=True
            )
        },
        "availabilityZoneInfo": {"": [{"zoneName": str}]},
        "hypervisors": {"": [{"id": str}]},
        "hypervisors_links": {"": _LINKS},
        "hypervisor": {"": {"service": {"host": str}}},
        "migrations": {"": [_MIGRATION]},
        "migrations_links": {"": _LINKS},
        "services": {"/os-services": [_COMPUTE_SERVICE]},
        "aggregates": {
            "": [{"name": str, "hosts": [str], "metadata": _Map(str)}]
        },
    },
    "Glance": {"images": {"/images": [{"id": str, "name": _Maybe(str)}]}},
    "Keystone": {
        "project": {"/projects/[^/]+": _PROJECT},
        "projects": {"/projects": [_PROJECT]},
        "links": {"": _Maybe({"next?": _Maybe(str)})},
        "services": {"/services": [{"id": str}]},
        "registered_limits": {"": [{**_LIMIT, "default_limit": int}]},
        "limits": {
            "": [{**_LIMIT, "resource_limit": int, "project_id?": _Maybe(str)}]
        },
    },
}
"""Service -> field of an answer -> end of the path (a pattern) -> its form."""
