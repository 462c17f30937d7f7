# SPDX-License-Identifier: Apache-2.0

"""Candidates with other devices than Placement listed."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import substitution

HOST = {"resources": {"VCPU": 4, "MEMORY_MB": 1024}}


def ask(*counts):
    """Make requests for so many devices each, gpu first."""
    return request.DeviceRequests(
        tuple(
            request.DeviceRequest(
                request_id=name,
                alias_name=name,
                count=count,
                specs=(),
                numa_policy="legacy",
                rp_uuids=(),
                wants_pf=False,
                wants_vdpa=False,
                wants_remote_managed=False,
                live_migratable=None,
            )
            for name, count in zip(("gpu", "nic"), counts, strict=False)
        )
    )


def make(gpus, nics=(), amount=1):
    """Make a candidate as Placement lists them."""
    mappings = {"": ["host"], "port": ["bandwidth"]}
    allocations = {
        "host": HOST,
        "bandwidth": {"resources": {"NET_BW_EGR_KILOBIT_PER_SEC": 100}},
    }
    for name, devices in (("gpu", gpus), ("nic", nics)):
        for place, device in enumerate(devices):
            mappings[f"{name}-{place}"] = [device]
            allocations[device] = {
                "resources": {f"CUSTOM_{name.upper()}": amount}
            }
    return {"allocations": allocations, "mappings": mappings}


def list_sets(candidates, requests, free):
    """List the devices that are given, and check what goes with them."""
    found = []
    for one in substitution.substitute(candidates, requests, frozenset(free)):
        devices = requests.rp_uuids_in(one["mappings"])
        gpus = [d for d in sorted(devices) if d.startswith("gpu")]
        nics = [d for d in sorted(devices) if d.startswith("nic")]
        expected = make(gpus, nics)
        assert one["allocations"] == expected["allocations"]
        assert one["mappings"].keys() == expected["mappings"].keys()
        assert one["mappings"][""] == ["host"]
        assert one["mappings"]["port"] == ["bandwidth"]
        found.append((tuple(gpus), tuple(nics)))
    return found


GPUS = [f"gpu{number}" for number in range(6)]
NICS = ["nic0", "nic1", "nic2"]


@given(
    data=st.data(),
    gpus=st.integers(1, 4),
    nics=st.integers(0, 2),
    free=st.sets(st.sampled_from(GPUS + NICS)),
)
def test_any_listed_devices_that_are_free_serve_together(
    data, gpus, nics, free
):
    candidates = data.draw(
        st.lists(
            st.builds(
                make,
                st.sampled_from(list(itertools.combinations(GPUS, gpus))),
                st.sampled_from(list(itertools.combinations(NICS, nics))),
            ),
            min_size=1,
            max_size=4,
        )
    )
    requests = ask(gpus, nics) if nics else ask(gpus)
    listed = {
        device
        for candidate in candidates
        for device in requests.rp_uuids_in(candidate["mappings"])
    }
    can_be_had = sorted(listed & free)
    found = list_sets(candidates, requests, free)
    assert sorted(found) == [
        (some, others)
        for some in itertools.combinations(
            [d for d in can_be_had if d.startswith("gpu")], gpus
        )
        for others in itertools.combinations(
            [d for d in can_be_had if d.startswith("nic")], nics
        )
    ]


@pytest.mark.parametrize(
    "candidate",
    [
        pytest.param(make(["gpu0"], amount=2), id="two of one provider"),
        pytest.param(
            make(["gpu0", "gpu0"]), id="two groups with one provider"
        ),
    ],
)
def test_what_cannot_be_told_apart_is_left_as_it_is(candidate):
    count = len([s for s in candidate["mappings"] if s.startswith("gpu")])
    assert list_sets([candidate], ask(count), GPUS) == []


def test_a_device_of_another_class_is_no_substitute():
    other = make(["gpu1"])
    other["allocations"]["gpu1"] = {"resources": {"CUSTOM_OTHER": 1}}
    assert list_sets([make(["gpu0"]), other], ask(1), GPUS) == [
        (("gpu0",), ())
    ]
