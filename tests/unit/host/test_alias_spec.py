# SPDX-License-Identifier: Apache-2.0

"""Aliases are refused where Nova refuses them, and nowhere else."""

import json

from hypothesis import given
from hypothesis import strategies
import jsonschema
from nova.pci import request
from oslo_utils import strutils

from nova_gpu_filter.host.configuration import alias_spec

_VALUES = strategies.one_of(
    strategies.sampled_from(
        [
            *("10de", "10DE", "10d", "10deg", "", "10de\n", "a1", "a" * 257),
            *("type-PCI", "type-PF", "type-VF", "vdpa", "pci", "yes", "no"),
            *("true", "off", "maybe", "legacy", "socket", "required", "any"),
            *(1, None, True, ["10de"], {}),
        ]
    ),
    strategies.text(max_size=5),
)
_KEYS = strategies.sampled_from(
    [*request._ALIAS_SCHEMA["properties"], "dev_type", "Name"]
)


def _is_taken_by_nova(alias):
    """Ask Nova's schema, and what Nova does with ``live_migratable``."""
    try:
        jsonschema.validate(alias, request._ALIAS_SCHEMA)
        if "live_migratable" in alias:
            strutils.bool_from_string(alias["live_migratable"], strict=True)
    except (jsonschema.ValidationError, ValueError):
        return False
    return True


@given(
    strategies.dictionaries(_KEYS, _VALUES, max_size=6),
    strategies.booleans(),
)
def test_what_nova_refuses_is_refused(alias, is_named):
    if is_named:
        alias = {"name": "a1", **alias}
    try:
        alias_spec.parse(json.dumps(alias))
    except alias_spec.AliasError:
        is_taken = False
    else:
        is_taken = True
    assert is_taken == _is_taken_by_nova(alias)
