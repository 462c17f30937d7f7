# SPDX-License-Identifier: Apache-2.0

"""Whether a flavor allows the video memory that an image asks for.

The rule is that of ``_add_video_driver`` in nova/virt/libvirt/driver.py and of
``_get_extra_specs`` in nova/virt/vmwareapi/vmops.py: a flavor without a
limit allows none. No scheduler looks at it, so that every host fails alike.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import Final

from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.severity import Severity

_IMAGE_KEY: Final = "hw_video_ram"
_LIMIT_KEY: Final = "hw_video:ram_max_mb"


def find_problems(
    specs: Mapping[str, str], image: Mapping[str, Any]
) -> Iterator[FlavorProblem]:
    """Find whether more video memory is asked for than is allowed.

    :param specs: extra specs of the flavor.
    :param image: properties of the image.
    """
    if _IMAGE_KEY not in image:
        return
    asked = _read(image[_IMAGE_KEY])
    if asked is None:
        yield FlavorProblem(
            Severity.ERROR,
            _IMAGE_KEY,
            f"'{image[_IMAGE_KEY]}' is no number of MiB: Nova refuses it",
        )
        return
    limit = _read(specs.get(_LIMIT_KEY, "0"))
    if limit is None:
        yield FlavorProblem(
            Severity.ERROR,
            _LIMIT_KEY,
            f"'{specs[_LIMIT_KEY]}' is no number of MiB: guests of images with"
            f" {_IMAGE_KEY} fail to start",
        )
    elif asked > limit:
        yield FlavorProblem(
            Severity.ERROR,
            _IMAGE_KEY,
            f"{asked} MiB, and the flavor allows {limit}: guests with a"
            f" console fail to start; set {_LIMIT_KEY}={asked} in the flavor",
        )


def _read(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
