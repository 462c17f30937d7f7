# SPDX-License-Identifier: Apache-2.0

from oslo_config import cfg
import pytest

from nova_gpu_filter.conf import placement_extension


@pytest.fixture
def conf():
    """A configuration with the options registered, twice."""
    config = cfg.ConfigOpts()
    for _ in range(2):
        placement_extension.register_opts(config)
    config([], default_config_files=[])
    yield config
    # Configurations of one process share groups, with what was overridden.
    config.clear_override("max_sets_per_tree", group="gpu_filter")


def test_a_few_sets_are_given_by_default(conf):
    assert conf.gpu_filter.max_sets_per_tree == 16


@pytest.mark.parametrize("value", [-1, 0, 1, 1000])
def test_good_numbers_of_sets_are_taken(conf, value):
    conf.set_override("max_sets_per_tree", value, group="gpu_filter")
    assert conf.gpu_filter.max_sets_per_tree == value


def test_a_senseless_number_of_sets_is_refused(conf):
    with pytest.raises(ValueError, match="-1"):
        conf.set_override("max_sets_per_tree", -2, group="gpu_filter")


def test_every_option_is_listed_with_a_help_text():
    [(group, options)] = placement_extension.list_opts()
    assert group.name == "gpu_filter"
    assert options
    assert all(option.help for option in options)
