# SPDX-License-Identifier: Apache-2.0

"""What prometheus_client asks at each scrape."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
import math
import threading
import time

from prometheus_client import metrics_core
from prometheus_client import registry

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.exporter import metrics


class Collector(registry.Collector):
    """Reads the cloud when it is asked, but not more often than allowed.

    Several Prometheus servers, and whoever looks by hand, get what was read
    for the first of them; so Placement has the same load however many ask.
    """

    def __init__(
        self,
        read: Callable[[], cloud_reader.Reading],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        :param interval_s: how long an answer is kept.
        """
        self._read = read
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._errors: collections.Counter[str] = collections.Counter()
        self._families: list[metrics_core.Metric] = []
        self._read_at = -math.inf

    @property
    def has_failed(self) -> bool:
        """Whether a service ever gave no answer."""
        return bool(self._errors)

    def describe(self) -> Iterable[metrics_core.Metric]:
        """List the metrics without reading the cloud, for the registry."""
        return metrics.describe()

    def collect(self) -> Iterable[metrics_core.Metric]:
        """Return the metrics; a scrape waits for one that is reading."""
        with self._lock:
            if self._clock() - self._read_at >= self._interval_s:
                self._families = self._translate(self._read())
                self._read_at = self._clock()
            return self._families

    def _translate(
        self, found: cloud_reader.Reading
    ) -> list[metrics_core.Metric]:
        families = metrics.Families()
        metrics.add_reading(families, found)
        self._errors.update(found.failed)
        for source in found.asked:
            families.add(metrics.Gauge.ERRORS, self._errors[source], source)
        return list(families)
