# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.exporter import settings
from nova_gpu_filter.topology import fragmentation

CONF = """
[pci]
alias = {"name": "h100", "resource_class": "CUSTOM_GPU_H100"}
[gpu_filter]
request_mix = 2:3, 8:1
"""
MIX = ((2, 0.75), (8, 0.25))


@pytest.fixture
def default(tmp_path, monkeypatch):
    """Put the nova.conf that is read by default elsewhere; it is not there."""
    path = tmp_path / "default.conf"
    monkeypatch.setattr(settings, "DEFAULT_NOVA_CONF", str(path))
    return path


@pytest.fixture
def nova_conf(tmp_path):
    path = tmp_path / "nova.conf"
    path.write_text(CONF)
    return path


def classes(scope):
    """Read the resource classes of the aliases."""
    return {
        name: alias.resource_class
        for name, alias in scope.alias_by_name.items()
    }


def test_a_nova_conf_tells_aliases_and_request_sizes(default, nova_conf):
    scope = settings.read_scope([str(nova_conf)], [], ["CUSTOM_X"])
    assert classes(scope) == {"h100": "CUSTOM_GPU_H100"}
    assert scope.mix == MIX
    assert scope.resource_classes == {"CUSTOM_X"}


def test_a_directory_stands_for_its_files(default, nova_conf):
    scope = settings.read_scope([str(nova_conf.parent)], [], [])
    assert (set(scope.alias_by_name), scope.mix) == ({"h100"}, MIX)


def test_an_alias_of_the_command_line_takes_precedence(default, nova_conf):
    texts = [
        '{"name": "h100", "resource_class": "H200"}',
        '{"name": "nic", "vendor_id": "15b3", "product_id": "1021"}',
    ]
    scope = settings.read_scope([str(nova_conf)], texts, [])
    assert classes(scope) == {
        "h100": "CUSTOM_H200",
        "nic": "CUSTOM_PCI_15B3_1021",
    }


def test_the_usual_nova_conf_is_read_where_none_is_given(default):
    default.write_text(CONF)
    scope = settings.read_scope([], [], [])
    assert (set(scope.alias_by_name), scope.mix) == ({"h100"}, MIX)


def test_without_any_file_there_are_defaults_and_a_warning(default, caplog):
    scope = settings.read_scope([], [], [])
    assert scope.alias_by_name == {}
    assert scope.mix == fragmentation.DEFAULT_MIX
    assert "no capacity by flavor" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pci]\nalias = x\n", "nova.conf: alias x"),
        ("[gpu_filter]\nrequest_mix = one:1\n", "[gpu_filter]request_mix"),
        ("[gpu_filter]\nrequest_mix = 1:much\n", "request_mix"),
        ("no section\n", "nova.conf"),
    ],
)
def test_what_makes_no_sense_is_one_error(default, nova_conf, text, words):
    nova_conf.write_text(text)
    with pytest.raises(exception.GpuFilterError) as raised:
        settings.read_scope([str(nova_conf)], [], [])
    assert words in str(raised.value)
