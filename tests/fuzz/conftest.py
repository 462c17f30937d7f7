# SPDX-License-Identifier: Apache-2.0

"""How many examples: few by themselves, FUZZ_EXAMPLES with ``make fuzz``.

Nova's fixtures turn the threads of a process into green threads when they are
imported, and a process of pytest-xdist then waits for ever (see
tests/functional/conftest.py): no harness needs them.
"""

import os

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

# isort: split

from hypothesis import HealthCheck
from hypothesis import settings
import pytest

_CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "short",
    settings.get_profile("default"),
    max_examples=40,
    deadline=None,
    # The same inputs each time, so that what was green stays so; what is new
    # is found by "make fuzz".
    derandomize=True,
    suppress_health_check=_CHECKS,
)
settings.register_profile(
    "fuzz",
    settings.get_profile("default"),
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")),
    deadline=None,
    # Others each time, also where the machine is one that builds.
    derandomize=False,
    suppress_health_check=_CHECKS,
    print_blob=True,
)


@pytest.fixture(scope="session", autouse=True)
def _check_schemas_once():
    """Have Placement check its schemas once."""
    from tests import checked_schemas

    yield from checked_schemas.replace()


def pytest_make_collect_report(collector):
    """Have the tests of a module made with the profile of this directory.

    A profile is one for the whole process, and that of another directory may
    have been loaded in between.
    """
    settings.load_profile("fuzz" if "FUZZ_EXAMPLES" in os.environ else "short")
