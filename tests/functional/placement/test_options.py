# SPDX-License-Identifier: Apache-2.0

"""The extension on Placements with other options than the default ones."""

from concurrent import futures
import logging

from placement import conf
from placement import db_api
import pytest

from tests.functional.placement.questions import device_sets
from tests.functional.placement.questions import hosts
from tests.functional.placement.questions import query
from tests.functional.placement.questions import roots


def test_threads_can_ask_at_the_same_time(fresh_placement, tmp_path):
    # A file: SQLite in memory has one connection, on which threads disturb
    # each other.
    database = f"sqlite:///{tmp_path}/placement.sqlite"
    placement = fresh_placement({}, database)
    assert str(db_api.get_placement_engine().url) == database
    placement.replace_providers(hosts(3, 6))
    expected = set(device_sets(placement.candidates(query(4))))
    with futures.ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda _: placement.candidates(query(4)),
                range(12),
            )
        )
    for response in found:
        assert response.is_composed
        assert set(device_sets(response)) == expected


TUNED = {
    ("placement", "max_allocation_candidates"): 10,
    ("placement", "allocation_candidates_generation_strategy"): (
        "breadth-first"
    ),
}
if hasattr(conf, "workarounds"):  # Placement 14.0 has no such option.
    TUNED[("workarounds", "optimize_for_wide_provider_trees")] = True


def test_a_tuned_placement_does_not_truncate_inner_answers(
    fresh_placement, caplog
):
    # Ten candidates for ten hosts: Placement would show one GPU of each.
    placement = fresh_placement(TUNED)
    placement.replace_providers(hosts(10, 4))
    # Tests of Nova in this process may have let everything be logged.
    caplog.clear()
    text = query(3, "limit=1000")
    with caplog.at_level(logging.INFO):
        response = placement.candidates(text)
    assert response.is_composed
    # One for each host, of GPUs that Placement alone would not show.
    assert len(set(roots(response))) == len(device_sets(response)) == 10
    assert {len(found) for found in device_sets(response)} == {3}
    # What the client asked is what is logged.
    [line] = [
        record.getMessage()
        for record in caplog.records
        if record.name == "placement.requestlog"
        and record.levelno == logging.INFO
    ]
    assert text in line


@pytest.mark.parametrize(
    ("hosts_", "expected"), [(2, 10), (12, 12)], ids=["fewer", "more"]
)
def test_there_are_as_many_candidates_as_placement_allows_or_hosts(
    fresh_placement, hosts_, expected
):
    placement = fresh_placement(TUNED)
    placement.replace_providers(hosts(hosts_, 8))
    response = placement.candidates(query(4, "limit=500"))
    assert response.is_composed
    assert len(set(roots(response))) == hosts_
    assert len(device_sets(response)) == expected


def test_a_tuned_placement_still_limits_what_it_answers_alone(
    fresh_placement,
):
    placement = fresh_placement(TUNED)
    placement.replace_providers(hosts(10, 4))
    response = placement.candidates(query(1))
    assert not response.is_composed
    assert len(response.json["allocation_requests"]) == 10


@pytest.mark.parametrize(
    ("text", "status"),
    [(query(2, "unknown=1"), 400), (query(2, "required_0=NO_SUCH"), 400)],
)
def test_a_tuned_placement_has_the_same_errors(fresh_placement, text, status):
    placement = fresh_placement(TUNED)
    placement.replace_providers(hosts(1, 2))
    response = placement.candidates(text)
    assert response.status == status
    assert not response.is_composed


def test_hosts_come_in_random_order_where_placement_is_told_so(
    fresh_placement,
):
    placement = fresh_placement(
        {("placement", "randomize_allocation_candidates"): True}
    )
    placement.replace_providers(hosts(6, 4))
    orders = {
        tuple(roots(placement.candidates(query(2, "limit=3"))))
        for _ in range(10)
    }
    assert len(orders) > 1
    # But the sets of a host do not.
    whole = [placement.candidates(query(2)) for _ in range(3)]
    sets_by_root = []
    for response in whole:
        found = {}
        for root, devices in zip(
            roots(response), device_sets(response), strict=True
        ):
            found.setdefault(root, []).append(devices)
        sets_by_root.append(found)
    assert sets_by_root[0] == sets_by_root[1] == sets_by_root[2]
