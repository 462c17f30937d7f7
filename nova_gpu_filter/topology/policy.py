# SPDX-License-Identifier: Apache-2.0

"""What a flavor asks of the links between its devices."""

from collections.abc import Mapping
import dataclasses
import enum
from typing import Final

from nova_gpu_filter.topology.links import Requirement

LINK_KEY: Final = "gpu:link"
LINK_POLICY_KEY: Final = "gpu:link_policy"
SPREAD_KEY: Final = "gpu:spread"

LINK_VALUES: Final = tuple(requirement.value for requirement in Requirement)
"""Good values of ``gpu:link``, strictest first."""
LINK_POLICY_VALUES: Final = ("required", "preferred")


class Spread(enum.Enum):
    """Whether VFs or vGPUs come from many physical devices or from few."""

    PACK = "pack"
    SPREAD = "spread"


SPREAD_VALUES: Final = tuple(spread.value for spread in Spread)


class PolicyError(ValueError):
    """An extra spec has a bad value; the message lists the good ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class LinkPolicy:
    """What the devices of one request should be to each other."""

    link: Requirement
    required: bool = True
    """Whether a host without such a set is refused."""


def parse(extra_specs: Mapping[str, str]) -> LinkPolicy | None:
    """Read the policy from the extra specs of a flavor.

    :returns: None when the flavor has no ``gpu:link``.
    :raises PolicyError: a value is unknown, or ``gpu:link_policy`` stands
        there without ``gpu:link``.
    """
    link_policy = _read(extra_specs, LINK_POLICY_KEY, LINK_POLICY_VALUES)
    if link_policy is not None and extra_specs.get(LINK_KEY) is None:
        raise PolicyError(
            f"{LINK_POLICY_KEY} = {link_policy!r} has no effect without"
            f" {LINK_KEY}: set {LINK_KEY} to one of"
            f" {', '.join(LINK_VALUES)}, or remove {LINK_POLICY_KEY}"
        )
    link = _read(extra_specs, LINK_KEY, LINK_VALUES)
    if link is None:
        return None
    return LinkPolicy(Requirement(link), link_policy != "preferred")


def parse_spread(extra_specs: Mapping[str, str]) -> Spread | None:
    """Read ``gpu:spread`` from the extra specs of a flavor.

    :returns: None when the flavor has none.
    :raises PolicyError: its value is unknown.
    """
    spread = _read(extra_specs, SPREAD_KEY, SPREAD_VALUES)
    return None if spread is None else Spread(spread)


def _read(
    extra_specs: Mapping[str, str], key: str, good: tuple[str, ...]
) -> str | None:
    value = extra_specs.get(key)
    if value is not None and value not in good:
        raise PolicyError(
            f"{key} = {value!r}: must be one of {', '.join(good)}"
        )
    return value
