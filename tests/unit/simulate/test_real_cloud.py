# SPDX-License-Identifier: Apache-2.0

"""Hosts as Placement tells them; its answers in the form of its API."""

import pytest

from nova_gpu_filter.fleet import errors as fleet_errors
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import real_cloud

NVLINK = ["CUSTOM_GPU_LINK_NV12_0"]


class _Placement:
    """Two hosts with two H100 each, the second one full; and one VF host."""

    def __init__(self):
        self.traits = dict.fromkeys(
            ("a_0000:1b:00.0", "a_0000:9b:00.0", "b_0000:1b:00.0"), NVLINK
        )
        self.capacity = {"c_0000:01:00.0": 4}
        self.used = {"a_0000:9b:00.0", "b_0000:1b:00.0", "b_10000:01:00.0"}
        self.reserved = set()
        self.devices = [
            "a_0000:9b:00.0",
            "a_0000:1b:00.0",
            "b_10000:01:00.0",
            "b_0000:1b:00.0",
            "c_0000:01:00.0",
        ]
        self.asked = []

    def get(self, path):
        self.asked.append(path)
        if path == "/resource_providers":
            return {
                "resource_providers": [
                    {
                        "uuid": name,
                        "name": name,
                        "generation": 1,
                        "root_provider_uuid": name[0],
                    }
                    for name in ["a", "b", "c", *self.devices]
                ]
            }
        if path.startswith("/allocation_candidates"):
            # Nothing is free on b, whatever is asked for.
            return {
                "provider_summaries": {
                    name: self._summary(name)
                    for name in ["a", "c", *self.devices]
                    if name[0] != "b"
                }
            }
        _, _, name, what = path.split("/")
        if name == "b":
            return {what: {} if what != "traits" else []}
        return {
            "inventories": {
                "inventories": {"CUSTOM_H100": {"total": 1, "reserved": 0}}
            },
            "usages": {"usages": {"CUSTOM_H100": int(name in self.used)}},
            "traits": {"traits": self.traits.get(name, [])},
        }[what]

    def _summary(self, name):
        if len(name) == 1:
            return {"resources": {}, "traits": []}
        capacity = self.capacity.get(name, 1)
        return {
            "resources": {
                "CUSTOM_H100": {
                    "capacity": 0 if name in self.reserved else capacity,
                    "used": int(name in self.used),
                }
            },
            "traits": self.traits.get(name, []),
        }


@pytest.fixture
def api():
    return _Placement()


def test_hosts_have_their_links_and_what_is_used(api):
    specs = real_cloud.read(api.get, ["CUSTOM_H100"])
    assert [
        (spec.name, spec.kind.model, spec.kind.links, spec.used)
        for spec in specs
    ] == [
        ("a", "CUSTOM_H100", ("nv12:0", "nv12:0"), 0b10),
        # The longer PCI domain is the greater one.
        ("b", "CUSTOM_H100", ("nv12:0", None), 0b11),
    ]


def test_full_hosts_are_asked_one_by_one(api):
    real_cloud.read(api.get, ["CUSTOM_H100"])
    single = {path.split("/")[2] for path in api.asked if path.count("/") > 1}
    assert single == {"b", "b_0000:1b:00.0", "b_10000:01:00.0"}


def test_a_reserved_device_is_no_gpu_that_could_be_had(api):
    api.reserved.add("a_0000:1b:00.0")
    specs = real_cloud.read(api.get, ["CUSTOM_H100"])
    assert (specs[0].name, specs[0].kind.gpus, specs[0].used) == ("a", 1, 1)


def test_traits_that_cannot_be_read_are_named_with_their_host(api):
    api.traits["a_0000:1b:00.0"] = ["CUSTOM_GPU_LINK_WARP_1"]
    with pytest.raises(errors.BadScenario, match="Placement, host a: a_0000:"):
        real_cloud.read(api.get, ["CUSTOM_H100"])


def test_a_resource_class_that_no_host_has_is_named(api):
    with pytest.raises(errors.BadScenario, match="no host has CUSTOM_B200"):
        real_cloud.read(api.get, ["CUSTOM_B200"])


def test_a_cloud_without_devices_is_told(api):
    api.devices.clear()
    with pytest.raises(fleet_errors.NoDevices, match="has no PCI devices"):
        real_cloud.read(api.get, ["CUSTOM_H100"])
