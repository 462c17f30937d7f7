# SPDX-License-Identifier: Apache-2.0

"""Options that are read without Nova are those that Nova registers."""

import nova.conf
from oslo_config import cfg
import pytest

from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules import scheduler_options


def _describe(conf, group, name):
    option = conf._get_opt_info(name, group)["opt"]
    return (
        type(option),
        option.default,
        {(old.group, old.name) for old in option.deprecated_opts},
    )


@pytest.fixture
def ours():
    conf = cfg.ConfigOpts()
    pci_options.register(conf)
    scheduler_options.register(conf)
    return conf


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("pci", "alias"),
        ("pci", "device_spec"),
        ("pci", "report_in_placement"),
        ("devices", "enabled_mdev_types"),
        ("scheduler", "limit_tenants_to_placement_aggregate"),
        ("scheduler", "placement_aggregate_required_for_tenants"),
        ("scheduler", "enable_isolated_aggregate_filtering"),
        ("scheduler", "image_metadata_prefilter"),
        ("filter_scheduler", "enabled_filters"),
        ("quota", "driver"),
        ("quota", "unified_limits_resource_strategy"),
        ("quota", "unified_limits_resource_list"),
    ],
)
def test_an_option_is_that_of_nova(ours, group, name):
    expected = _describe(nova.conf.CONF, group, name)
    assert _describe(ours, group, name) == expected
