# SPDX-License-Identifier: Apache-2.0

"""The metrics: their names, and a reading in these."""

from collections.abc import Iterator
import dataclasses
from typing import Final

from prometheus_client import metrics_core

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.fleet import summary


@dataclasses.dataclass(frozen=True)
class Gauge:
    """A metric; all are gauges, but for the count of errors."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


_MODEL: Final = ("host", "resource_class", "model")

DEVICES: Final = Gauge(
    "nova_gpu_devices",
    "PCI devices in Placement, or VFs where a device has several; their sum"
    " over the states is what there is.",
    (*_MODEL, "state"),
)
QUARANTINED: Final = Gauge(
    "nova_gpu_quarantined_devices",
    "Devices that are kept from servers until a person releases them, those"
    " that a server still has included.",
    _MODEL,
)
LARGEST: Final = Gauge(
    "nova_gpu_largest_free_set",
    "Free devices of the largest set whose pairs all have at least this link;"
    " for fabric, of the largest partition that is wholly free.",
    (*_MODEL, "link"),
)
PARTITIONS: Final = Gauge(
    "nova_gpu_partitions",
    "Fabric partitions of a size that the host has.",
    (*_MODEL, "size"),
)
INTACT: Final = Gauge(
    "nova_gpu_partitions_intact",
    "Fabric partitions of a size that are wholly free.",
    (*_MODEL, "size"),
)
FRAGMENTATION: Final = Gauge(
    "nova_gpu_fragmentation",
    "F: free devices that requests of the sizes in [gpu_filter]request_mix"
    " could not use, on average.",
    _MODEL,
)
LINKS_KNOWN: Final = Gauge(
    "nova_gpu_links_known",
    "1 if Placement knows links between the devices, 0 if not.",
    _MODEL,
)
FABRIC_PROBLEM: Final = Gauge(
    "nova_gpu_fabric_problem",
    "1 if a fabric partition of the host is leaked, missing or of two servers"
    " ('nova-gpu-agent fabric audit'), 0 if not. Only hosts whose partitions"
    " are managed.",
    ("host",),
)
DISABLED: Final = Gauge(
    "nova_gpu_host_disabled",
    "1 if nova-compute is disabled, so that no server is built, 0 if not.",
    ("host",),
)
DOWN: Final = Gauge(
    "nova_gpu_host_down",
    "1 if nova-compute is down, forced down or gone, so that no server is"
    " built, 0 if not.",
    ("host",),
)
CAPACITY: Final = Gauge(
    "nova_gpu_flavor_capacity",
    "Servers of a flavor that still fit over the cloud, if no other is built.",
    ("flavor",),
)
PROJECT: Final = Gauge(
    "nova_gpu_project_devices_used",
    "Devices that a project uses.",
    ("project", "project_name", "resource_class"),
)
HOST_PROJECT: Final = Gauge(
    "nova_gpu_host_project_devices_used",
    "Devices of a host that a project uses; without a project, those of which"
    " it is not known yet. Their sum is what is used.",
    (*_MODEL, "project", "project_name"),
)
UP: Final = Gauge(
    "nova_gpu_up",
    "1 if the service answered the last time it was asked, 0 if not.",
    ("service",),
)
ERRORS: Final = Gauge(
    "nova_gpu_errors_total",
    "How often a service gave no answer since the exporter started.",
    ("service",),
)
DURATION: Final = Gauge(
    "nova_gpu_read_duration_seconds",
    "What the last reading of the cloud took.",
)
FINISHED: Final = Gauge(
    "nova_gpu_read_timestamp_seconds",
    "When the cloud was last read, in seconds since the epoch.",
)

ALL: Final = (
    DEVICES,
    QUARANTINED,
    LARGEST,
    PARTITIONS,
    INTACT,
    FRAGMENTATION,
    LINKS_KNOWN,
    FABRIC_PROBLEM,
    DISABLED,
    DOWN,
    CAPACITY,
    PROJECT,
    HOST_PROJECT,
    UP,
    ERRORS,
    DURATION,
    FINISHED,
)


class Families:
    """Metric families, filled with samples."""

    def __init__(self) -> None:
        """All are there, and empty."""
        self._families = {gauge: _make_family(gauge) for gauge in ALL}

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
        if gauge is ERRORS
        else metrics_core.GaugeMetricFamily
    )
    return kind(gauge.name, gauge.help, labels=gauge.labels)


def describe() -> list[metrics_core.Metric]:
    """List all families, without samples."""
    return [_make_family(gauge) for gauge in ALL]


def add_reading(families: Families, found: cloud_reader.Reading) -> None:
    """Translate a reading. The count of errors is not in it."""
    for host in found.hosts:
        families.add(DISABLED, float(host.is_disabled), host.name)
        families.add(DOWN, float(host.is_down), host.name)
        if host.has_fabric_problem is not None:
            families.add(
                FABRIC_PROBLEM, float(host.has_fabric_problem), host.name
            )
        for found_model in host.models:
            _add_model(families, host.name, found_model)
    for flavor, servers in found.servers_by_flavor.items():
        families.add(CAPACITY, servers, flavor)
    for usage in found.usage:
        families.add(
            PROJECT,
            usage.used,
            usage.project,
            usage.name,
            usage.resource_class,
        )
    for one in found.usage_by_host:
        families.add(
            HOST_PROJECT,
            one.used,
            *(one.host, one.resource_class, one.model),
            *(one.project, found.names.get(one.project, "")),
        )
    for source in found.asked:
        families.add(UP, float(source not in found.failed), source)
    families.add(DURATION, found.seconds)
    families.add(FINISHED, found.finished_at)


def _add_model(
    families: Families, host: str, found: summary.ModelSummary
) -> None:
    labels = (host, found.resource_class, found.model)
    for state in ("free", "used", "reserved", "unavailable"):
        families.add(DEVICES, getattr(found.counts, state), *labels, state)
    families.add(QUARANTINED, found.quarantined, *labels)
    for requirement, size in found.linked.measure_largest_by_link().items():
        families.add(LARGEST, size, *labels, requirement.value)
    for size, (intact, there) in found.linked.count_partitions().items():
        families.add(PARTITIONS, there, *labels, str(size))
        families.add(INTACT, intact, *labels, str(size))
    families.add(FRAGMENTATION, found.fragmentation, *labels)
    families.add(LINKS_KNOWN, float(found.linked.knows_links), *labels)
