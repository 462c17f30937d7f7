# SPDX-License-Identifier: Apache-2.0

"""GPUs and NICs are chosen together."""

import itertools
import operator
import random

import pytest

from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import compose
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import remaining_capacity
from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import topology as topologies
from tests import machines
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU
from tests.unit.placement.builders import NIC
from tests.unit.topology import reference

NVME = "CUSTOM_NVME"
CLASS_BY_PREFIX = {"_g": GPU, "_n": NIC, "_d": NVME}


def compose_of(question, summaries, max_sets=16, seed=0):
    """Compose for GPUs, NICs and drives; single ones are in no class."""
    first, *others = question.classes
    singles = [suffix for suffix in question.other_suffixes if suffix]
    requests = []
    for device in free_devices(summaries, first.representative):
        for single in itertools.product(
            *(free_devices(summaries, suffix) for suffix in singles)
        ):
            given = {first.representative: device} | dict(
                zip(singles, single, strict=True)
            )
            requests.append(
                builders.request(
                    {"a": {"VCPU": 1}}
                    | {
                        provider: {CLASS_BY_PREFIX[suffix[:2]]: 1}
                        for suffix, provider in given.items()
                    },
                    {"": ["a"]}
                    | {suffix: [found] for suffix, found in given.items()},
                )
            )
    inner = {
        "allocation_requests": requests,
        "provider_summaries": summaries,
    }
    answers = [
        builders.providers(
            summaries, CLASS_BY_PREFIX[other.representative[:2]]
        )
        for other in others
    ]
    found = trees.read(question, inner, None, answers)
    room = remaining_capacity.find(
        question, found, summaries, lambda *_: set(summaries)
    )
    asked = candidates_request.Request(
        question, summaries, room, max_sets, seed
    )
    return compose.compose(asked, found)


def free_devices(summaries, suffix):
    resource_class = CLASS_BY_PREFIX[suffix[:2]]
    return [
        provider
        for provider, summary in summaries.items()
        if (found := summary["resources"].get(resource_class))
        and found["used"] < found["capacity"]
    ]


def numbers(question, candidate, kinds="gn"):
    """Return the numbers of the GPUs, those of the NICs and so on."""
    providers = [d for found in candidate.sets for d in found]
    providers += [
        provider
        for suffix, (provider, *_) in candidate.base.mappings.items()
        if suffix
    ]
    return tuple(
        tuple(
            sorted(int(p[3:]) for p in providers if p.startswith(f"a-{kind}"))
        )
        for kind in kinds
    )


def host(topology, gpus, free_gpus, free_nics):
    """Make the summaries of a host.

    :param topology: of the GPUs, and after them the NICs.
    :param gpus: how many are GPUs.
    """
    found = builders.host("a", gpus, nics=topology.n - gpus)
    described = groups.decompose(topology)
    for device, described_ in enumerate(described):
        is_gpu = device < gpus
        number = device if is_gpu else device - gpus
        summary = found[f"a-{'g' if is_gpu else 'n'}{number}"]
        summary["traits"] = list(codec.format_traits(described_))
        if number not in (free_gpus if is_gpu else free_nics):
            summary["resources"][GPU if is_gpu else NIC]["used"] = 1
    return found


def with_nics(machine):
    """Give each GPU of a machine a NIC on its own PCIe switch."""
    gpus = machine()
    n = gpus.n
    matrix = [[links.SYS] * 2 * n for _ in range(2 * n)]
    ways = [[links.SYS] * 2 * n for _ in range(2 * n)]
    for a, b in itertools.product(range(2 * n), repeat=2):
        way = links.PIX if a % n == b % n else gpus.ways[a % n][b % n]
        ways[a][b] = matrix[a][b] = way
        if a < n and b < n and a != b:
            matrix[a][b] = gpus.links[a][b]
    return topologies.Topology.from_matrix(matrix, gpus.partitions, None, ways)


@pytest.mark.parametrize("machine", [machines.hgx_h100, machines.hgx_a100])
@pytest.mark.parametrize("free_nics", itertools.combinations(range(8), 2))
def test_all_linked_gpus_are_those_with_nics_wherever_they_are(
    machine, free_nics
):
    question = builders.question(2, 2)
    summaries = host(with_nics(machine), 8, range(8), free_nics)
    for seed in range(3):
        first, *_ = compose_of(question, summaries, seed=seed)
        assert numbers(question, first) == (free_nics, free_nics)


MACHINES = [
    machines.hgx_h100,
    machines.hgx_h100_partitions,
    machines.pcie_pix_node_sys,
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("max_sets", [1, 4, 16, None])
def test_gpus_are_those_with_free_nics(machine, max_sets):
    topology = with_nics(machine)
    question = builders.question(2, 2)
    for seed in range(60):
        first, *_ = compose_of(
            question, host(topology, 8, range(8), [2, 3]), max_sets, seed
        )
        assert numbers(question, first) == ((2, 3), (2, 3))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("gpus", "nics", "free_nics", "expected_gpus", "expected_nics"),
    [
        (2, 1, [5], {(4, 5)}, {(5,)}),
        (1, 2, [4, 5], {(4,), (5,)}, {(4, 5)}),
        (2, 4, [2, 3, 4, 5], {(2, 3), (4, 5)}, {(2, 3, 4, 5)}),
        (4, 2, [1, 3], {(0, 1, 2, 3)}, {(1, 3)}),
        (4, 3, [1, 4, 5, 6], {(4, 5, 6, 7)}, {(4, 5, 6)}),
    ],
)
def test_other_numbers_of_nics(
    machine, gpus, nics, free_nics, expected_gpus, expected_nics
):
    topology = with_nics(machine)
    question = builders.question(gpus, nics)
    for seed in range(20):
        candidates = compose_of(
            question, host(topology, 8, range(8), free_nics), seed=seed
        )
        # Without NVLink it is not known which are the GPUs, and the filter
        # chooses.
        few = 2 if machine is machines.pcie_pix_node_sys else 1
        best = {numbers(question, found) for found in candidates[:few]}
        assert best & set(itertools.product(expected_gpus, expected_nics))


def random_topology(rng, gpus, nics, nvlink):
    n = gpus + nics
    pcie = [links.SYS, links.NODE, links.PIX]
    matrix = [[links.SYS] * n for _ in range(n)]
    ways = [[links.SYS] * n for _ in range(n)]
    for a, b in itertools.combinations(range(n), 2):
        way = ways[a][b] = ways[b][a] = rng.choice(pcie)
        direct = nvlink and b < gpus and rng.random() < 0.6
        matrix[a][b] = matrix[b][a] = links.make_nvlink(1) if direct else way
    return topologies.Topology.from_matrix(matrix, (), None, ways)


def score(topology, gpus, mask, nics):
    """What counts before the damage."""
    cross = [row[gpus:] for row in topology.links]
    devices = topologies.list_devices(mask)
    return (
        reference.weakest(topology, mask),
        sum(reference.links_in(topology, mask)),
        reference.pairs_of(cross, devices, nics),
        min(reference.ways_in(topology, mask), default=links.SELF),
        sum(reference.ways_in(topology, mask)),
    )


@pytest.mark.parametrize("nvlink", [True, False])
@pytest.mark.parametrize("seed", range(150))
def test_best_of_a_random_host_is_offered(nvlink, seed):
    rng = random.Random(seed)
    gpus, nics = rng.randint(3, 6), rng.randint(2, 5)
    topology = random_topology(rng, gpus, nics, nvlink)
    free_gpus = rng.sample(range(gpus), rng.randint(2, gpus))
    free_nics = rng.sample(range(nics), rng.randint(2, nics))
    k = rng.randint(1, min(4, len(free_gpus)))
    wanted = rng.randint(1 if k > 1 else 2, min(4, len(free_nics)))
    question = builders.question(k, wanted)
    offered = [
        numbers(question, candidate)
        for candidate in compose_of(
            question, host(topology, gpus, free_gpus, free_nics), seed=seed
        )
    ]
    judged = [
        score(topology, gpus, topologies.make_mask(chosen), beside)
        for chosen, beside in offered
    ]
    best = max(
        score(topology, gpus, mask, beside)
        for mask in reference.sets_of(topologies.make_mask(free_gpus), k)
        for beside in itertools.combinations(free_nics, wanted)
    )
    # Without links of the GPUs' own it is not known which are the GPUs, and
    # the filter chooses.
    assert best in judged
    if nvlink and any(
        links.is_direct(topology.links[a][b])
        for a, b in itertools.combinations(range(gpus), 2)
    ):
        assert judged[0] == best


@pytest.mark.parametrize("seed", range(100))
def test_drives_and_virtual_functions_count_as_well(seed):
    rng = random.Random(seed)
    gpus, nics, drives = (rng.randint(2, 4) for _ in range(3))
    topology = random_topology(rng, gpus, nics + drives, nvlink=True)
    functions = [rng.randint(1, 3) for _ in range(nics)]
    found = {"a": builders.summary("a", {"VCPU": 64})}
    described = groups.decompose(topology)
    for kind, number, first, resource_class in (
        ("g", gpus, 0, GPU),
        ("n", nics, gpus, NIC),
        ("d", drives, gpus + nics, NVME),
    ):
        for i in range(number):
            found[f"a-{kind}{i}"] = builders.summary(
                "a",
                {resource_class: functions[i] if kind == "n" else 1},
                codec.format_traits(described[first + i]),
            )
    vfs = [nic for nic, number in enumerate(functions) for _ in range(number)]
    k = rng.randint(1, 2)
    wanted_nics, wanted_drives = rng.randint(2, 3), rng.randint(1, drives)
    wanted_nics = min(wanted_nics, len(vfs))
    question = query.parse(
        "&".join(
            [
                "resources=VCPU:1",
                *(f"resources_g{i}={GPU}:1" for i in range(k)),
                *(f"resources_n{i}={NIC}:1" for i in range(wanted_nics)),
                *(f"resources_d{i}={NVME}:1" for i in range(wanted_drives)),
                "group_policy=none",
            ]
        ),
        (1, 39),
    )

    def judge(chosen, chosen_nics, chosen_drives):
        mask = topologies.make_mask(chosen)
        *linked, near_nics, farthest, nearness = score(
            topology, gpus, mask, chosen_nics
        )
        near_drives = score(topology, gpus + nics, mask, chosen_drives)[2]
        near = tuple(map(operator.add, near_nics, near_drives))
        return *linked, near, farthest, nearness

    first, *_ = compose_of(question, found, seed=seed)
    best = max(
        judge(*chosen)
        for chosen in itertools.product(
            itertools.combinations(range(gpus), k),
            itertools.combinations(vfs, wanted_nics),
            itertools.combinations(range(drives), wanted_drives),
        )
    )
    are_linked = any(
        links.is_direct(topology.links[a][b])
        for a, b in itertools.combinations(range(gpus), 2)
    )
    assert not are_linked or judge(*numbers(question, first, "gnd")) == best
