# SPDX-License-Identifier: Apache-2.0

"""Candidates with other devices than Placement listed."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import substitution
from nova_gpu_filter.topology import cliques
from tests.unit.pools.matchers.test_topology import asking

GPU, NIC = "CUSTOM_GPU", "CUSTOM_NIC"
HOST = {"resources": {"VCPU": 4, "MEMORY_MB": 1024}}


def ask(*counts):
    """Make requests for so many devices each, gpu first."""
    return request.DeviceRequests(
        tuple(
            asking(count, request_id=name, alias_name=name)
            for name, count in zip(("gpu", "nic"), counts, strict=False)
        )
    )


def make(gpus, nics=(), amount=1, same_class=False):
    """Make a candidate as Placement lists them."""
    mappings = {"": ["host"], "port": ["bandwidth"]}
    allocations = {
        "host": HOST,
        "bandwidth": {"resources": {"NET_BW_EGR_KILOBIT_PER_SEC": 100}},
    }
    for name, devices in (("gpu", gpus), ("nic", nics)):
        for place, device in enumerate(devices):
            mappings[f"{name}-{place}"] = [device]
            rc = GPU if same_class or name == "gpu" else NIC
            allocations[device] = {"resources": {rc: amount}}
    return {"allocations": allocations, "mappings": mappings}


def substitute(candidates, requests, free, most_steps=1000):
    steps = cliques.Steps(most_steps)
    left = dict.fromkeys([(GPU, 1), (NIC, 1)], frozenset(free))
    return substitution.substitute(candidates, requests, left, steps)


def list_sets(candidates, requests, free):
    """List the devices that are given, and check what goes with them."""
    found = []
    for one in substitute(candidates, requests, free):
        devices = requests.collect_rp_uuids(one["mappings"])
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
        for device in requests.collect_rp_uuids(candidate["mappings"])
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


def test_what_another_group_of_the_flavor_takes_stays_its_own():
    """As resources1:CUSTOM_GPU=1 beside an alias of the same class."""
    one, other = make(["gpu0"]), make(["gpu1"])
    for candidate, device in ((one, "gpu1"), (other, "gpu0")):
        candidate["mappings"]["1"] = [device]
        candidate["allocations"][device] = {"resources": {GPU: 1}}
    [found] = substitute([one, other], ask(1), GPUS)
    assert found == one


def test_the_gpus_change_first():
    candidates = [make(["gpu0", "gpu1"], ["nic0", "nic1"])]
    candidates += [make(GPUS[2:4], NICS[1:]), make(GPUS[4:], NICS[1:])]
    requests = ask(2, 2)
    first = [
        requests.collect_rp_uuids(one["mappings"])
        for one in itertools.islice(
            substitute(candidates, requests, {*GPUS, *NICS}), 15
        )
    ]
    assert (
        len({frozenset(d for d in one if d[0] == "g") for one in first}) == 15
    )


@pytest.mark.parametrize(
    ("gpus", "nics", "free", "number"),
    [
        pytest.param(16, 0, 31, 300, id="300 million sets"),
        pytest.param(8, 8, 17, 17, id="two aliases of one class"),
        pytest.param(8, 8, 15, 0, id="two aliases, and too few devices"),
    ],
)
def test_many_devices_take_no_longer(gpus, nics, free, number):
    devices = [f"gpu{number:02}" for number in range(free)]
    size = gpus + nics
    candidates = [
        make(part[:gpus], part[gpus:], same_class=True)
        for part in (devices[start : start + size] for start in range(free))
        if len(part) == size
    ]
    if not candidates:
        devices.append("gone")
        candidates = [make(devices[:8], devices[8:], same_class=True)]
    requests = ask(gpus, nics) if nics else ask(gpus)
    found = substitute(candidates, requests, set(devices) - {"gone"}, 300)
    sets = [requests.collect_rp_uuids(one["mappings"]) for one in found]
    assert len(sets) == number
    assert all(len(one) == size for one in sets)
