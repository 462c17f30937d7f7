# SPDX-License-Identifier: Apache-2.0

"""Let nova-api validate the extra specs ``gpu:...`` of a flavor.

The entry point in ``nova.api.extra_spec_validators`` is this module; see
nova/api/validation/extra_specs/validators.py. Nova validates from microversion
2.86; what earlier ones let pass is refused by the matcher ``topology``.
"""

from nova.api.validation.extra_specs import base

from nova_gpu_filter.topology import policy

_VALIDATORS = (
    # (extra spec, description, description of the value, good values)
    (
        policy.LINK_KEY,
        "The link that every pair of the devices of the first PCI alias must"
        " have at least: ``fabric`` (exactly one whole fabric partition),"
        " ``nvlink``, ``pix``, ``pxb``, ``phb`` or ``node``.",
        "The least link.",
        policy.LINK_VALUES,
    ),
    (
        policy.LINK_POLICY_KEY,
        "Whether hosts without such a set of devices are refused"
        " (``required``, the default) or used when there is nothing better"
        " (``preferred``). Only with ``gpu:link``.",
        "The policy.",
        policy.LINK_POLICY_VALUES,
    ),
    (
        policy.SPREAD_KEY,
        "Whether the virtual functions of the first PCI alias, or the vGPUs"
        " of several request groups (``resources1:VGPU=1``), come from as many"
        " physical devices as possible (``spread``) or from as few"
        " (``pack``). Without it there is no preference.",
        "The preference.",
        policy.SPREAD_VALUES,
    ),
)


def register() -> list[base.ExtraSpecValidator]:
    """List the validators."""
    return [
        base.ExtraSpecValidator(
            name=name,
            description=description,
            value={"type": str, "description": value, "enum": list(good)},
        )
        for name, description, value, good in _VALIDATORS
    ]
