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

if hasattr(monkey_patch, "patch"):
    # From Nova 32 on it also chooses a backend of oslo.service, and fails
    # where another part of Nova was imported first and has chosen one.
    monkey_patch.patch = lambda *args, **kwargs: None

# The same inputs each time, so that what was green stays so.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

# Unit tests read nova's objects, which have to be registered once.
objects.register_all()
