# SPDX-License-Identifier: Apache-2.0

"""How many examples: few by themselves, FUZZ_EXAMPLES with ``make fuzz``."""

import os

from hypothesis import HealthCheck
from hypothesis import settings

_CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "short",
    max_examples=40,
    deadline=None,
    # The same inputs each time, so that what was green stays so; what is new
    # is found by "make fuzz".
    derandomize=True,
    suppress_health_check=_CHECKS,
)
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")),
    deadline=None,
    suppress_health_check=_CHECKS,
    print_blob=True,
)
settings.load_profile("fuzz" if "FUZZ_EXAMPLES" in os.environ else "short")
