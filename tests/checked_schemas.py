# SPDX-License-Identifier: Apache-2.0

"""Has JSON schemas checked once, which Placement has checked each time."""

from collections.abc import Iterator
from typing import Any

import jsonschema
from jsonschema import exceptions
from jsonschema import validators
import pytest

# By identity, and kept, so that none takes the identity of another. Schemas of
# Placement are constants.
_CHECKED: dict[int, Any] = {}


def validate(
    instance: Any, schema: Any, cls: Any = None, *args: Any, **kwargs: Any
) -> None:
    """Validate a document as ``jsonschema.validate`` does.

    That checks the schema as well, which takes a fourth of the time of a
    question to Placement.

    :raises jsonschema.ValidationError: the document is invalid.
    :raises jsonschema.SchemaError: the schema is.
    """
    cls = cls or validators.validator_for(schema)
    if id(schema) not in _CHECKED:
        cls.check_schema(schema)
        _CHECKED[id(schema)] = schema
    found = exceptions.best_match(
        cls(schema, *args, **kwargs).iter_errors(instance)
    )
    if found is not None:
        raise found


def replace() -> Iterator[None]:
    """Put it in the place of ``jsonschema.validate`` for a while."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jsonschema, "validate", validate)
        yield
