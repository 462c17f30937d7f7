# SPDX-License-Identifier: Apache-2.0

"""Choose the threading model of the process; to be imported before all else.

Nova's functional fixtures decide at import whether eventlet replaces the
standard library's threads (nova/monkey_patch.py, and the environment variable
``OS_NOVA_DISABLE_EVENTLET_PATCHING``). What was imported before that keeps the
threads that it has found.
"""

import logging
import warnings

# Nova logs here before it has a handler, and Python would print that.
logging.getLogger("nova").addHandler(logging.NullHandler())

with warnings.catch_warnings():
    # Eventlet and what is built on it announce their end, at each import.
    warnings.simplefilter("ignore")
    import nova.tests.functional  # noqa: F401
