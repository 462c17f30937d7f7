# SPDX-License-Identifier: Apache-2.0

from concurrent import futures
import threading

from nova_gpu_filter.placement import turns


def test_what_has_nothing_in_common_does_not_wait():
    found = turns.Turns()
    both = threading.Barrier(2, timeout=30)

    def work(names):
        with found.take(names):
            both.wait()

    with futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [["a", "b"], ["c", "d"]]))
    assert len(found) == 0


def test_of_those_that_share_a_name_one_works_at_a_time():
    found = turns.Turns()
    working = []
    most = []

    def work(number):
        # Each shares a name with the next, in both orders.
        names = [str(number % 4), str((number + 1) % 4)]
        with found.take(names[:: 1 if number % 2 else -1]):
            working.extend(names)
            most.append(max(map(working.count, names)))
            for name in names:
                working.remove(name)

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert max(most) == 1
    assert len(found) == 0


def test_a_name_is_free_again_after_an_error():
    found = turns.Turns()
    for _ in range(2):
        try:
            with found.take(["a"]):
                raise ValueError
        except ValueError:
            pass
    assert len(found) == 0
