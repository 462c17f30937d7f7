# SPDX-License-Identifier: Apache-2.0

"""What an image asks of the host and of the flavor.

Virtual hardware is asked for as traits of the host, by the table of
``transform_image_metadata`` in nova/scheduler/request_filter.py. The scheduler
asks for these traits only with ``[scheduler]image_metadata_prefilter``;
without it a guest may be sent to a host that cannot start it.

Video memory is allowed by the flavor, as in ``_add_video_driver`` of
nova/virt/libvirt/driver.py and ``_get_extra_specs`` of
nova/virt/vmwareapi/vmops.py: one without a limit allows none. No scheduler
looks at it, so that every host fails alike.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Final

import os_traits

from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.severity import Severity

_OPTION: Final = "[scheduler]image_metadata_prefilter"
_PREFIXES: Final[Mapping[str, str]] = {
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS",
    "hw_disk_bus": "COMPUTE_STORAGE_BUS",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL",
    "hw_architecture": "HW_ARCH",
    "hw_emulation_architecture": "COMPUTE_ARCH",
    "hw_viommu_model": "COMPUTE_VIOMMU",
}
_VIDEO_KEY: Final = "hw_video_ram"
_LIMIT_KEY: Final = "hw_video:ram_max_mb"


def _find_traits(image: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List what an image asks for: (property, trait)."""
    for key, prefix in _PREFIXES.items():
        if key in image:
            value = str(image[key]).replace("-", "_").upper()
            yield key, f"{prefix}_{value}"


def require_traits(image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of an image with all that it asks for as traits
    that are required; without these where one of them is no known trait, as
    Nova does."""
    traits = [trait for _, trait in _find_traits(image)]
    if not all(hasattr(os_traits, trait) for trait in traits):
        return dict(image)
    return {**image, **{f"trait:{trait}": "required" for trait in traits}}


def find_host_problems(
    image: Mapping[str, Any], hosts: Sequence[model.Host]
) -> Iterator[FlavorProblem]:
    """Find what hosts with devices cannot give a guest of an image.

    Hosts whose driver says nothing of such traits are left out.
    """
    for key, trait in _find_traits(image):
        prefix = f"{_PREFIXES[key]}_"
        known = [
            host.traits
            for host in hosts
            if any(name.startswith(prefix) for name in host.traits)
        ]
        able = [traits for traits in known if trait in traits]
        if len(able) == len(known):
            continue
        what = f"{image[key]}: {len(able) or 'none'} of {len(known)} hosts"
        what += f" with devices {'has' if len(able) == 1 else 'have'} {trait}"
        severity, effect = Severity.ERROR, ", so that no guest can start there"
        if able:
            severity, effect = (
                Severity.NOTE,
                f"; with {_OPTION} only these are asked, without it guests may"
                " fail to start on others",
            )
        yield FlavorProblem(severity, key, what + effect)


def find_video_problems(
    specs: Mapping[str, str], image: Mapping[str, Any]
) -> Iterator[FlavorProblem]:
    """Find whether more video memory is asked for than a flavor allows."""
    if _VIDEO_KEY not in image:
        return
    asked = _read(image[_VIDEO_KEY])
    if asked is None:
        yield FlavorProblem(
            Severity.ERROR,
            _VIDEO_KEY,
            f"'{image[_VIDEO_KEY]}' is no number of MiB: Nova refuses it",
        )
        return
    limit = _read(specs.get(_LIMIT_KEY, "0"))
    if limit is None:
        yield FlavorProblem(
            Severity.ERROR,
            _LIMIT_KEY,
            f"'{specs[_LIMIT_KEY]}' is no number of MiB: guests of images with"
            f" {_VIDEO_KEY} fail to start",
        )
    elif asked > limit:
        yield FlavorProblem(
            Severity.ERROR,
            _VIDEO_KEY,
            f"{asked} MiB, and the flavor allows {limit}: guests with a"
            f" console fail to start; set {_LIMIT_KEY}={asked} in the flavor",
        )


def _read(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
