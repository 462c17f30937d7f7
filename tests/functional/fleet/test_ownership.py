# SPDX-License-Identifier: Apache-2.0

"""Who has devices, read from a real Placement and remembered."""

import collections
import random
import threading
import uuid

import pytest

from nova_gpu_filter.fleet import api as services
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import provider_trees as reader
from tests.functional.fleet import adapters
from tests.functional.placement import service

GPU = "CUSTOM_H100"
HOSTS = ("a", "b", "c")
GPUS = range(8)
VFS = 8
"""Of the last device of each host."""


def provider(host, number):
    """Name the provider of a device."""
    return f"{host}_0000:{number + 1:02X}:00.0"


class Cloud:
    """Three hosts with seven GPUs and a PF with VFs each."""

    def __init__(self, placement):
        self.placement = placement
        self.adapter = adapters.PlacementAdapter(placement)
        self.get = services.make_getter(
            self.adapter, "Placement", services.PLACEMENT_MICROVERSION
        )
        placement.replace_providers(
            service.Provider(
                name if number is None else provider(name, number),
                None if number is None else name,
                {"MEMORY_MB": service.Inventory(1024)}
                if number is None
                else {GPU: service.Inventory(VFS if number == 7 else 1)},
            )
            for name in HOSTS
            for number in (None, *GPUS)
        )

    def hosts(self):
        """Read the hosts, and count questions from here on."""
        found = reader.read_hosts(self.get)
        self.adapter.asked.clear()
        return found

    @property
    def asked(self):
        """Count the questions."""
        return len(self.adapter.asked)

    def claim(self, project, *places, consumer=None):
        """Give (host, number, amount) to a new consumer, or another."""
        consumer = consumer or str(uuid.uuid4())
        self.write(
            f"/allocations/{consumer}",
            "PUT",
            {**self.body(project, places), "consumer_generation": None},
        )
        return consumer

    @staticmethod
    def body(project, places):
        """Write allocations."""
        allocations = {
            service.provider_uuid(host): {"resources": {"MEMORY_MB": 1}}
            for host, _, _ in places
        }
        for host, number, amount in places:
            allocations[service.provider_uuid(provider(host, number))] = {
                "resources": {GPU: amount}
            }
        return {
            "allocations": allocations,
            "project_id": project,
            "user_id": "user",
            "consumer_type": "INSTANCE",
        }

    def move(self, old, project, *places):
        """Give what a consumer has to a new one at once, as Nova does for a
        migration."""
        new = str(uuid.uuid4())
        self.write(
            "/allocations",
            "POST",
            {
                old: {
                    **self.body(project, ()),
                    "consumer_generation": 1,
                },
                new: {
                    **self.body(project, places),
                    "consumer_generation": None,
                },
            },
        )
        return new

    def free(self, consumer):
        """Take everything from a consumer."""
        self.placement.free(consumer)

    def write(self, path, method, body):
        """Ask Placement for something that it cannot refuse."""
        answer = self.placement.stock(path, method=method, body=body)
        assert answer.status == 204, answer.body


@pytest.fixture
def cloud(placement):
    return Cloud(placement)


def told(hosts, owners):
    """Write owners as {(host, number of the device): {(who, project, how
    much)}}."""
    return {
        (host.name, number): {
            (o.consumer, o.project, o.amount) for o in owners[device.uuid]
        }
        for host in hosts
        for number, device in enumerate(host.devices)
        if device.uuid in owners
    }


def test_owners_are_read_with_a_few_questions(cloud):
    big = cloud.claim("one", *(("a", n, 1) for n in range(6)))
    small = cloud.claim("two", ("a", 7, 2))
    cloud.claim("three")
    hosts = cloud.hosts()
    assert told(hosts, ownership.read(cloud.get, hosts)) == {
        **{("a", n): {(big, "one", 1)} for n in range(6)},
        ("a", 7): {(small, "two", 2)},
    }
    assert cloud.asked == 4


def test_a_server_that_is_known_costs_one_question(cloud):
    servers = [
        cloud.claim("one", ("a", 0, 1), ("a", 1, 1)),
        cloud.claim("one", ("b", 7, 1)),
        cloud.claim("two", ("b", 7, 3)),
    ]
    unknown = cloud.claim("two", ("c", 0, 1))
    hosts = cloud.hosts()
    found = told(hosts, ownership.read(cloud.get, hosts, servers))
    assert found == told(hosts, ownership.read(cloud.get, hosts))
    assert found["c", 0] == {(unknown, "two", 1)}
    hosts = cloud.hosts()
    ownership.read(cloud.get, hosts, servers)
    assert cloud.asked == len(servers) + 2


def test_servers_that_should_have_devices_are_chosen():
    def server(name, host, **extra_specs):
        flavor = model.Flavor("f", 1, 1, 1, extra_specs)
        return model.Server(name, name, "p", "ACTIVE", host, flavor)

    alias = {"pci_passthrough:alias": "h100:1"}
    host = model.Host("uuid", "a", frozenset(), {}, ())
    assert list(
        ownership.choose_likely(
            [
                server("with", "a", **alias),
                server("without", "a"),
                server("elsewhere", "b", **alias),
                server("nowhere", None, **alias),
            ],
            [host],
        )
    ) == ["with"]


def test_what_has_not_changed_is_not_asked_again(cloud):
    cloud.claim("one", ("a", 0, 1), ("a", 1, 1))
    gone = cloud.claim("one", ("a", 2, 1))
    book = ownership.OwnerReader(cloud.get)
    before = told(hosts := cloud.hosts(), book.read(hosts))
    assert book.read(cloud.hosts())
    assert cloud.asked == 0
    # One that goes is not asked about, one that comes is.
    cloud.free(gone)
    hosts = cloud.hosts()
    del before["a", 2]
    assert told(hosts, book.read(hosts)) == before
    assert cloud.asked == 0
    cloud.claim("two", ("a", 2, 1))
    hosts = cloud.hosts()
    assert book.read(hosts).keys() > {hosts[0].devices[2].uuid}
    assert cloud.asked == 2


def test_another_owner_of_a_used_device_is_noticed(cloud):
    first = cloud.claim("one", ("a", 0, 1))
    moved = cloud.claim("one", ("a", 1, 1))
    book = ownership.OwnerReader(cloud.get)
    book.read(cloud.hosts())
    cloud.free(first)
    second = cloud.claim("two", ("a", 0, 1))
    migration = cloud.move(moved, "one", ("a", 1, 1))
    hosts = cloud.hosts()
    assert told(hosts, book.read(hosts)) == {
        ("a", 0): {(second, "two", 1)},
        ("a", 1): {(migration, "one", 1)},
    }


def test_of_a_device_with_vfs_only_new_owners_are_asked(cloud):
    for project in ("one", "two"):
        cloud.claim(project, ("a", 7, 2))
    book = ownership.OwnerReader(cloud.get)
    book.read(cloud.hosts())
    cloud.claim("three", ("a", 7, 1))
    hosts = cloud.hosts()
    [owners] = told(hosts, book.read(hosts)).values()
    assert {(project, amount) for _, project, amount in owners} == {
        ("one", 2),
        ("two", 2),
        ("three", 1),
    }
    assert cloud.asked == 2


def test_an_owner_that_has_more_by_now_is_asked_again(cloud):
    consumer = cloud.claim("one", ("a", 7, 2))
    book = ownership.OwnerReader(cloud.get)
    book.read(cloud.hosts())
    cloud.write(
        f"/allocations/{consumer}",
        "PUT",
        {**cloud.body("one", [("a", 7, 3)]), "consumer_generation": 1},
    )
    hosts = cloud.hosts()
    assert told(hosts, book.read(hosts)) == {("a", 7): {(consumer, "one", 3)}}


def test_what_changes_between_two_answers_is_asked_about_next_time(cloud):
    first = cloud.claim("one", ("a", 7, 1))
    second = cloud.claim("two", ("a", 7, 1))
    third = str(uuid.uuid4())
    has_changed = threading.Event()

    def get(path):
        if path.endswith(second):
            assert has_changed.wait(60)
        answer = cloud.get(path)
        if path.endswith(first) and not has_changed.is_set():
            cloud.free(first)
            cloud.claim("three", ("a", 7, 1), consumer=third)
            has_changed.set()
        return answer

    book = ownership.OwnerReader(get)
    book.read(cloud.hosts(), consumers=[first, second])
    hosts = cloud.hosts()
    assert told(hosts, book.read(hosts)) == {
        ("a", 7): {(second, "two", 1), (third, "three", 1)}
    }


def test_only_so_much_is_asked_at_once_and_the_rest_another_time(cloud):
    for host in HOSTS:
        for number in range(4):
            cloud.claim("one", (host, number, 1))
    book = ownership.OwnerReader(cloud.get)
    known = []
    for number in (4, 5, 6):
        hosts = cloud.hosts()
        known.append({place[0] for place in told(hosts, book.read(hosts, 9))})
        assert cloud.asked == 8
        # What changes on the first host does not keep the others waiting.
        cloud.claim("two", ("a", number, 1))
    assert known == [{"a"}, {"a", "b"}, {"a", "b", "c"}]
    hosts = cloud.hosts()
    assert len(book.read(hosts, 9)) == 15
    assert cloud.asked == 6


def test_hosts_with_few_servers_take_few_of_the_questions(cloud):
    for host in HOSTS:
        cloud.claim("one", *((host, number, 1) for number in range(7)))
    hosts = cloud.hosts()
    # 14 for 7 servers, which it might have been.
    assert len(ownership.OwnerReader(cloud.get).read(hosts, 18)) == 21
    assert cloud.asked == 6
    hosts = cloud.hosts()
    assert len(ownership.OwnerReader(cloud.get).read(hosts, 17)) == 14


def test_a_host_that_takes_more_questions_is_asked_about_alone(cloud):
    for host in HOSTS:
        for number in range(4):
            cloud.claim("one", (host, number, 1))
    hosts = cloud.hosts()
    assert len(ownership.OwnerReader(cloud.get).read(hosts, 1)) == 4
    assert cloud.asked == 8


def test_what_may_be_another_by_now_is_left_out(cloud):
    first = cloud.claim("one", ("a", 0, 1))
    cloud.claim("one", ("b", 0, 1))
    book = ownership.OwnerReader(cloud.get)
    book.read(cloud.hosts())
    cloud.free(first)
    cloud.claim("two", ("a", 0, 1))
    cloud.claim("two", ("b", 1, 1))
    hosts = cloud.hosts()
    assert set(told(hosts, book.read(hosts, 1))) == {("a", 0), ("b", 0)}
    hosts = cloud.hosts()
    assert len(book.read(hosts, 1)) == 3


def test_a_consumer_that_is_not_known_has_nothing(cloud):
    assert ownership.read_consumer(cloud.get, str(uuid.uuid4())) == {}


@pytest.mark.parametrize("seed", range(3))
def test_a_book_is_right_whatever_has_happened(cloud, seed):
    chance = random.Random(seed)
    book = ownership.OwnerReader(cloud.get)
    held = {}

    def free_places():
        used = collections.Counter(
            {
                place[:2]: sum(
                    p[2]
                    for places, _ in held.values()
                    for p in places
                    if p[:2] == place[:2]
                )
                for places, _ in held.values()
                for place in places
            }
        )
        return [
            (host, number, 1)
            for host in HOSTS
            for number in GPUS
            if used[host, number] < (VFS if number == 7 else 1)
        ]

    for _ in range(12):
        for _ in range(chance.randint(0, 4)):
            what = chance.choice(("claim", "claim", "free", "move"))
            project = chance.choice(("one", "two"))
            if what == "claim":
                there = free_places()
                places = chance.sample(there, min(3, len(there)))
                if places:
                    held[cloud.claim(project, *places)] = (places, project)
            elif held:
                consumer = chance.choice(sorted(held))
                places, owner = held.pop(consumer)
                if what == "free":
                    cloud.free(consumer)
                else:
                    held[cloud.move(consumer, owner, *places)] = (
                        places,
                        owner,
                    )
        hosts = cloud.hosts()
        found = told(hosts, book.read(hosts, chance.choice((None, 3))))
        true = collections.defaultdict(set)
        for consumer, (places, project) in held.items():
            for host, number, amount in places:
                true[host, number].add((consumer, project, amount))
        assert found.items() <= true.items()
    hosts = cloud.hosts()
    assert told(hosts, book.read(hosts)) == true
