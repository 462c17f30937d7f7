# SPDX-License-Identifier: Apache-2.0

"""The metrics: their names, and a reading in these."""

from collections.abc import Iterator
import enum
from typing import Final

from prometheus_client import metrics_core

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.fleet import fabric_traits
from nova_gpu_filter.fleet import summary

_MODEL: Final = ("host", "resource_class", "model")


class Gauge(enum.Enum):
    """A metric; all are gauges, but for the count of errors."""

    def __init__(
        self, metric: str, help_: str, labels: tuple[str, ...] = ()
    ) -> None:
        self.metric = metric
        self.help = help_
        self.labels = labels

    DEVICES = (
        "nova_gpu_devices",
        "PCI devices in Placement, or VFs where a device has several; their"
        " sum over the states is what there is.",
        (*_MODEL, "state"),
    )
    QUARANTINED = (
        "nova_gpu_quarantined_devices",
        "Devices that are kept from servers until a person releases them,"
        " those that a server still has included.",
        _MODEL,
    )
    LARGEST = (
        "nova_gpu_largest_free_set",
        "Free devices of the largest set whose pairs all have at least this"
        " link; for fabric, of the largest partition that is wholly free.",
        (*_MODEL, "link"),
    )
    PARTITIONS = (
        "nova_gpu_partitions",
        "Fabric partitions of a size that the host has.",
        (*_MODEL, "size"),
    )
    INTACT = (
        "nova_gpu_partitions_intact",
        "Fabric partitions of a size that are wholly free.",
        (*_MODEL, "size"),
    )
    FRAGMENTATION = (
        "nova_gpu_fragmentation",
        "F: free devices that requests of the sizes in [gpu_filter]request_mix"
        " could not use, on average.",
        _MODEL,
    )
    LINKS_KNOWN = (
        "nova_gpu_links_known",
        "1 if Placement knows links between the devices, 0 if not.",
        _MODEL,
    )
    FABRIC_PROBLEM = (
        "nova_gpu_fabric_problem",
        "1 if a fabric partition of the host is leaked, missing or of two"
        " servers ('nova-gpu-agent fabric audit'), 0 if not. Only hosts whose"
        " partitions are managed.",
        ("host",),
    )
    DISABLED = (
        "nova_gpu_host_disabled",
        "1 if nova-compute is disabled, so that no server is built, 0 if not.",
        ("host",),
    )
    DOWN = (
        "nova_gpu_host_down",
        "1 if nova-compute is down, forced down or gone, so that no server is"
        " built, 0 if not.",
        ("host",),
    )
    CAPACITY = (
        "nova_gpu_flavor_capacity",
        "Servers of a flavor that still fit over the cloud, if no other is"
        " built.",
        ("flavor",),
    )
    PROJECT = (
        "nova_gpu_project_devices_used",
        "Devices that a project uses.",
        ("project", "project_name", "resource_class"),
    )
    HOST_PROJECT = (
        "nova_gpu_host_project_devices_used",
        "Devices of a host that a project uses; without a project, those of"
        " which it is not known yet. Their sum is what is used.",
        (*_MODEL, "project", "project_name"),
    )
    UP = (
        "nova_gpu_up",
        "1 if the service answered the last time it was asked, 0 if not.",
        ("service",),
    )
    ERRORS = (
        "nova_gpu_errors_total",
        "How often a service gave no answer since the exporter started.",
        ("service",),
    )
    DURATION = (
        "nova_gpu_read_duration_seconds",
        "What the last reading of the cloud took.",
    )
    FINISHED = (
        "nova_gpu_read_timestamp_seconds",
        "When the cloud was last read, in seconds since the epoch.",
    )


class Families:
    """Metric families, filled with samples."""

    def __init__(self) -> None:
        self._families = {gauge: _make_family(gauge) for gauge in Gauge}

    def add(self, gauge: Gauge, value: float, *labels: str) -> None:
        """Add a sample."""
        self._families[gauge].add_metric(labels, value)

    def __iter__(self) -> Iterator[metrics_core.Metric]:
        """Go over the families, without those that have no sample."""
        return (family for family in self._families.values() if family.samples)


def _make_family(
    gauge: Gauge,
) -> metrics_core.GaugeMetricFamily | metrics_core.CounterMetricFamily:
    kind = (
        metrics_core.CounterMetricFamily
        if gauge is Gauge.ERRORS
        else metrics_core.GaugeMetricFamily
    )
    return kind(gauge.metric, gauge.help, labels=gauge.labels)


def describe() -> list[metrics_core.Metric]:
    """List all families, without samples."""
    return [_make_family(gauge) for gauge in Gauge]


def add_reading(families: Families, found: cloud_reader.Reading) -> None:
    """Translate a reading. The count of errors is not in it."""
    for summarized in found.hosts:
        host = summarized.host
        families.add(Gauge.DISABLED, float(host.is_disabled), host.name)
        families.add(Gauge.DOWN, float(host.is_down), host.name)
        problem = fabric_traits.find_problem(host)
        if problem is not None:
            families.add(Gauge.FABRIC_PROBLEM, float(problem), host.name)
        for found_model in summarized.models:
            _add_model(families, host.name, found_model)
    for flavor, servers in found.servers_by_flavor.items():
        families.add(Gauge.CAPACITY, servers, flavor)
    for usage in found.usage:
        labels = (usage.project, usage.name, usage.resource_class)
        families.add(Gauge.PROJECT, usage.used, *labels)
    for one in found.usage_by_host:
        name = found.names.get(one.project, "")
        labels = (one.host, one.resource_class, one.model)
        families.add(Gauge.HOST_PROJECT, one.used, *labels, one.project, name)
    for source in found.asked:
        families.add(Gauge.UP, float(source not in found.failed), source)
    families.add(Gauge.DURATION, found.seconds)
    families.add(Gauge.FINISHED, found.finished_at)


def _add_model(
    families: Families, host: str, found: summary.ModelSummary
) -> None:
    labels = (host, found.resource_class, found.model)
    for state in ("free", "used", "reserved", "unavailable"):
        families.add(
            Gauge.DEVICES, getattr(found.counts, state), *labels, state
        )
    families.add(Gauge.QUARANTINED, found.quarantined, *labels)
    for requirement, size in found.linked.measure_largest_by_link().items():
        families.add(Gauge.LARGEST, size, *labels, requirement.value)
    for size, (intact, there) in found.linked.count_partitions().items():
        families.add(Gauge.PARTITIONS, there, *labels, str(size))
        families.add(Gauge.INTACT, intact, *labels, str(size))
    families.add(Gauge.FRAGMENTATION, found.fragmentation, *labels)
    families.add(Gauge.LINKS_KNOWN, float(found.linked.knows_links), *labels)
