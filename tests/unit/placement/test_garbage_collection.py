# SPDX-License-Identifier: Apache-2.0

import gc
import threading

import pytest

from nova_gpu_filter.placement import garbage_collection


def test_the_collector_is_off_meanwhile():
    assert gc.isenabled()
    with garbage_collection.pause():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError), garbage_collection.pause():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with garbage_collection.pause():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_requests_that_overlap_do_not_keep_it_off():
    is_in, may_leave = threading.Event(), threading.Event()

    def overlap():
        with garbage_collection.pause():
            is_in.set()
            may_leave.wait(10)

    with garbage_collection.pause():
        other = threading.Thread(target=overlap)
        other.start()
        assert is_in.wait(10)
    assert gc.isenabled()
    may_leave.set()
    other.join()
    assert gc.isenabled()
