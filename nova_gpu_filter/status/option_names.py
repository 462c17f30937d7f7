# SPDX-License-Identifier: Apache-2.0

"""Option names of former releases, in the files themselves.

oslo.config reads a value under its former name without a word, or ignores a
name that it does not know; so the files are read once more.
"""

from collections.abc import Iterator
import pathlib
from typing import Any

from oslo_config import cfg

from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node

_MOVED = {
    ("DEFAULT", old): f"[filter_scheduler]{today}"
    for old, today in (
        ("scheduler_available_filters", "available_filters"),
        ("scheduler_default_filters", "enabled_filters"),
        ("scheduler_weight_classes", "weight_classes"),
    )
}
"""(group, name) in the guides of 2016 -> name of today. Nova moved these in
14.0.0 (2016), and does not read the old names any more."""

_RENAMED = {
    (str(old.group), str(old.name)): f"[pci]{option.name}"
    for option in pci_options.list_options()
    for old in option.deprecated_opts
}
"""Likewise; Nova still takes these."""

_REMOVED = (
    ("gpu_filter", "in_flight_seconds"),
    ("filter_scheduler", "gpu_in_flight_weight_multiplier"),
)
"""(group, name) of options that we had, and that have nothing to set now."""


def check(node: Node) -> results.Result:
    """Look for option names of 2016, and for those that are no more."""
    return results.combine(
        problem
        for path in _list_files(node.conf)
        for problem in _check_file(path)
    )


def _list_files(conf: cfg.ConfigOpts) -> Iterator[str]:
    """List the files that were read, those of directories included."""
    yield from conf.config_file or ()
    for directory in conf.config_dir or ():
        yield from sorted(map(str, pathlib.Path(directory).glob("*.conf")))


def _check_file(path: str) -> Iterator[results.Result]:
    sections: dict[str, dict[str, Any]] = {}
    cfg.ConfigParser(path, sections).parse()
    there = {
        (group, name): f"{path}: [{group}]{name}"
        for group, options in sections.items()
        for name in options
    }
    for old, today in _MOVED.items():
        if old in there:
            yield results.fail(
                f"{there[old]} is not read any more: write {today}."
            )
    for old, today in _RENAMED.items():
        if old in there:
            yield results.warn(
                f"{there[old]} is an old name, still read: write {today}."
            )
    for old in _REMOVED:
        if old in there:
            yield results.succeed(
                f"{there[old]} is not read any more: remove it."
            )
