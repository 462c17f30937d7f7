# SPDX-License-Identifier: Apache-2.0

"""Many GPUs for one server, with Placement's default settings."""

import time

import pytest

from cloud import bootstrap
from tests.cloud import views


@pytest.mark.parametrize("gpus", [8, 6])
def test_a_server_gets_most_of_a_host_with_the_defaults_of_placement(
    cloud, user, note, gpus
):
    conf = cloud.files.path("placement/placement.conf").read_text()
    assert "allocation_candidates_generation_strategy" not in conf
    assert "optimize_for_wide_provider_trees" not in conf

    begin = time.monotonic()
    server = user.boot(f"large-{gpus}", bootstrap.flavor(gpus))
    seconds = time.monotonic() - begin

    assert server["status"] == "ACTIVE"
    view = views.look(cloud)
    assert len(view.of(server["id"])) == gpus
    assert view.disagreements() == []
    note(f"h100:{gpus} on hosts of 8: {seconds:.1f} s from POST to ACTIVE")


@pytest.mark.parametrize("gpus", [8, 6])
def test_placement_says_that_the_answer_is_composed(user, gpus):
    groups = "&".join(
        f"resources_{suffix}=CUSTOM_GPU_H100_SXM5_80GB:1"
        for suffix in range(gpus)
    )
    reply = user.placement.get(
        f"/allocation_candidates?{groups}&group_policy=none&limit=1000"
    )
    assert reply.status_code == 200
    assert reply.headers["X-GPU-Candidates"] == "composed"
    roots = {
        summary["root_provider_uuid"]
        for summary in reply.json()["provider_summaries"].values()
    }
    assert len(roots) == 2
