# SPDX-License-Identifier: Apache-2.0

"""Pause Python's garbage collector while an answer is made."""

from collections.abc import Iterator
import contextlib
import gc
import threading

_lock = threading.Lock()


@contextlib.contextmanager
def pause() -> Iterator[None]:
    """Run the body without looking for garbage in reference cycles.

    For 1,000 hosts of 8 devices there are half a million objects, all of which
    live until the answer is written: a request for two to six of eight GPUs
    takes 1.9 to 2.05 times what Placement alone needs for one GPU with the
    collector, and 1.3 times without, where 1.5 is the goal (Python 3.11; "make
    bench ARGS='--full placement'" measures both).

    The collector is one for all threads of the process. Only one thread at a
    time pauses it, so that requests that overlap do not keep it off.
    """
    if not _lock.acquire(blocking=False):
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        _lock.release()
