# SPDX-License-Identifier: Apache-2.0

"""Several vGPUs in one server: providers of VGPU with many of them each.

What a flavor with ``resources1:VGPU=1`` and ``resources2:VGPU=1`` asks, held
against stock Placement, which enumerates every product.
"""

import itertools
import random

from demo import threads  # noqa: F401

# isort: split

import hypothesis
from hypothesis import strategies as st
import pytest

from tests.functional.placement import service
from tests.functional.placement import worlds

CUSTOM = "CUSTOM_VGPU_A40_8Q"
TRAIT = "CUSTOM_NVIDIA_12"

_SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def placement(placement):
    """A Placement that knows the trait and the class of an operator."""
    for trait in (TRAIT, *(f"CUSTOM_GPU_LINK_NODE_{n}" for n in range(2))):
        placement.create_trait(trait)
    placement.stock(f"/resource_classes/{CUSTOM}", method="PUT")
    return placement


def host(name, gpus):
    """A host as nova-compute reports it: a provider for each GPU.

    :param gpus: the inventory of each, and its resource class.
    """
    yield service.Provider(name, inventories={"VCPU": service.Inventory(64)})
    for number, (inventory, rc, traits) in enumerate(gpus):
        yield service.Provider(
            f"{name}_pci_0000_{number:02x}_00_0",
            name,
            {rc: inventory},
            traits,
        )


def draw(seed):
    """Draw hosts with divided GPUs, and a flavor with two to four vGPUs."""
    rng = random.Random(seed)
    found = []
    for number in range(rng.choice((1, 2, 2))):
        gpus = []
        for _ in range(rng.randint(2, 4)):
            total = rng.choice((1, 2, 4, 8))
            used = rng.choice((0, 0, rng.randint(0, total)))
            gpus.append(
                (
                    # Nova has max_unit = total, older ones had 1.
                    service.Inventory(
                        total,
                        used=used,
                        max_unit=rng.choice((None, None, 1)),
                    ),
                    rng.choice(("VGPU", "VGPU", "VGPU", CUSTOM)),
                    rng.choice(((), (TRAIT,))),
                )
            )
        found += host(f"host{number}", gpus)
    size = rng.choice((2, 2, 3, 4))
    rc = rng.choice(("VGPU", "VGPU", CUSTOM))
    suffixes = tuple(str(n + 1) for n in range(size))
    pairs = [("resources", "VCPU:1")]
    pairs += [(f"resources{suffix}", f"{rc}:1") for suffix in suffixes]
    classes = [suffixes]
    if rng.random() < 0.3:
        pairs += [(f"required{suffix}", TRAIT) for suffix in suffixes[1:]]
        classes = [suffixes[:1], suffixes[1:]]
    pairs.append(("group_policy", rng.choice(("none", "none", "isolate"))))
    return found, worlds.Query(tuple(pairs), tuple(classes))


@_SETTINGS
@hypothesis.given(
    case=st.integers(0, (1 << 64) - 1).map(draw),
    max_sets=st.sampled_from((-1, 2, 16)),
)
def test_vgpus_are_composed_as_stock_has_them(placement, case, max_sets):
    providers, query = case
    placement.replace_providers(providers)
    placement.set_option("max_sets_per_tree", max_sets, "gpu_filter")
    path = f"/allocation_candidates?{query.text()}"
    stock, ours = placement.stock(path), placement.ours(path)
    assert (stock.status, ours.status) == (200, 200)
    # Two classes of one group each are no product of equal groups.
    hypothesis.assume(any(len(found) > 1 for found in query.classes))
    assert ours.is_composed
    stock, ours = stock.json, ours.json
    assert ours["provider_summaries"] == stock["provider_summaries"]
    requests = ours["allocation_requests"]
    assert {worlds.exact(one) for one in requests} <= {
        worlds.exact(one) for one in stock["allocation_requests"]
    }
    there_are = {
        worlds.canonical(one, query.classes)
        for one in stock["allocation_requests"]
    }
    found = {worlds.canonical(one, query.classes) for one in requests}
    assert len(found) == len(requests)
    if max_sets < 0:
        assert found == there_are
    else:
        assert bool(found) == bool(there_are)
    for one in requests[:3]:
        consumer = placement.allocate(one)
        assert placement.allocations(consumer) == one["allocations"]
        placement.free(consumer)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("are_nodes_known", [True, False])
@pytest.mark.parametrize(
    ("policy", "numbers"),
    [("none", "both"), ("isolate", "many")],
)
def test_many_and_few_gpus_are_within_reach_of_the_default(
    placement, size, are_nodes_known, policy, numbers
):
    """So that gpu:spread has what it prefers, on a host with many GPUs."""
    placement.set_option("max_sets_per_tree", 16, "gpu_filter")
    placement.replace_providers(
        host(
            "host",
            [
                (
                    service.Inventory(4),
                    "VGPU",
                    (f"CUSTOM_GPU_LINK_NODE_{number // 4}",)
                    if are_nodes_known
                    else (),
                )
                for number in range(8)
            ],
        )
    )
    groups = "&".join(f"resources{n + 1}=VGPU:1" for n in range(size))
    answer = placement.ours(
        "/allocation_candidates?resources=VCPU:1"
        f"&{groups}&group_policy={policy}"
    )
    assert answer.is_composed
    sets = [
        tuple(sorted(one["mappings"][str(n + 1)][0] for n in range(size)))
        for one in answer.json["allocation_requests"]
    ]
    assert len(set(sets)) == len(sets) >= 16
    packed = {found for found in sets if len(set(found)) == 1}
    gpus = {
        service.provider_uuid(f"host_pci_0000_{n:02x}_00_0") for n in range(8)
    }
    if numbers == "both":
        # Each GPU alone, and each with others.
        assert packed == {(gpu,) * size for gpu in gpus}
    else:
        assert not packed
    apart = [found for found in sets if len(set(found)) == size]
    assert len(set(itertools.chain.from_iterable(apart))) >= 8 // size * size
