# SPDX-License-Identifier: Apache-2.0

"""Waiting for what comes about by itself."""

from collections.abc import Callable
import time

_POLL_SECONDS = 0.5


def until(is_so: Callable[[], bool], patience_seconds: float = 120.0) -> bool:
    """Wait until something is so.

    :returns: whether it is; False when patience ends first.
    """
    deadline = time.monotonic() + patience_seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
