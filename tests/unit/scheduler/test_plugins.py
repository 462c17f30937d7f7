# SPDX-License-Identifier: Apache-2.0

from importlib import metadata

from nova.scheduler import filters as nova_filters
import pytest
from stevedore import extension

from nova_gpu_filter import exception
from nova_gpu_filter.scheduler import filters
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough


def test_nova_loads_the_filter_by_the_name_that_we_document():
    handler = nova_filters.HostFilterHandler()
    classes = handler.get_matching_classes(
        [
            "nova.scheduler.filters.all_filters",
            "nova_gpu_filter.scheduler.filters.all_filters",
        ]
    )
    by_name = {cls.__name__: cls for cls in classes}
    assert (
        by_name["GpuPciPassthroughFilter"]
        is gpu_pci_passthrough.GpuPciPassthroughFilter
    )
    assert "PciPassthroughFilter" in by_name


def test_a_filter_that_cannot_be_imported_is_an_error_that_names_it(
    monkeypatch,
):
    broken = metadata.EntryPoint(
        "Broken", "no_such_module:BrokenFilter", filters.NAMESPACE
    )
    monkeypatch.setitem(
        extension.ExtensionManager.ENTRY_POINT_CACHE,
        filters.NAMESPACE,
        [broken],
    )
    with pytest.raises(exception.PluginBroken, match="no_such_module:Broken"):
        filters.all_filters()
