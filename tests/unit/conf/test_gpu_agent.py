# SPDX-License-Identifier: Apache-2.0

"""The options of nova-gpu-agent."""

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.agent import daemon
from nova_gpu_filter.conf import gpu_agent


def _read(tmp_path, text):
    path = tmp_path / "nova.conf"
    path.write_text(text)
    return daemon.read_options([str(path)])


def test_every_option_has_a_help_text_and_a_default(tmp_path):
    [(group, options)] = gpu_agent.list_opts()
    assert group.name == "gpu_agent"
    assert all(option.help for option in options)
    conf = _read(tmp_path, "[DEFAULT]\n")
    assert conf.gpu_agent.devices == "one_time_use"
    assert conf.gpu_agent.reserve_in_use is True


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("devices", "some"),
        ("interval", "0"),
        ("interval", "often"),
        ("hook_timeout", "-1"),
        ("reserve_in_use", "perhaps"),
        ("workers", "65"),
        ("corrected_errors", "0"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_option(
    tmp_path, option, value
):
    with pytest.raises(exception.GpuFilterError) as raised:
        _read(tmp_path, f"[gpu_agent]\n{option} = {value}\n")
    assert option in str(raised.value)
    assert "\n" not in str(raised.value)


def test_later_files_go_over_earlier_ones_and_directories_count(tmp_path):
    (tmp_path / "nova.conf").write_text("[gpu_agent]\ninterval = 10\n")
    more = tmp_path / "more"
    more.mkdir()
    (more / "agent.conf").write_text("[gpu_agent]\ninterval = 20\n")
    paths = [str(tmp_path / "nova.conf"), str(more)]
    assert daemon.read_options(paths).gpu_agent.interval == 20


def test_credentials_are_those_of_nova(tmp_path):
    conf = _read(
        tmp_path,
        "[placement]\nauth_type = password\nauth_url = http://127.0.0.1:9\n"
        "username = nova\npassword = x\nproject_name = service\n"
        "user_domain_name = Default\nproject_domain_name = Default\n"
        "region_name = RegionOne\n",
    )
    adapter = daemon.connect_placement(conf)
    assert adapter.service_type == "placement"
    assert adapter.region_name == "RegionOne"
    assert adapter.interface == ["internal", "public"]
