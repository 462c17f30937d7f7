# SPDX-License-Identifier: Apache-2.0

from oslo_config import cfg

from nova_gpu_filter import conf


def test_options_can_be_registered_twice():
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    conf.register_opts(config)
    config([])
    assert config.gpu_filter.pool_matcher == "nova"


def test_every_option_is_listed_with_a_help_text():
    for group, options in conf.list_opts():
        assert group.name == "gpu_filter"
        assert options
        assert all(option.help for option in options)
