# SPDX-License-Identifier: Apache-2.0

"""What is counted of a burst on the real cloud."""

import pytest

from cloud import configs
from tests.cloud import __main__ as command
from tests.cloud import bursts
from tests.cloud import views

LINE = (
    "2030-01-01 00:00:00.000 1 INFO placement.requestlog [None req-1 - -]"
    ' 127.0.0.1 "{method} {path}" status: {status} len: 0 microversion: 1.36\n'
)
CONSUMER = "6f5d2c5e-0f0e-4f43-9a0e-0d6b5f4a7c11"


@pytest.mark.parametrize(
    ("method", "path", "status", "counts"),
    [
        ("PUT", f"/allocations/{CONSUMER}", 204, True),
        ("PUT", f"/allocations/{CONSUMER}", 409, True),
        ("PUT", f"/placement/allocations/{CONSUMER}", 204, True),
        ("GET", f"/allocations/{CONSUMER}", 200, False),
        ("DELETE", f"/allocations/{CONSUMER}", 204, False),
        ("POST", "/allocations", 204, False),
        ("PUT", f"/resource_providers/{CONSUMER}/traits", 200, False),
        ("GET", f"/resource_providers/{CONSUMER}/allocations", 200, False),
    ],
)
def test_claims_are_counted_from_where_a_burst_begins(
    tmp_path, method, path, status, counts
):
    log = tmp_path / "placement.log"
    line = LINE.format(method=method, path=path, status=status)
    log.write_text(line * 2)
    start = log.stat().st_size
    with log.open("a") as file:
        file.write(line * 3)
    assert bursts.count_claims(log, start) == 3 * counts


@pytest.mark.parametrize(
    ("refused", "free", "false"),
    [
        ([], {"a": 8}, 0),
        ([1], {"a": 0, "b": 1}, 1),
        ([4], {"a": 2, "b": 2}, 0),
        ([4, 1], {"a": 2, "b": 2}, 1),
        ([4, 4], {"a": 4}, 1),
        ([1, 4], {"a": 4, "b": 1}, 2),
        ([2, 4, 2], {"a": 8}, 3),
    ],
    ids=str,
)
def test_a_refusal_is_false_where_the_server_would_fit(refused, free, false):
    assert bursts.count_false(refused, free) == false


def test_free_gpus_are_those_that_no_server_has():
    states = {("a", f"0000:0{n}:00.0"): "available" for n in range(3)}
    states[("b", "0000:00:00.0")] = "allocated"
    held = {("b", "0000:00:00.0"): "server", ("a", "0000:01:00.0"): "other"}
    view = views.View(held, {}, {}, states, 2)
    assert bursts.count_free(view) == {"a": 2, "b": 0}


@pytest.mark.parametrize("burst", command.BURSTS, ids=lambda burst: burst.name)
def test_there_is_just_room_for_each_burst(burst):
    held = dict(burst.fillers)
    assert set(held) <= set(command.HOSTS)
    free = bursts.GPUS * len(command.HOSTS) - sum(held.values())
    spare = 8 if burst.name.endswith("spare") else 0
    assert free == sum(burst.sizes) + spare


def test_workers_of_the_command_are_those_of_the_cloud(monkeypatch):
    monkeypatch.setattr(command.control, "Cloud", lambda report: _Up())
    monkeypatch.setenv("CLOUD_SCHEDULER_WORKERS", "1")
    assert command.main(["--workers", "6"]) == 1
    assert configs.workers("scheduler") == 6


class _Up:
    is_up = True
