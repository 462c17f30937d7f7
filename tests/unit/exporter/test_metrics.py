# SPDX-License-Identifier: Apache-2.0

import dataclasses

import prometheus_client
from prometheus_client import parser
import pytest

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.exporter import metrics
from nova_gpu_filter.exporter import projects
from nova_gpu_filter.fleet import summary
from tests.unit.fleet import builders

LABELS = {
    "host": "hgx-1",
    "resource_class": builders.H100,
    "model": "GPU_H100",
}


def samples(found):
    """Translate a reading to {(name, labels without those above): value}."""
    families = metrics.Families()
    metrics.add_reading(families, found)
    values = {}
    for family in families:
        for sample in family.samples:
            own = tuple(
                value
                for name, value in sample.labels.items()
                if name not in LABELS
            )
            values[sample.name, *own] = sample.value
    return values


def summarize(host):
    """Make what the reader makes of a host."""
    return cloud_reader.HostSummary(host, tuple(summary.summarize(host)))


def test_quarantined_devices_count_also_while_a_server_has_them():
    host = builders.machine("hgx-1", used=(0,), reserved=(7,))
    devices = tuple(
        dataclasses.replace(device, is_quarantined=place in (0, 7))
        for place, device in enumerate(host.devices)
    )
    host = dataclasses.replace(host, devices=devices)
    found = samples(cloud_reader.Reading(hosts=(summarize(host),)))
    assert found["nova_gpu_quarantined_devices",] == 2
    assert found["nova_gpu_devices", "reserved"] == 1


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ((), None),
        (("CUSTOM_NVIDIA_FM_580_95_05",), 0),
        (("CUSTOM_NVIDIA_FM_580_95_05", "CUSTOM_GPU_FABRIC_PROBLEM"), 1),
        (("CUSTOM_GPU_FABRIC_PROBLEM",), 1),
    ],
)
def test_what_an_agent_finds_of_the_fabric_is_shown(traits, expected):
    host = dataclasses.replace(
        builders.machine("hgx-1"), traits=frozenset(traits)
    )
    found = samples(cloud_reader.Reading(hosts=(summarize(host),)))
    assert found.get(("nova_gpu_fabric_problem",)) == expected


def test_a_host_is_told_in_numbers():
    # GPU 0 is used and GPU 7 reserved, so one partition of 4 is not intact
    # and neither is the other.
    host = builders.machine("hgx-1", used=(0,), reserved=(7,))
    found = samples(cloud_reader.Reading(hosts=(summarize(host),)))
    assert found["nova_gpu_devices", "free"] == 6
    assert found["nova_gpu_devices", "used"] == 1
    assert found["nova_gpu_devices", "reserved"] == 1
    assert found["nova_gpu_quarantined_devices",] == 0
    assert found["nova_gpu_largest_free_set", "nvlink"] == 6
    assert found["nova_gpu_largest_free_set", "fabric"] == 2
    assert found["nova_gpu_partitions", "4"] == 2
    assert found["nova_gpu_partitions_intact", "4"] == 0
    assert found["nova_gpu_partitions_intact", "1"] == 6
    assert found["nova_gpu_links_known",] == 1
    assert found["nova_gpu_host_disabled",] == 0
    [expected] = [one.fragmentation for one in summary.summarize(host)]
    assert found["nova_gpu_fragmentation",] == expected > 0


def test_samples_bear_the_host_and_what_is_counted():
    host = builders.machine("hgx-1")
    families = metrics.Families()
    metrics.add_reading(
        families, cloud_reader.Reading(hosts=(summarize(host),))
    )
    for family in families:
        for sample in family.samples:
            if sample.labels and "model" in sample.labels:
                assert {name: sample.labels[name] for name in LABELS} == LABELS


@pytest.mark.parametrize("devices", [1, 2])
def test_devices_without_links_are_told_so(devices):
    host = builders.host(
        "a", [builders.device("a", bus) for bus in builders.BUSES[:devices]]
    )
    found = samples(cloud_reader.Reading(hosts=(summarize(host),)))
    assert found["nova_gpu_links_known",] == 0
    assert not [key for key in found if "largest" in key[0]]


def test_what_projects_use_and_what_fits_is_told():
    found = samples(
        cloud_reader.Reading(
            servers_by_flavor={"g8": 3},
            usage=(projects.Usage("uuid", "research", builders.H100, 5),),
        )
    )
    assert found["nova_gpu_flavor_capacity", "g8"] == 3
    assert found["nova_gpu_project_devices_used", "uuid", "research"] == 5


def test_what_projects_use_of_a_host_is_told():
    usages = [
        projects.HostUsage("hgx-1", builders.H100, "GPU_H100", project, n)
        for project, n in (("uuid", 5), (projects.NOT_KNOWN, 2))
    ]
    found = samples(
        cloud_reader.Reading(
            usage_by_host=tuple(usages), names={"uuid": "research"}
        )
    )
    name = "nova_gpu_host_project_devices_used"
    assert found[name, "uuid", "research"] == 5
    assert found[name, "", ""] == 2


def test_a_service_that_failed_is_down_and_others_are_up():
    found = samples(
        cloud_reader.Reading(
            asked=("placement", "nova"),
            failed=("nova",),
            seconds=1.5,
            finished_at=1e9,
        )
    )
    assert found["nova_gpu_up", "placement"] == 1
    assert found["nova_gpu_up", "nova"] == 0
    assert found["nova_gpu_read_duration_seconds",] == 1.5
    assert found["nova_gpu_read_timestamp_seconds",] == 1e9


def test_names_are_unique_and_have_a_help_text():
    described = metrics.describe()
    names = [family.name for family in described]
    assert len(names) == len(set(names)) == len(metrics.Gauge)
    assert all(family.documentation for family in described)


def test_prometheus_can_read_what_is_written():
    families = metrics.Families()
    host = builders.machine('odd "host"\\name\n', used=(3,))
    metrics.add_reading(
        families,
        cloud_reader.Reading(hosts=(summarize(host),), asked=("nova",)),
    )
    families.add(metrics.Gauge.ERRORS, 2, "nova")

    class Collector:
        def collect(self):
            return list(families)

    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector())
    text = prometheus_client.generate_latest(registry).decode()
    read = {
        sample.name: sample
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert read["nova_gpu_devices"].labels["host"] == 'odd "host"\\name\n'
    assert read["nova_gpu_errors_total"].value == 2
