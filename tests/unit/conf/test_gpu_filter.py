# SPDX-License-Identifier: Apache-2.0

from oslo_config import cfg
from oslo_config import fixture as config_fixture
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter import exception


@pytest.fixture
def config():
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    config([])
    with config_fixture.Config(config) as fixture:
        yield fixture


def test_options_can_be_registered_twice(config):
    conf.register_opts(config.conf)
    assert config.conf.gpu_filter.pool_matcher == "topology"


def test_every_option_is_listed_with_a_help_text():
    for _group, options in conf.list_opts():
        assert options
        assert all(option.help for option in options)


def test_request_mix_is_normalized_and_sorted(config):
    config.load_raw_values(group="gpu_filter", request_mix="8:1, 1:2,2:0, 4:1")
    assert conf.request_mix(config.conf) == ((1, 0.5), (4, 0.25), (8, 0.25))


@pytest.mark.parametrize(
    ("mix", "problem"),
    [
        ({"one": 1.0}, "'one'"),
        ({"0": 1.0}, "'0'"),
        ({"-2": 1.0}, "'-2'"),
        ({"1": 0.0}, "no weight is above 0"),
        ({}, "no weight is above 0"),
    ],
)
def test_a_request_mix_that_makes_no_sense_is_one_clear_error(
    config, mix, problem
):
    config.config(group="gpu_filter", request_mix=mix)
    with pytest.raises(exception.BadRequestMix) as raised:
        conf.request_mix(config.conf)
    assert "[gpu_filter]request_mix" in str(raised.value)
    assert problem in str(raised.value)


def test_a_weight_that_is_no_number_is_refused_by_the_option(config):
    config.load_raw_values(group="gpu_filter", request_mix="1:much")
    with pytest.raises(ValueError, match="much"):
        _ = config.conf.gpu_filter.request_mix
