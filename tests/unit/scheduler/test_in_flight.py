# SPDX-License-Identifier: Apache-2.0

from concurrent import futures

import pytest

from nova_gpu_filter.scheduler import in_flight


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(clock):
    return in_flight.InFlight(seconds=5, clock=clock)


FIRST = in_flight.FIRST
FREE = {"gpu0", "gpu1", "gpu2", "gpu3"}


def offer(memory, instance, *devices, host="host"):
    memory.remember(instance, {host: frozenset(devices)})


def test_what_one_instance_was_offered_is_taken_for_others(memory):
    offer(memory, "a", "gpu0", "gpu1")
    assert memory.taken("b", "host", FREE) == {"gpu0": FIRST, "gpu1": FIRST}
    assert memory.taken("a", "host", FREE) == {}
    assert memory.taken("b", "another", FREE) == {}


def test_offers_of_several_instances_add_up(memory):
    offer(memory, "a", "gpu0")
    offer(memory, "b", "gpu2")
    assert memory.taken("c", "host", FREE) == {"gpu0": FIRST, "gpu2": FIRST}
    assert memory.taken("b", "host", FREE) == {"gpu0": FIRST}


def test_it_counts_how_many_instances_were_offered_a_device(memory):
    offer(memory, "a", "gpu0", "gpu1")
    offer(memory, "b", "gpu1")
    assert memory.taken("c", "host", FREE) == {
        "gpu0": FIRST,
        "gpu1": 2 * FIRST,
    }


def test_a_new_offer_replaces_the_old_one(memory):
    offer(memory, "a", "gpu0")
    offer(memory, "a", "gpu1", host="another")
    assert memory.taken("b", "host", FREE) == {}
    assert memory.taken("b", "another", FREE) == {"gpu1": FIRST}


def test_an_instance_that_has_claimed_on_one_host_is_forgotten_on_others(
    memory,
):
    memory.remember(
        "a", {"one": frozenset({"gpu0"}), "two": frozenset({"gpu9"})}
    )
    memory.taken("b", "one", FREE - {"gpu0"})
    assert memory.taken("b", "two", {"gpu9"}) == {}


def test_what_was_claimed_stays_taken_for_those_who_read_the_host_before(
    memory,
):
    offer(memory, "a", "gpu0")
    memory.taken("b", "host", FREE - {"gpu0"})
    assert memory.taken("c", "host", FREE) == {"gpu0": FIRST}


ONE, TWO = frozenset({"gpu0"}), frozenset({"gpu9"})


def test_the_host_that_is_tried_first_counts_more(memory):
    memory.remember("a", {"one": ONE, "two": TWO})
    assert memory.taken("b", "one", ONE) == {"gpu0": FIRST}
    assert memory.taken("b", "two", TWO) == {"gpu9": FIRST}
    choice = memory.choose("a", {"two": [TWO], "one": [ONE]})
    assert (choice.places, choice.contested) == ({}, frozenset())
    assert memory.taken("b", "one", ONE) == {"gpu0": 1}
    assert memory.taken("b", "two", TWO) == {"gpu9": FIRST}


def test_a_host_that_somebody_else_tries_first_is_contested(memory):
    for instance in "abc":
        memory.remember(instance, {"one": ONE, "two": TWO})
    contested = [
        memory.choose("a", {"one": [ONE], "two": [TWO]}).contested,
        memory.choose("b", {"one": [ONE], "two": [TWO]}).contested,
        # Nothing is left for the third, who takes what is best then.
        memory.choose("c", {"two": [TWO], "one": [ONE]}).contested,
    ]
    assert contested == [frozenset(), {"one"}, {"one", "two"}]
    assert memory.taken("x", "one", ONE) == {"gpu0": FIRST + 2}
    assert memory.taken("x", "two", TWO) == {"gpu9": 2 * FIRST + 1}


def test_another_candidate_of_a_host_is_chosen_before_another_host(memory):
    other = frozenset({"gpu1"})
    for instance in "ab":
        memory.remember(instance, {"one": ONE, "two": TWO})
    memory.choose("a", {"one": [ONE, other], "two": [TWO]})
    choice = memory.choose("b", {"one": [ONE, other], "two": [TWO]})
    assert (choice.places, choice.contested) == ({"one": 1}, frozenset())
    assert memory.taken("x", "one", FREE) == {"gpu0": FIRST, "gpu1": FIRST}


def test_candidates_are_read_only_where_it_matters(memory):
    def unread():
        raise AssertionError
        yield

    memory.remember("a", {"one": ONE})
    memory.remember("b", {"one": frozenset({"gpu1"}), "two": TWO})
    choice = memory.choose("b", {"one": unread(), "two": unread()})
    assert (choice.places, choice.contested) == ({}, frozenset())


def test_the_host_where_an_instance_went_is_the_one_it_tried_first(memory):
    memory.remember("a", {"one": ONE, "two": TWO})
    memory.choose("a", {"one": [ONE], "two": [TWO]})
    assert memory.taken("b", "two", FREE) == {}
    memory.remember("b", {"one": ONE, "two": TWO})
    choice = memory.choose("b", {"two": [TWO], "one": [ONE]})
    assert choice.contested == {"two"}


@pytest.mark.parametrize(
    ("hosts", "contested"),
    [
        ({"shared": [ONE], "one": [ONE]}, set()),
        ({"one": [ONE], "shared": [ONE]}, {"one"}),
    ],
)
def test_a_host_may_pass_without_an_offer(memory, hosts, contested):
    """As one whose devices are the VFs of one provider, enough for all."""
    for instance in "ab":
        memory.remember(instance, {"one": ONE, "two": TWO})
    memory.choose("a", hosts)
    assert memory.choose("b", hosts).contested == contested


@pytest.mark.parametrize("hosts", [{}, {"one": [ONE]}])
def test_nothing_is_chosen_for_an_instance_without_offer(memory, hosts):
    assert memory.choose("nobody", hosts) == in_flight.Choice()


def test_threads_that_weigh_at_once_choose_different_devices(memory):
    """As many as there are candidates on two hosts, all offered the same."""
    instances = [f"i{number}" for number in range(16)]
    hosts = {
        host: [frozenset({f"{host}-gpu{n}"}) for n in range(8)]
        for host in ("one", "two")
    }
    for instance in instances:
        memory.remember(instance, {h: sets[0] for h, sets in hosts.items()})

    def choose(instance):
        choice = memory.choose(instance, hosts)
        host = next(h for h in hosts if h not in choice.contested)
        return hosts[host][choice.places.get(host, 0)]

    with futures.ThreadPoolExecutor(8) as executor:
        assert len(set(executor.map(choose, instances))) == 16


def test_the_memory_that_holds_an_offer_is_found(memory, clock):
    another = in_flight.InFlight(seconds=5, clock=clock)
    offer(another, "found", "gpu0")
    assert in_flight.holding("found") is another
    assert in_flight.holding("not-there") is None
    assert in_flight.holding(None) is None


def test_offers_are_forgotten_in_time(memory, clock):
    offer(memory, "a", "gpu0")
    clock.now += 3
    offer(memory, "b", "gpu1")
    clock.now += 3
    assert memory.taken("c", "host", FREE) == {"gpu1": FIRST}
    clock.now += 3
    assert memory.taken("c", "host", FREE) == {}


def test_no_time_remembers_nothing(clock):
    memory = in_flight.InFlight(seconds=0, clock=clock)
    offer(memory, "a", "gpu0")
    assert memory.taken("b", "host", FREE) == {}


def test_threads_do_not_lose_offers(memory):
    def run(number):
        host = f"host{number % 4}"
        offer(memory, f"i{number}", f"gpu{number}", host=host)
        return memory.taken("nobody", host, {f"gpu{n}" for n in range(400)})

    with futures.ThreadPoolExecutor(8) as executor:
        seen = list(executor.map(run, range(400)))
    assert all(f"gpu{number}" in seen[number] for number in range(400))
    everything = [
        memory.taken("nobody", f"host{n}", {f"gpu{n}" for n in range(400)})
        for n in range(4)
    ]
    assert sum(map(len, everything)) == 400
