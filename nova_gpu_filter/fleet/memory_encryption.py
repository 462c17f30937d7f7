# SPDX-License-Identifier: Apache-2.0

"""Whether guests with encrypted memory can have devices.

Sources: Nova's admin/sev, "Limitations" ("SEV-encrypted VMs cannot contain
directly accessible host devices"), get_mem_encryption_constraint in
nova/virt/hardware.py (when memory is encrypted, and how); NVIDIA's
Confidential Computing Deployment Guides (which mode the GPU has to be in).
"""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Final

from oslo_utils import strutils

from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.severity import Severity

_KEY: Final = "hw:mem_encryption"
_IMAGE_KEY: Final = "hw_mem_encryption"
_DEFAULT_MODEL: Final = "amd-sev"
_SEV: Final = (
    "Nova does not support devices in guests with SEV, which cannot reach them"
    " in encrypted memory"
)
_NEEDS_MODE: Final = (
    "; only a GPU whose confidential computing mode is on would work in such a"
    " guest (nvidia_gpu_tools.py --query-cc-mode), and in no other"
)
_MODELS: Final[Mapping[str, tuple[Severity, str]]] = {
    "amd-sev": (Severity.ERROR, _SEV),
    "amd-sev-es": (Severity.ERROR, _SEV),
    "amd-sev-snp": (Severity.ERROR, _SEV + _NEEDS_MODE),
    # nova-specs 2026.2/approved/intel-tdx-libvirt-support.
    "intel-tdx": (
        Severity.WARNING,
        "Nova does not say that it supports devices in guests with TDX"
        + _NEEDS_MODE,
    ),
}
"""What is wrong with devices, by ``hw:mem_encryption_model``."""


def find_problems(
    specs: Mapping[str, str], image: Mapping[str, str]
) -> Iterator[FlavorProblem]:
    """Find what is wrong with a flavor that asks for devices."""
    key = find_request(specs, image)
    if key is None:
        return
    name = (
        specs.get(f"{_KEY}_model")
        or image.get(f"{_IMAGE_KEY}_model")
        or _DEFAULT_MODEL
    )
    if name in _MODELS:
        severity, text = _MODELS[name]
        yield FlavorProblem(
            severity, key, f"{text}: take {key} or the alias out ({name})"
        )
    else:
        yield FlavorProblem(
            Severity.ERROR,
            f"{_KEY}_model",
            f"'{name}' is none of {', '.join(_MODELS)}: Nova refuses it",
        )


def find_request(
    specs: Mapping[str, str], image: Mapping[str, str]
) -> str | None:
    """Find what asks for encrypted memory.

    :param specs: extra specs of the flavor.
    :param image: properties of the image.
    :returns: the extra spec or property; None if neither asks.
    """
    asked = ((_KEY, specs.get(_KEY)), (_IMAGE_KEY, image.get(_IMAGE_KEY)))
    for key, value in asked:
        if value is not None and strutils.bool_from_string(value):
            return key
    return None
