# SPDX-License-Identifier: Apache-2.0

from importlib import metadata

import pytest
from stevedore import extension

from nova_gpu_filter import exception
from nova_gpu_filter.pools import loader
from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools.matchers import nova


class NoMatcher:
    pass


class FailingMatcher(nova.NovaPoolMatcher):
    def __init__(self):
        raise RuntimeError("no licence file")


@pytest.fixture
def entry_points(monkeypatch):
    """Add entry points (name, value) to the namespace of the matchers."""

    def add(*points):
        known = extension.ExtensionManager(
            matcher.NAMESPACE, on_load_failure_callback=lambda *_: None
        ).list_entry_points()
        added = [
            metadata.EntryPoint(name, value, matcher.NAMESPACE)
            for name, value in points
        ]
        monkeypatch.setitem(
            extension.ExtensionManager.ENTRY_POINT_CACHE,
            matcher.NAMESPACE,
            [*known, *added],
        )

    return add


def test_the_installed_matcher_is_loaded_by_its_name():
    assert type(loader.load("nova")) is nova.NovaPoolMatcher


def test_a_matcher_of_somebody_else_is_loaded_like_ours(entry_points):
    entry_points(
        ("theirs", "nova_gpu_filter.pools.matchers.nova:NovaPoolMatcher")
    )
    assert isinstance(loader.load("theirs"), matcher.PoolMatcher)


def test_a_missing_matcher_is_named_with_the_installed_ones():
    with pytest.raises(exception.PoolMatcherNotFound) as raised:
        loader.load("novva")
    assert "[gpu_filter]pool_matcher = novva" in str(raised.value)
    assert "nova" in str(raised.value).split("Installed: ")[1]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("no_such_module:Matcher", "No module named 'no_such_module'"),
        (f"{__name__}:Missing", "Missing"),
        (f"{__name__}:NoMatcher", "NoMatcher is not a PoolMatcher"),
        (f"{__name__}:FailingMatcher", "no licence file"),
    ],
)
def test_a_broken_matcher_is_one_clear_error(entry_points, value, error):
    entry_points(("broken", value))
    with pytest.raises(exception.PoolMatcherBroken) as raised:
        loader.load("broken")
    assert "[gpu_filter]pool_matcher = broken" in str(raised.value)
    assert error in str(raised.value)


def test_a_name_that_stands_twice_is_refused(entry_points):
    value = "nova_gpu_filter.pools.matchers.nova:NovaPoolMatcher"
    entry_points(("nova", value), ("nova", value))
    with pytest.raises(exception.PoolMatcherBroken):
        loader.load("nova")


def test_a_broken_matcher_that_nobody_configured_is_no_error(entry_points):
    entry_points(("broken", "no_such_module:Matcher"))
    assert isinstance(loader.load("nova"), nova.NovaPoolMatcher)
    assert "broken" in loader.list_installed()
