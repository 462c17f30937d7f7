# SPDX-License-Identifier: Apache-2.0

from concurrent import futures

from nova_gpu_filter.placement import counters


def test_requests_are_counted_by_what_became_of_them():
    found = counters.Counters()
    found.count_composed(candidates=10, seconds=0.5)
    found.count_composed(candidates=6, seconds=0.25)
    found.count_passed_through("no equal groups")
    found.count_passed_through("status 400")
    found.count_passed_through("no equal groups")
    assert found.snapshot() == counters.Snapshot(
        composed=2,
        candidates=16,
        seconds=0.75,
        passed_through={"no equal groups": 2, "status 400": 1},
    )


def test_a_snapshot_does_not_change():
    found = counters.Counters()
    before = found.snapshot()
    found.count_passed_through("error")
    assert before.passed_through == {}


def test_threads_lose_no_count():
    found = counters.Counters()
    with futures.ThreadPoolExecutor(8) as pool:
        for _ in range(500):
            pool.submit(found.count_composed, 2, 0.5)
            pool.submit(found.count_passed_through, "error")
    snapshot = found.snapshot()
    assert (snapshot.composed, snapshot.candidates) == (500, 1000)
    assert snapshot.seconds == 250
    assert snapshot.passed_through == {"error": 500}
