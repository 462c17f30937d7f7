# SPDX-License-Identifier: Apache-2.0

"""Pools of remote GPUs, on a real Placement and our extension."""

import json

import pytest

from tests.functional.osc import worlds
from tests.functional.placement import service


@pytest.fixture
def placement():
    with service.Placement() as found:
        yield found


@pytest.fixture
def cloud(placement):
    return worlds.build(placement)


def run(cloud, *words):
    result = cloud.run("gpu", "pool", *words)
    assert (result.code, result.err) == (0, ""), result.err
    return result.out


def show(cloud, name="remote"):
    return json.loads(run(cloud, "show", name, "-f", "json"))


def fail(cloud, *words):
    result = cloud.run("gpu", "pool", *words)
    assert result.code != 0
    return result.err


def hosts_of(answer):
    """The trees of which candidates are, beside the pool."""
    assert answer.status == 200, answer.body
    return {
        frozenset(one["allocations"])
        for one in answer.json["allocation_requests"]
    }


@pytest.fixture
def pool(cloud):
    run(cloud, "create", "remote", "--gpus", "2")
    run(cloud, "add", "host", "remote", "hgx-1", "pix-1")
    return show(cloud)


def test_a_pool_is_shown_with_its_hosts(pool):
    assert pool | {"provider": ""} == {
        "name": "remote",
        "provider": "",
        "resource_class": "CUSTOM_REMOTE_GPU",
        "gpus": 2,
        "used": 0,
        "free": 2,
        "hosts": ["hgx-1", "pix-1"],
        "servers": {},
    }


def test_servers_of_its_hosts_are_counted_until_it_is_empty(
    cloud, placement, pool
):
    query = "resources=VCPU:1,CUSTOM_REMOTE_GPU:1"
    for number in range(2):
        answer = placement.candidates(query)
        names = {
            placement.stock(f"/resource_providers/{uuid}").json["name"]
            for one in hosts_of(answer)
            for uuid in one
        }
        assert names == {"hgx-1", "pix-1", "remote"}
        candidate = answer.json["allocation_requests"][0]
        server = placement.allocate(candidate)
        found = show(cloud)
        assert (found["used"], found["free"]) == (number + 1, 1 - number)
        assert found["servers"][server] == 1
    assert hosts_of(placement.candidates(query)) == set()
    error = fail(cloud, "delete", "remote")
    assert "is used by servers" in error
    for server in found["servers"]:
        assert server in error
        placement.free(server)
    assert len(hosts_of(placement.candidates(query))) == 2


def test_the_extension_answers_as_placement_does(placement, pool):
    """Two equal groups: what it composes, and what it leaves alone."""
    query = (
        "resources=VCPU:1&resources1=CUSTOM_REMOTE_GPU:1"
        "&resources2=CUSTOM_REMOTE_GPU:1&group_policy=none&limit=1000"
    )
    stock = placement.stock(f"/allocation_candidates?{query}")
    ours = placement.ours(f"/allocation_candidates?{query}")
    assert len(hosts_of(stock)) == 2
    assert hosts_of(ours) == hosts_of(stock)
    for one in ours.json["allocation_requests"]:
        assert one["allocations"] in [
            other["allocations"] for other in stock.json["allocation_requests"]
        ]


def test_a_host_can_be_taken_out(cloud, placement, pool):
    for _ in range(2):
        run(cloud, "remove", "host", "remote", "hgx-1")
        assert show(cloud)["hosts"] == ["pix-1"]
    answer = placement.candidates("resources=VCPU:1,CUSTOM_REMOTE_GPU:1")
    assert len(hosts_of(answer)) == 1


def test_to_say_it_twice_changes_nothing_but_the_size(cloud, pool):
    run(cloud, "add", "host", "remote", "hgx-1")
    assert show(cloud) == pool
    run(cloud, "create", "remote", "--gpus", "5")
    assert show(cloud) == pool | {"gpus": 5, "free": 5}


def test_nothing_is_left_of_a_pool(cloud, placement, pool):
    run(cloud, "delete", "remote")
    assert "no pool of remote GPUs 'remote'" in fail(cloud, "show", "remote")
    found = placement.stock(
        f"/resource_providers?member_of={pool['provider']}"
    )
    assert found.json["resource_providers"] == []
    run(cloud, "create", "remote", "--gpus", "1")
    assert show(cloud)["hosts"] == []


def test_pools_have_classes_of_their_own(cloud, placement, pool):
    run(
        cloud,
        *("create", "h100s", "--gpus", "1"),
        *("--resource-class", "remote_h100"),
    )
    run(cloud, "add", "host", "h100s", "hgx-2")
    answer = placement.candidates("resources=VCPU:1,CUSTOM_REMOTE_H100:1")
    assert len(hosts_of(answer)) == 1
    assert "did you mean" in fail(cloud, "show", "h100")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("add", "host", "remote", "hgx-9"), "no compute node in Placement"),
        (("add", "host", "other", "hgx-1"), "no pool of remote GPUs 'other'"),
        (("create", "hgx-1", "--gpus", "1"), "hgx-1"),
        (("delete", "hgx-1"), "no pool of remote GPUs 'hgx-1'"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(cloud, pool, words, error):
    assert error in fail(cloud, *words)
    assert show(cloud) == pool


@pytest.mark.parametrize("verb", ["add", "remove"])
@pytest.mark.parametrize("name", ["remote", "near"])
def test_a_pool_is_no_host(cloud, placement, pool, verb, name):
    run(cloud, "create", "near", "--gpus", "9")
    before = [show(cloud), show(cloud, "near")]
    error = fail(cloud, verb, "host", "remote", name)
    assert f"no compute node in Placement '{name}'" in error
    # It is not offered as one, either.
    assert error.endswith("hgx-1, hgx-2, pix-1, plain-1\n")
    assert [show(cloud), show(cloud, "near")] == before
    query = "resources=VCPU:1,CUSTOM_REMOTE_GPU:1"
    found = hosts_of(placement.candidates(query))
    assert len(found) == 2
    assert all(pool["provider"] in one for one in found)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--gpus", "0"), "no number of GPUs"),
        (("--gpus", "x"), "no number of GPUs"),
        ((), "--gpus"),
        (("--gpus", "1", "--resource-class", "VGPU"), "a class of Nova's own"),
        (("--gpus", "1", "--resource-class", "."), "resource"),
    ],
)
def test_bad_options_are_told(cloud, capsys, options, error):
    assert cloud.run("gpu", "pool", "create", "new", *options).code == 2
    assert error in capsys.readouterr().err
    assert "no pool of remote GPUs" in fail(cloud, "show", "new")
