# SPDX-License-Identifier: Apache-2.0

"""Let nova-api validate the extra specs ``gpu:...`` of a flavor.

The entry point in ``nova.api.extra_spec_validators`` is this module; see
nova/api/validation/extra_specs/validators.py. Nova validates from microversion
2.86; what earlier ones let pass is refused by the matcher ``topology``.
"""

from nova.api.validation.extra_specs import base

from nova_gpu_filter.topology import policy


def register() -> list[base.ExtraSpecValidator]:
    """List the validators."""
    return [
        base.ExtraSpecValidator(
            name=policy.LINK_KEY,
            description=(
                "The link that every pair of the devices of the first PCI"
                " alias must have at least: ``fabric`` (exactly one whole"
                " fabric partition), ``nvlink``, ``pix``, ``pxb``, ``phb`` or"
                " ``node``."
            ),
            value={
                "type": str,
                "description": "The least link.",
                "enum": list(policy.LINK_VALUES),
            },
        ),
        base.ExtraSpecValidator(
            name=policy.LINK_POLICY_KEY,
            description=(
                "Whether hosts without such a set of devices are refused"
                " (``required``, the default) or used when there is nothing"
                " better (``preferred``). Only with ``gpu:link``."
            ),
            value={
                "type": str,
                "description": "The policy.",
                "enum": list(policy.LINK_POLICY_VALUES),
            },
        ),
        base.ExtraSpecValidator(
            name=policy.SPREAD_KEY,
            description=(
                "Whether the virtual functions of the first PCI alias, or the"
                " vGPUs of several request groups (``resources1:VGPU=1``),"
                " come from as many physical devices as possible"
                " (``spread``) or from as few (``pack``). Without it there is"
                " no preference."
            ),
            value={
                "type": str,
                "description": "The preference.",
                "enum": list(policy.SPREAD_VALUES),
            },
        ),
    ]
