# SPDX-License-Identifier: Apache-2.0

"""Load the configured pool matcher through stevedore."""

from stevedore import driver
from stevedore import named

from nova_gpu_filter import exception
from nova_gpu_filter.pools import matcher


def load(name: str) -> matcher.PoolMatcher:
    """Make the matcher that ``[gpu_filter]pool_matcher`` names.

    :param name: entry point name in :data:`matcher.NAMESPACE`.
    :raises PoolMatcherNotFound: no entry point has that name.
    :raises PoolMatcherBroken: it cannot be imported, fails when called, is no
        :class:`matcher.PoolMatcher`, or stands there twice.
    """
    names = list_installed()
    # Asked first: how to silence stevedore's own warning of a missing name,
    # in favour of this error, differs between the supported series.
    if name not in names:
        raise exception.PoolMatcherNotFound(
            name=name,
            installed=", ".join(names) or "none",
            namespace=matcher.NAMESPACE,
        )
    try:
        loaded: object = driver.DriverManager(
            matcher.NAMESPACE, name, invoke_on_load=True
        ).driver
    except Exception as exc:
        raise exception.PoolMatcherBroken(
            name=name, error=f"{type(exc).__name__}: {exc}"
        ) from exc
    if not isinstance(loaded, matcher.PoolMatcher):
        raise exception.PoolMatcherBroken(
            name=name, error=f"{type(loaded).__name__} is not a PoolMatcher"
        )
    return loaded


def list_installed() -> list[str]:
    """List the names that ``[gpu_filter]pool_matcher`` may have here."""
    # Listed, not imported: a broken matcher that nobody configured is nobody's
    # error.
    listed: named.NamedExtensionManager[object] = named.NamedExtensionManager(
        matcher.NAMESPACE, names=[]
    )
    return sorted({point.name for point in listed.list_entry_points()})
