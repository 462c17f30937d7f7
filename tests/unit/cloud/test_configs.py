# SPDX-License-Identifier: Apache-2.0

"""Configuration files are read by oslo.config as they are meant."""

from oslo_config import cfg
import pytest

from cloud import configs
from cloud import state as states
from nova_gpu_filter.conf import gpu_filter


@pytest.fixture
def files(tmp_path):
    state = states.State(tmp_path)
    state.create()
    state.data["aliases"] = ['{"name": "a1"}', '{"name": "h100"}']
    return configs.Configs(state)


def read(path):
    conf = cfg.ConfigOpts()
    conf.register_opts([cfg.MultiStrOpt("alias")], group="pci")
    conf.register_opts(
        [
            cfg.MultiStrOpt("available_filters"),
            cfg.ListOpt("enabled_filters"),
        ],
        group="filter_scheduler",
    )
    conf.register_opts(gpu_filter.gpu_filter_opts, group="gpu_filter")
    conf([], default_config_files=[str(path)])
    return conf


def test_an_option_that_is_given_again_keeps_all_its_values(files):
    files.write("nova/nova.conf")
    conf = read(files.path("nova/nova.conf"))
    assert conf.pci.alias == ['{"name": "a1"}', '{"name": "h100"}']
    assert conf.filter_scheduler.available_filters == [
        "nova.scheduler.filters.all_filters",
        "nova_gpu_filter.scheduler.filters.all_filters",
    ]
    assert conf.filter_scheduler.enabled_filters == list(configs.FILTERS)


def test_a_change_lasts_until_the_file_is_written_again(files):
    name = "nova/nova.conf"
    files.write(name, {"gpu_filter": {"pool_matcher": "nova"}})
    assert read(files.path(name)).gpu_filter.pool_matcher == "nova"
    files.write(name)
    assert read(files.path(name)).gpu_filter.pool_matcher == "topology"


def test_compute_hosts_are_not_told_of_any_database(files):
    files.write("nova/nova-compute.conf")
    text = files.path("nova/nova-compute.conf").read_text()
    assert "mysql" not in text


def test_services_have_several_workers_as_in_production(files, monkeypatch):
    monkeypatch.setenv("CLOUD_SCHEDULER_WORKERS", "8")
    files.write("nova/nova.conf")
    text = files.path("nova/nova.conf").read_text()
    assert "[scheduler]\nworkers = 8\n" in text
    assert "[conductor]\nworkers = 2\n" in text
