# SPDX-License-Identifier: Apache-2.0

"""Scheduler filters, for ``[filter_scheduler]available_filters``."""

from nova_gpu_filter.scheduler import plugins

NAMESPACE = "nova_gpu_filter.scheduler.filters"


def all_filters() -> list[type]:
    """List our filters, and those that others put into our namespace.

    To be named in nova.conf beside nova's own::

        [filter_scheduler]
        available_filters = nova.scheduler.filters.all_filters
        available_filters = nova_gpu_filter.scheduler.filters.all_filters

    :raises PluginBroken: a filter cannot be imported.
    """
    return plugins.load_classes(NAMESPACE)
