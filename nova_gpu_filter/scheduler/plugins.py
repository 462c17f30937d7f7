# SPDX-License-Identifier: Apache-2.0

"""Load the classes of a stevedore namespace for nova's class loader."""

from stevedore import extension

from nova_gpu_filter import exception


def load_classes(namespace: str) -> list[type]:
    """Import every class that stands in ``namespace``.

    nova/loadables.py calls a function named in ``available_filters`` or
    ``weight_classes`` and takes the classes that it returns.

    :param namespace: a stevedore namespace, its entry points are classes.
    :returns: the classes, by name of their entry points.
    :raises PluginBroken: one of them cannot be imported; the scheduler would
        run without it, which nobody would notice before the first wrong boot.
    """

    def fail(_manager, entry_point, error):
        raise exception.PluginBroken(
            entry_point=entry_point.value, namespace=namespace, error=error
        ) from error

    manager = extension.ExtensionManager(
        namespace, on_load_failure_callback=fail
    )
    return [loaded.plugin for loaded in sorted(manager, key=lambda e: e.name)]
