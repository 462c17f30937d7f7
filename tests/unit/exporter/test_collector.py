# SPDX-License-Identifier: Apache-2.0

from concurrent import futures
import threading

import prometheus_client
import pytest

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.exporter import collector

INTERVAL_S = 30.0


class Clock:
    """Time that a test sets."""

    now = 1000.0

    def __call__(self):
        """Tell the time."""
        return self.now


@pytest.fixture
def clock():
    return Clock()


def errors(made):
    """Read the count of errors, by service."""
    return {
        sample.labels["service"]: sample.value
        for family in made.collect()
        for sample in family.samples
        if sample.name == "nova_gpu_errors_total"
    }


def test_the_cloud_is_read_once_an_interval(clock):
    times = []

    def read():
        times.append(clock.now)
        return cloud_reader.Reading(asked=("placement",))

    made = collector.Collector(read, INTERVAL_S, clock)
    for seconds in (0.0, 1.0, 29.9, 30.0, 59.9, 60.0):
        clock.now = 1000.0 + seconds
        assert list(made.collect())
    assert times == [1000.0, 1030.0, 1060.0]


def test_scrapes_at_the_same_time_share_one_reading():
    started, go_on = threading.Event(), threading.Event()
    readings = []

    def read():
        readings.append(1)
        started.set()
        assert go_on.wait(10)
        return cloud_reader.Reading(asked=("placement",))

    made = collector.Collector(read, INTERVAL_S)
    with futures.ThreadPoolExecutor(3) as pool:
        scrapes = [pool.submit(made.collect) for _ in range(3)]
        assert started.wait(10)
        go_on.set()
        found = [list(scrape.result(10)) for scrape in scrapes]
    assert len(readings) == 1
    assert found[0] == found[1] == found[2]


def test_errors_are_counted_also_when_there_are_none(clock):
    failed = [(), ("nova",), ("nova",), ()]
    answers = iter(
        cloud_reader.Reading(asked=("placement", "nova"), failed=each)
        for each in failed
    )
    made = collector.Collector(lambda: next(answers), 0, clock)
    assert errors(made) == {"placement": 0, "nova": 0}
    assert not made.has_failed
    assert errors(made) == {"placement": 0, "nova": 1}
    assert errors(made) == {"placement": 0, "nova": 2}
    assert errors(made) == {"placement": 0, "nova": 2}
    assert made.has_failed


def test_a_registry_takes_it_without_reading_the_cloud():
    def read():
        raise AssertionError("the cloud was asked")

    registry = prometheus_client.CollectorRegistry()
    made = collector.Collector(read, INTERVAL_S)
    registry.register(made)
    assert not made.has_failed
