# SPDX-License-Identifier: Apache-2.0

"""What all unit tests need of nova.

Some modules of nova (which ones, depends on the series) replace the threads of
the process by green threads when they are imported, and a process of
pytest-xdist then waits for ever.
"""

import os

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

# isort: split
from nova import objects

# Unit tests read nova's objects, which have to be registered once.
objects.register_all()
