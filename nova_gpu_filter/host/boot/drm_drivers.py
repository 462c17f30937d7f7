# SPDX-License-Identifier: Apache-2.0

"""The kernel's drivers of displays, and how they are switched off.

Sources: drivers/gpu/drm/*_drv.c (modeset) and drivers/video/nomodeset.c
(drm_firmware_drivers_only).
"""

from collections.abc import Collection

DRM_DRIVERS = frozenset({"amdgpu", "i915", "nouveau", "radeon", "xe"})
"""All of them register nothing with nomodeset."""
_MODESET = frozenset({"i915", "nouveau", "radeon"})
"""Those that register nothing with modeset=0."""


def is_switched_off(
    module: str,
    cmdline: Collection[tuple[str, str | None]],
    options: Collection[str],
) -> bool:
    """Tell whether a module is told to take no device.

    :param cmdline: (parameter, value) of the kernel command line.
    :param options: what modprobe gives the module.
    """
    if module in DRM_DRIVERS and any(key == "nomodeset" for key, _ in cmdline):
        return True
    return module in _MODESET and (
        (f"{module}.modeset", "0") in cmdline or "modeset=0" in options
    )
