# SPDX-License-Identifier: Apache-2.0

"""Scheduler weighers, for ``[filter_scheduler]weight_classes``."""

from nova_gpu_filter.scheduler import plugins

NAMESPACE = "nova_gpu_filter.scheduler.weights"


def all_weighers() -> list[type]:
    """List our weighers, and those that others put into our namespace.

    To be named in nova.conf beside nova's own::

        [filter_scheduler]
        weight_classes = nova.scheduler.weights.all_weighers,\
nova_gpu_filter.scheduler.weights.all_weighers

    :raises PluginBroken: a weigher cannot be imported.
    """
    return plugins.load_classes(NAMESPACE)
