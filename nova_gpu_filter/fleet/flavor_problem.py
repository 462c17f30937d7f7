# SPDX-License-Identifier: Apache-2.0

"""One thing that is wrong with a flavor, or the image that goes with it."""

import dataclasses

from nova_gpu_filter.severity import Severity


@dataclasses.dataclass(frozen=True)
class FlavorProblem:
    """What is wrong with one extra spec or property."""

    severity: Severity
    key: str
    """The extra spec or image property that it is about."""
    text: str
