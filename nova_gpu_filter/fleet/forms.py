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


def _check_text(value: Any) -> None:
    if not isinstance(value, str):
        raise _refuse(value, "a text")


def _check_number(value: Any) -> None:
    if type(value) is not int or not -_MOST <= value <= _MOST:
        raise _refuse(value, f"a whole number up to {_MOST}")


def _check_ratio(value: Any) -> None:
    if (
        type(value) not in (int, float)
        or not math.isfinite(value)
        or not -_MOST <= value <= _MOST
    ):
        raise _refuse(value, f"a number up to {_MOST}")


def _check_swap(value: Any) -> None:
    # An empty text for none, before microversion 2.75.
    if value != "":
        _check_number(value)


def _allow_none(form: _Form) -> _Form:
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


def _expect_list(form: _Form) -> _Form:
    def check_it(value: Any) -> None:
        if not isinstance(value, list):
            raise _refuse(value, "a list")
        _check_each(form, enumerate(value))

    return check_it


def _expect_map(form: _Form) -> _Form:
    def check_it(value: Any) -> None:
        _check_object(value)
        _check_each(form, value.items())

    return check_it


def _check_object(value: Any) -> None:
    if not isinstance(value, dict):
        raise _refuse(value, "an object")


def _expect_object(
    needed: Mapping[str, _Form], optional: Mapping[str, _Form] | None = None
) -> _Form:
    """Make the form of an object with some fields among others."""
    every = {**needed, **(optional or {})}

    def check_it(value: Any) -> None:
        _check_object(value)
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


_PROVIDER: Final = _expect_object(
    {
        "uuid": _check_text,
        "name": _check_text,
        "generation": _check_number,
        "root_provider_uuid": _check_text,
    }
)
_INVENTORY: Final = _expect_object(
    {"total": _check_number, "reserved": _check_number},
    {"allocation_ratio": _check_ratio},
)
_SUMMARY: Final = _expect_object(
    {
        "resources": _expect_map(
            _expect_object({"capacity": _check_number, "used": _check_number})
        ),
        "traits": _expect_list(_check_text),
    }
)
_OF_CONSUMER: Final = _expect_object({"resources": _expect_map(_check_number)})
_OF_PROVIDER: Final = _expect_object(
    {"resources": _expect_map(_check_number), "generation": _check_number}
)

_SPECS: Final = {"extra_specs": _expect_map(_check_text)}
_FLAVOR: Final = _expect_object(
    {
        "id": _check_text,
        "name": _check_text,
        "vcpus": _check_number,
        "ram": _check_number,
        "disk": _check_number,
        "OS-FLV-EXT-DATA:ephemeral": _check_number,
        "swap": _check_swap,
    },
    _SPECS,
)
_IMAGE_OF_SERVER: Final = _expect_object(
    {}, {"properties": _expect_map(_check_text)}
)


def _check_image_of_server(value: Any) -> None:
    # An empty text for one that was made from a volume.
    if value:
        _IMAGE_OF_SERVER(value)


_OF_ANY_SERVER: Final = {
    "id": _check_text,
    "tenant_id": _check_text,
    "status": _check_text,
}
_UNREACHED_SERVER: Final = _expect_object(_OF_ANY_SERVER)
_REACHED_SERVER: Final = _expect_object(
    {
        **_OF_ANY_SERVER,
        "name": _check_text,
        "flavor": _expect_object(
            {
                "original_name": _check_text,
                "vcpus": _check_number,
                "ram": _check_number,
                "disk": _check_number,
                "ephemeral": _check_number,
                "swap": _check_swap,
            },
            _SPECS,
        ),
    },
    {
        "OS-EXT-SRV-ATTR:hypervisor_hostname": _allow_none(_check_text),
        "OS-EXT-AZ:availability_zone": _allow_none(_check_text),
        "fault": _allow_none(
            _expect_object({}, {"message": _allow_none(_check_text)})
        ),
        "image": _check_image_of_server,
    },
)


def _check_server(value: Any) -> None:
    _UNREACHED_SERVER(value)
    if value["status"] != model.CELL_IS_DOWN:
        _REACHED_SERVER(value)


def _check_compute_service(value: Any) -> None:
    _expect_object({"host": _check_text, "status": _check_text})(value)
    if value["status"] != model.CELL_IS_DOWN:
        _expect_object(
            {"state": _check_text},
            {"zone": _check_text, "disabled_reason": _allow_none(_check_text)},
        )(value)


def _check_quota_set(value: Any) -> None:
    _check_object(value)
    # Beside the id of the project, which is a text.
    _expect_map(
        _expect_object(
            {
                "limit": _check_number,
                "in_use": _check_number,
                "reserved": _check_number,
            }
        )
    )({key: one for key, one in value.items() if isinstance(one, dict)})


_LINKS: Final = _expect_list(_expect_object({"rel": _check_text}))
_IMAGE: Final = _expect_object(
    {"id": _check_text, "name": _allow_none(_check_text)}
)
_PROJECT: Final = _expect_object({"id": _check_text, "name": _check_text})
_OF_LIMIT: Final = {
    "resource_name": _check_text,
    "service_id": _check_text,
    "region_id": _allow_none(_check_text),
}

_FIELDS: Final[Mapping[str, Mapping[str, Mapping[str, _Form]]]] = {
    "Placement": {
        "resource_providers": {"/resource_providers": _expect_list(_PROVIDER)},
        "resource_provider_generation": {"": _check_number},
        "provider_summaries": {
            "/allocation_candidates": _expect_map(_SUMMARY)
        },
        "inventories": {"/inventories": _expect_map(_INVENTORY)},
        "usages": {"/usages": _expect_map(_check_number)},
        "traits": {"/traits": _expect_list(_check_text)},
        "aggregates": {"/aggregates": _expect_list(_check_text)},
        "allocations": {
            "/resource_providers/[^/]+/allocations": _expect_map(_OF_CONSUMER),
            "/allocations/[^/]+": _expect_map(_OF_PROVIDER),
        },
        "project_id": {"/allocations/[^/]+": _check_text},
    },
    "Nova": {
        "server": {"/servers/[^/]+": _check_server},
        "servers": {
            "/servers": _expect_list(_expect_object({"name": _check_text})),
            "/servers/detail": _expect_list(_check_server),
        },
        "servers_links": {"": _LINKS},
        "flavors": {"/flavors/detail": _expect_list(_FLAVOR)},
        "flavors_links": {"": _LINKS},
        "quota_set": {"/detail": _check_quota_set},
        "availabilityZoneInfo": {
            "": _expect_list(_expect_object({"zoneName": _check_text}))
        },
        "hypervisors": {"": _expect_list(_expect_object({"id": _check_text}))},
        "hypervisors_links": {"": _LINKS},
        "hypervisor": {
            "": _expect_object(
                {"service": _expect_object({"host": _check_text})}
            )
        },
        "migrations": {
            "": _expect_list(
                _expect_object(
                    {
                        "uuid": _check_text,
                        "instance_uuid": _check_text,
                        "migration_type": _check_text,
                        "status": _check_text,
                        "source_node": _allow_none(_check_text),
                    }
                )
            )
        },
        "migrations_links": {"": _LINKS},
        "services": {"/os-services": _expect_list(_check_compute_service)},
        "aggregates": {
            "": _expect_list(
                _expect_object(
                    {
                        "name": _check_text,
                        "hosts": _expect_list(_check_text),
                        "metadata": _expect_map(_check_text),
                    }
                )
            )
        },
    },
    "Glance": {"images": {"/images": _expect_list(_IMAGE)}},
    "Keystone": {
        "project": {"/projects/[^/]+": _PROJECT},
        "projects": {"/projects": _expect_list(_PROJECT)},
        "links": {
            "": _allow_none(
                _expect_object({}, {"next": _allow_none(_check_text)})
            )
        },
        "services": {
            "/services": _expect_list(_expect_object({"id": _check_text}))
        },
        "registered_limits": {
            "": _expect_list(
                _expect_object({**_OF_LIMIT, "default_limit": _check_number})
            )
        },
        "limits": {
            "": _expect_list(
                _expect_object(
                    {**_OF_LIMIT, "resource_limit": _check_number},
                    {"project_id": _allow_none(_check_text)},
                )
            )
        },
    },
}
"""Service -> field of an answer -> end of the path (a pattern) -> its form."""
