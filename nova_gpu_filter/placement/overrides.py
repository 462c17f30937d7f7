# SPDX-License-Identifier: Apache-2.0

"""A view of Placement's configuration in which some options differ."""

from collections.abc import Mapping
from typing import Any


class Overridden:
    """A configuration, or a group of one, with other values for some options.

    Not a copy: what changes in the original changes here. Nor an override of
    oslo.config's, which all configurations of the process would share.
    """

    def __init__(self, original: Any, values: Mapping[str, Any]) -> None:
        """Take values for options, or mappings of them for groups."""
        self._original = original
        self._values = values

    def __getattr__(self, name: str) -> Any:
        """Read an option or a group, or find a method of the original."""
        if name not in self._values:
            return getattr(self._original, name)
        value = self._values[name]
        if isinstance(value, Mapping):
            return Overridden(getattr(self._original, name), value)
        return value

    def __getitem__(self, name: str) -> Any:
        """Read an option or a group, as keystoneauth does."""
        return getattr(self, name)

    def __contains__(self, name: str) -> bool:
        """Whether there is such an option or group."""
        return name in self._original
