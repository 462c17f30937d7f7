# SPDX-License-Identifier: Apache-2.0

"""The forms of what services answer, as far as we read it.

An answer is checked whole, once, where it comes in: what reads it may then
rely on types, and one of another form is one line that names the field.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import math
import re
import reprlib
from typing import Any
from typing import Final
from typing import TypeAlias
from urllib import parse

from nova_gpu_filter.fleet import model

_Form: TypeAlias = Callable[[Any], None]
"""Checks a value; raises Wrong where it has another form."""

_MOST: Final = (1 << 63) - 1
"""No column of a database of theirs holds a greater number."""
_KEY: Final = re.compile("[A-Za-z_][A-Za-z0-9_-]*")


class Wrong(Exception):
    """A value has another form than it should."""

    def __init__(self, problem: str) -> None:
        """Begin with the value itself.

        :param problem: ``is 'a', and not a number``.
        """
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
    """Check the answer of a service.

    What it lacks at the top is not looked for: other questions have other
    answers.

    :param service: as in messages: ``Nova``.
    :param path: what it was asked for, with or without the query.
    :raises Wrong: it has another form.
    """
    fields = _FIELDS.get(service, {})
    for key in fields.keys() & answer.keys():
        for pattern, form in fields[key].items():
            if re.fullmatch(f".*{pattern}", parse.urlsplit(path).path):
                try:
                    form(answer[key])
                except Wrong as exc:
                    exc.put_below(key)
                    raise


def _refuse(value: Any, wanted: str) -> Wrong:
    return Wrong(f"is {reprlib.repr(value)}, and not {wanted}")


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise _refuse(value, "a text")


def _number(value: Any) -> None:
    if type(value) is not int or not -_MOST <= value <= _MOST:
        raise _refuse(value, f"a whole number up to {_MOST}")


def _ratio(value: Any) -> None:
    if (
        type(value) not in (int, float)
        or not math.isfinite(value)
        or not -_MOST <= value <= _MOST
    ):
        raise _refuse(value, f"a number up to {_MOST}")


def _swap(value: Any) -> None:
    # An empty text for none, before microversion 2.75.
    if value != "":
        _number(value)


def _or_none(form: _Form) -> _Form:
    def check_it(value: Any) -> None:
        if value is not None:
            form(value)

    return check_it


def _check_each(form: _Form, items: Iterable[tuple[str | int, Any]]) -> None:
    """Check values, each with where it is in a list or object."""
    for where, item in items:
        try:
            form(item)
        except Wrong as exc:
            exc.put_below(where)
            raise


def _list_of(form: _Form) -> _Form:
    def check_it(value: Any) -> None:
        if not isinstance(value, list):
            raise _refuse(value, "a list")
        _check_each(form, enumerate(value))

    return check_it


def _map_of(form: _Form) -> _Form:
    def check_it(value: Any) -> None:
        _object(value)
        _check_each(form, value.items())

    return check_it


def _object(value: Any) -> None:
    if not isinstance(value, dict):
        raise _refuse(value, "an object")


def _object_of(
    needed: Mapping[str, _Form], optional: Mapping[str, _Form] | None = None
) -> _Form:
    """Make the form of an object with some fields among others."""
    every = {**needed, **(optional or {})}

    def check_it(value: Any) -> None:
        _object(value)
        for key, form in every.items():
            try:
                if key in value:
                    form(value[key])
                elif key in needed:
                    raise Wrong("is missing")
            except Wrong as exc:
                exc.put_below(key)
                raise

    return check_it


_PROVIDER: Final = _object_of(
    {
        "uuid": _text,
        "name": _text,
        "generation": _number,
        "root_provider_uuid": _text,
    }
)
_INVENTORY: Final = _object_of(
    {"total": _number, "reserved": _number}, {"allocation_ratio": _ratio}
)
_SUMMARY: Final = _object_of(
    {
        "resources": _map_of(
            _object_of({"capacity": _number, "used": _number})
        ),
        "traits": _list_of(_text),
    }
)
_OF_CONSUMER: Final = _object_of({"resources": _map_of(_number)})
_OF_PROVIDER: Final = _object_of(
    {"resources": _map_of(_number), "generation": _number}
)

_SPECS: Final = {"extra_specs": _map_of(_text)}
_FLAVOR: Final = _object_of(
    {
        "id": _text,
        "name": _text,
        "vcpus": _number,
        "ram": _number,
        "disk": _number,
        "OS-FLV-EXT-DATA:ephemeral": _number,
        "swap": _swap,
    },
    _SPECS,
)
_IMAGE_OF_SERVER: Final = _object_of({}, {"properties": _map_of(_text)})


def _image_of_server(value: Any) -> None:
    # An empty text for one that was made from a volume.
    if value:
        _IMAGE_OF_SERVER(value)


_OF_ANY_SERVER: Final = {"id": _text, "tenant_id": _text, "status": _text}
_UNREACHED_SERVER: Final = _object_of(_OF_ANY_SERVER)
_REACHED_SERVER: Final = _object_of(
    {
        **_OF_ANY_SERVER,
        "name": _text,
        "flavor": _object_of(
            {
                "original_name": _text,
                "vcpus": _number,
                "ram": _number,
                "disk": _number,
                "ephemeral": _number,
                "swap": _swap,
            },
            _SPECS,
        ),
    },
    {
        "OS-EXT-SRV-ATTR:hypervisor_hostname": _or_none(_text),
        "OS-EXT-AZ:availability_zone": _or_none(_text),
        "fault": _or_none(_object_of({}, {"message": _or_none(_text)})),
        "image": _image_of_server,
    },
)


def _server(value: Any) -> None:
    _UNREACHED_SERVER(value)
    if value["status"] != model.CELL_IS_DOWN:
        _REACHED_SERVER(value)


def _compute_service(value: Any) -> None:
    _object_of({"host": _text, "status": _text})(value)
    if value["status"] != model.CELL_IS_DOWN:
        _object_of(
            {"state": _text},
            {"zone": _text, "disabled_reason": _or_none(_text)},
        )(value)


def _quota_set(value: Any) -> None:
    _object(value)
    # Beside the id of the project, which is a text.
    _map_of(
        _object_of({"limit": _number, "in_use": _number, "reserved": _number})
    )({key: one for key, one in value.items() if isinstance(one, dict)})


_LINKS: Final = _list_of(_object_of({"rel": _text}))
_IMAGE: Final = _object_of({"id": _text, "name": _or_none(_text)})
_PROJECT: Final = _object_of({"id": _text, "name": _text})
_OF_LIMIT: Final = {
    "resource_name": _text,
    "service_id": _text,
    "region_id": _or_none(_text),
}

_FIELDS: Final[Mapping[str, Mapping[str, Mapping[str, _Form]]]] = {
    "Placement": {
        "resource_providers": {"/resource_providers": _list_of(_PROVIDER)},
        "resource_provider_generation": {"": _number},
        "provider_summaries": {"/allocation_candidates": _map_of(_SUMMARY)},
        "inventories": {"/inventories": _map_of(_INVENTORY)},
        "usages": {"/usages": _map_of(_number)},
        "traits": {"/traits": _list_of(_text)},
        "aggregates": {"/aggregates": _list_of(_text)},
        "allocations": {
            "/resource_providers/[^/]+/allocations": _map_of(_OF_CONSUMER),
            "/allocations/[^/]+": _map_of(_OF_PROVIDER),
        },
        "project_id": {"/allocations/[^/]+": _text},
    },
    "Nova": {
        "server": {"/servers/[^/]+": _server},
        "servers": {
            "/servers": _list_of(_object_of({"name": _text})),
            "/servers/detail": _list_of(_server),
        },
        "servers_links": {"": _LINKS},
        "flavors": {"/flavors/detail": _list_of(_FLAVOR)},
        "flavors_links": {"": _LINKS},
        "quota_set": {"/detail": _quota_set},
        "availabilityZoneInfo": {
            "": _list_of(_object_of({"zoneName": _text}))
        },
        "hypervisors": {"": _list_of(_object_of({"id": _text}))},
        "hypervisors_links": {"": _LINKS},
        "hypervisor": {
            "": _object_of({"service": _object_of({"host": _text})})
        },
        "migrations": {
            "": _list_of(
                _object_of(
                    {
                        "uuid": _text,
                        "instance_uuid": _text,
                        "migration_type": _text,
                        "status": _text,
                        "source_node": _or_none(_text),
                    }
                )
            )
        },
        "migrations_links": {"": _LINKS},
        "services": {"/os-services": _list_of(_compute_service)},
        "aggregates": {
            "": _list_of(
                _object_of(
                    {
                        "name": _text,
                        "hosts": _list_of(_text),
                        "metadata": _map_of(_text),
                    }
                )
            )
        },
    },
    "Glance": {"images": {"/images": _list_of(_IMAGE)}},
    "Keystone": {
        "project": {"/projects/[^/]+": _PROJECT},
        "projects": {"/projects": _list_of(_PROJECT)},
        "links": {"": _or_none(_object_of({}, {"next": _or_none(_text)}))},
        "services": {"/services": _list_of(_object_of({"id": _text}))},
        "registered_limits": {
            "": _list_of(_object_of({**_OF_LIMIT, "default_limit": _number}))
        },
        "limits": {
            "": _list_of(
                _object_of(
                    {**_OF_LIMIT, "resource_limit": _number},
                    {"project_id": _or_none(_text)},
                )
            )
        },
    },
}
"""Service -> field of an answer -> end of the path (a pattern) -> its form."""
