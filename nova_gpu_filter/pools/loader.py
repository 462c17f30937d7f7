# SPDX-License-Identifier: Apache-2.0

"""Load the configured pool matcher through stevedore."""

from stevedore import driver
from stevedore import exception as stevedore_exception
from stevedore import extension

from nova_gpu_filter import exception
from nova_gpu_filter.pools import matcher


def load(name: str) -> matcher.PoolMatcher:
    """Make the matcher that ``[gpu_filter]pool_matcher`` names.

    :param name: entry point name in :data:`matcher.NAMESPACE`.
    :raises PoolMatcherNotFound: no entry point has that name.
    :raises PoolMatcherBroken: it cannot be imported, fails when called, is no
        :class:`matcher.PoolMatcher`, or stands there twice.
    """
    try:
        loaded = driver.DriverManager(
            namespace=matcher.NAMESPACE,
            name=name,
            invoke_on_load=True,
            # Said below, once, with the names that are installed.
            on_missing_entrypoints_callback=lambda _names: None,
        ).driver
    except stevedore_exception.NoMatches as exc:
        raise exception.PoolMatcherNotFound(
            name=name,
            installed=", ".join(installed()) or "none",
            namespace=matcher.NAMESPACE,
        ) from exc
    except Exception as exc:
        raise exception.PoolMatcherBroken(
            name=name, error=f"{type(exc).__name__}: {exc}"
        ) from exc
    if not isinstance(loaded, matcher.PoolMatcher):
        raise exception.PoolMatcherBroken(
            name=name, error=f"{type(loaded).__name__} is not a PoolMatcher"
        )
    return loaded


def installed() -> list[str]:
    """List the names that ``[gpu_filter]pool_matcher`` may have here."""
    manager = extension.ExtensionManager(
        matcher.NAMESPACE,
        # Listed, not imported: a broken matcher that nobody configured is
        # nobody's error.
        on_load_failure_callback=lambda *_: None,
    )
    return sorted({point.name for point in manager.list_entry_points()})
