# SPDX-License-Identifier: Apache-2.0

"""What all unit tests need of nova.

Some modules of nova (which ones, depends on the series) replace the threads of
the process by green threads when they are imported, and a process of
pytest-xdist then waits for ever.
"""

import os

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

# isort: split
import hypothesis
from nova import monkey_patch
from nova import objects

from tests import temporary

temporary.keep_in_memory()

if hasattr(monkey_patch, "patch"):
    # From Nova 32 on it also chooses a backend of oslo.service, and fails
    # where another part of Nova was imported first and has chosen one.
    monkey_patch.patch = lambda *args, **kwargs: None

# The same inputs each time, so that what was green stays so.
hypothesis.settings.register_profile(
    "repeatable",
    hypothesis.settings.get_profile("default"),
    # Processors are shared, so that time says nothing.
    deadline=None,
    derandomize=True,
)

# Unit tests read nova's objects, which have to be registered once.
objects.register_all()


def pytest_make_collect_report(collector):
    """Have the tests of a module made with the profile of this directory.

    A profile is one for the whole process, and that of another directory may
    have been loaded in between.
    """
    hypothesis.settings.load_profile("repeatable")
