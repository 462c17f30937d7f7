# SPDX-License-Identifier: Apache-2.0

from oslo_config import cfg
import pytest

from nova_gpu_filter.placement import overrides


@pytest.fixture
def overridden(conf):
    """Placement's options without a limit of candidates."""
    return overrides.Overridden(
        conf, {"placement": {"max_allocation_candidates": -1}}
    )


def test_options_differ_and_the_rest_follows_the_original(conf, overridden):
    conf.set_override("max_allocation_candidates", 7, group="placement")
    conf.set_override(
        "randomize_allocation_candidates", True, group="placement"
    )
    assert overridden.placement.max_allocation_candidates == -1
    assert overridden.placement.randomize_allocation_candidates is True
    assert conf.placement.max_allocation_candidates == 7
    assert overridden.api.auth_strategy == conf.api.auth_strategy


def test_it_can_be_read_by_name(overridden):
    assert overridden["placement"]["max_allocation_candidates"] == -1
    assert "placement" in overridden
    assert "no_such_group" not in overridden


def test_there_are_no_other_options_than_in_the_original(overridden):
    with pytest.raises(cfg.NoSuchOptError):
        overridden.no_such_group  # noqa: B018
