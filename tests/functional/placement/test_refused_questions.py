# SPDX-License-Identifier: Apache-2.0

"""What stock Placement refuses is refused with ours, whatever is free."""

import pytest

from tests.functional.placement import service

GPU = "CUSTOM_GPU"
EQUAL = f"resources_1={GPU}:1&resources_2={GPU}:1"
LIMITS = pytest.mark.parametrize("limit", [-1, 1000])


def _two_hosts():
    for name in ("a", "b"):
        yield service.Provider(
            name, inventories={"VCPU": service.Inventory(64)}
        )
        for place, trait in enumerate(("CUSTOM_FAST", "CUSTOM_RED") * 2):
            yield service.Provider(
                f"{name}-{place}",
                name,
                {GPU: service.Inventory(1)},
                traits=(trait,),
            )


def _ask_both(fresh_placement, limit, query, version="1.39"):
    placement = fresh_placement(
        {("placement", "max_allocation_candidates"): limit}
    )
    placement.replace_providers(list(_two_hosts()))
    path = f"/allocation_candidates?{query}&group_policy=none"
    stock = placement.stock(path, microversion=version)
    # The second time we know what Placement takes.
    ours = [placement.ours(path, microversion=version) for _ in range(2)]
    return stock, ours


@LIMITS
@pytest.mark.parametrize("version", ["1.36", "1.38", "1.39"])
def test_any_of_some_traits_before_there_was_such_a_question(
    fresh_placement, limit, version
):
    asked = (
        f"resources=VCPU:1&{EQUAL}"
        f"&resources_3={GPU}:1&required_3=in:CUSTOM_FAST,CUSTOM_RED"
    )
    stock, ours = _ask_both(fresh_placement, limit, asked, version)
    assert stock.status == (200 if version == "1.39" else 400)
    assert [reply.status for reply in ours] == [stock.status] * 2


@LIMITS
@pytest.mark.parametrize("trait", ["CUSTOM_NOSUCH", "!CUSTOM_NOSUCH"])
def test_an_unknown_trait_before_a_group_that_nothing_can_serve(
    fresh_placement, limit, trait
):
    asked = (
        f"resources=VCPU:1&{EQUAL}&resources_3={GPU}:1&required_3={trait}"
        f"&resources_4={GPU}:3"
    )
    stock, ours = _ask_both(fresh_placement, limit, asked)
    assert stock.status == 400
    assert [reply.status for reply in ours] == [stock.status] * 2


@LIMITS
@pytest.mark.parametrize("rest", ["VCPU:1000", f"VCPU:1000,{GPU}:1"])
@pytest.mark.parametrize(
    "group",
    [
        "resources_3=CUSTOM_NOSUCH:1",
        f"resources_3={GPU}:1&required_3=CUSTOM_NOSUCH",
        f"resources_3={GPU}:1&required_3=CUSTOM_FAST,!CUSTOM_FAST",
    ],
)
def test_what_does_not_exist_where_nothing_can_serve_the_rest(
    fresh_placement, limit, rest, group
):
    asked = f"{EQUAL}&{group}&resources={rest}"
    stock, ours = _ask_both(fresh_placement, limit, asked)
    assert stock.status == 400
    assert [reply.status for reply in ours] == [stock.status] * 2


@pytest.mark.parametrize("limit", [0, 1])
def test_an_operator_who_allows_no_candidate_gets_one(fresh_placement, limit):
    """As in Placement, which ends after the first; of us one a host."""
    asked = f"resources=VCPU:1&{EQUAL}&resources_3={GPU}:1"
    stock, ours = _ask_both(fresh_placement, limit, asked)
    assert len(stock.json["allocation_requests"]) == 1
    for reply in ours:
        assert reply.is_composed
        assert len(reply.json["allocation_requests"]) == 2
