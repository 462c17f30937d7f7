# SPDX-License-Identifier: Apache-2.0

"""The cloud without anything of ours for a while, to compare with."""

import contextlib

from cloud import configs

_SCHEDULER = {
    "filter_scheduler": {
        "enabled_filters": ",".join(
            name.replace("GpuPciPassthroughFilter", "PciPassthroughFilter")
            for name in configs.FILTERS
        ),
        "available_filters": "nova.scheduler.filters.all_filters",
        "weight_classes": "nova.scheduler.weights.all_weighers",
    }
}


@contextlib.contextmanager
def placement(cloud):
    """Run Placement without the extension."""
    cloud.processes.stop("placement")
    cloud.start("placement", cloud.services.stock_placement())
    try:
        yield
    finally:
        cloud.restart("placement")


@contextlib.contextmanager
def placement_and_scheduler(cloud):
    """Run Placement without the extension, and Nova's filter and weighers."""
    cloud.files.write("nova/nova.conf", _SCHEDULER)
    try:
        with placement(cloud):
            cloud.restart("nova-scheduler")
            yield
    finally:
        cloud.files.write("nova/nova.conf")
        cloud.restart("nova-scheduler")
