# SPDX-License-Identifier: Apache-2.0

import nova.conf
import pytest

from nova_gpu_filter.status import option_names
from nova_gpu_filter.status.node import Node
from nova_gpu_filter.status.results import Code


@pytest.mark.parametrize(
    ("group", "line", "code", "today"),
    [
        (
            "DEFAULT",
            "scheduler_available_filters = a.b",
            Code.FAILURE,
            "[filter_scheduler]available_filters",
        ),
        (
            "DEFAULT",
            "scheduler_default_filters = A",
            Code.FAILURE,
            "[filter_scheduler]enabled_filters",
        ),
        (
            "DEFAULT",
            "scheduler_weight_classes = a.b",
            Code.FAILURE,
            "[filter_scheduler]weight_classes",
        ),
        ("DEFAULT", 'pci_alias = {"name": "a1"}', Code.WARNING, "[pci]alias"),
        (
            "DEFAULT",
            'pci_passthrough_whitelist = {"vendor_id": "10de"}',
            Code.WARNING,
            "[pci]device_spec",
        ),
        (
            "pci",
            'passthrough_whitelist = {"vendor_id": "10de"}',
            Code.WARNING,
            "[pci]device_spec",
        ),
    ],
)
def test_an_old_name_is_found_with_the_one_to_write(
    make_node, group, line, code, today
):
    result = option_names.check(make_node(f"[{group}]\n{line}\n"))
    assert result.code is code
    name = line.partition(" ")[0]
    assert f"nova.conf: [{group}]{name} is" in result.details
    assert f"write {today}." in result.details


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("DEFAULT", "pci_alias", '{"name": "a1"}'),
        ("DEFAULT", "pci_passthrough_whitelist", '{"vendor_id": "10de"}'),
        ("pci", "passthrough_whitelist", '{"vendor_id": "10de"}'),
    ],
)
def test_names_that_are_called_still_read_are_read_by_nova(
    make_node, group, name, value
):
    node = make_node(f"[{group}]\n{name} = {value}\n")
    assert [*node.conf.pci.alias, *node.conf.pci.device_spec] == [value]


def test_names_that_are_called_not_read_are_not_read_by_nova(make_node):
    node = make_node(
        "[DEFAULT]\n"
        "scheduler_available_filters = a.b\n"
        "scheduler_default_filters = A\n"
        "scheduler_weight_classes = a.b\n"
    )
    options = node.conf.filter_scheduler
    assert "A" not in options.enabled_filters
    assert "a.b" not in [*options.available_filters, *options.weight_classes]


def test_all_of_them_are_named_and_the_worst_decides(make_node):
    result = option_names.check(
        make_node(
            """
            [DEFAULT]
            pci_alias = {"name": "a1"}
            scheduler_default_filters = A
            """
        )
    )
    assert result.code is Code.FAILURE
    assert "pci_alias" in result.details
    assert "scheduler_default_filters" in result.details


def test_names_of_today_are_nothing_to_tell_of(make_node):
    result = option_names.check(
        make_node('[pci]\nalias = {"name": "a1"}\n# pci_alias = 1\n')
    )
    assert (result.code, result.details) == (Code.SUCCESS, None)


def test_files_of_a_directory_are_read_too(make_node, tmp_path):
    directory = tmp_path / "nova.conf.d"
    directory.mkdir()
    (directory / "50-gpu.conf").write_text('[DEFAULT]\npci_alias = "x"\n')
    (directory / "README").write_text("[DEFAULT]\nscheduler_default_filters=A")
    node = make_node()
    nova.conf.CONF(
        ["--config-dir", str(directory)],
        project="nova",
        default_config_files=[],
    )
    result = option_names.check(Node(nova.conf.CONF, node.roles))
    assert "50-gpu.conf: [DEFAULT]pci_alias" in result.details
    assert "scheduler_default_filters" not in result.details


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("gpu_filter", "in_flight_seconds"),
        ("filter_scheduler", "gpu_in_flight_weight_multiplier"),
    ],
)
def test_an_option_that_is_no_more_is_named(make_node, group, name):
    result = option_names.check(make_node(f"[{group}]\n{name} = 1\n"))
    assert result.code is Code.SUCCESS
    assert f"[{group}]{name} is not read any more: remove it" in result.details
