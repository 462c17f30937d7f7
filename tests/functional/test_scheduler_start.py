# SPDX-License-Identifier: Apache-2.0

"""nova-scheduler with a pool matcher that cannot be had."""

import pytest

from demo import cloud
from nova_gpu_filter import exception


def test_a_missing_matcher_stops_the_scheduler_with_one_clear_error(
    edited_conf,
):
    conf = edited_conf(
        "2016.conf", ("pool_matcher = nova", "pool_matcher = fastest")
    )
    with (
        pytest.raises(exception.PoolMatcherNotFound) as caught,
        cloud.EmbeddedCloud(conf),
    ):
        pass

    error = str(caught.value)
    assert "[gpu_filter]pool_matcher = fastest" in error
    assert "Installed: nova" in error


def test_a_filter_that_is_not_available_stops_the_scheduler(edited_conf):
    """Shows that the filter is found through our function, not by chance."""
    conf = edited_conf(
        "2016.conf",
        (
            "available_filters ="
            " nova_gpu_filter.scheduler.filters.all_filters\n",
            "",
        ),
    )
    with (
        pytest.raises(Exception, match="GpuPciPassthroughFilter"),
        cloud.EmbeddedCloud(conf),
    ):
        pass
