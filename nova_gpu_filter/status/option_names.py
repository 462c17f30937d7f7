# SPDX-License-Identifier: Apache-2.0

"""Option names of former releases, in the files themselves.

oslo.config reads a value under its former name without a word, or ignores a
name that it does not know; so the files are read once more.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
from typing import Any

from oslo_config import cfg

from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node


@dataclasses.dataclass(frozen=True)
class _Renamed:
    """An option with another name than in the guides of 2016."""

    group: str
    name: str
    today: str
    is_read: bool
    """Whether Nova still takes the old name."""


# Nova moved the first three in 14.0.0 (2016), and dropped the old names since.
_RENAMED = (
    _Renamed(
        "DEFAULT",
        "scheduler_available_filters",
        "[filter_scheduler]available_filters",
        is_read=False,
    ),
    _Renamed(
        "DEFAULT",
        "scheduler_default_filters",
        "[filter_scheduler]enabled_filters",
        is_read=False,
    ),
    _Renamed(
        "DEFAULT",
        "scheduler_weight_classes",
        "[filter_scheduler]weight_classes",
        is_read=False,
    ),
    *(
        _Renamed(
            str(old.group), str(old.name), f"[pci]{option.name}", is_read=True
        )
        for option in pci_options.list_options()
        for old in option.deprecated_opts
    ),
)


_REMOVED = (
    ("gpu_filter", "in_flight_seconds"),
    ("filter_scheduler", "gpu_in_flight_weight_multiplier"),
)
"""(group, name) of options that we had, and that have nothing to set now."""


def check(node: Node) -> results.Result:
    """Look for option names of 2016, and for those that are no more."""
    problems = []
    for path in _list_files(node.conf):
        sections = _read(path)
        for old in _RENAMED:
            if old.name not in sections.get(old.group, {}):
                continue
            where = f"{path}: [{old.group}]{old.name}"
            if old.is_read:
                problems.append(
                    results.warn(
                        f"{where} is an old name, still read: write"
                        f" {old.today}."
                    )
                )
            else:
                problems.append(
                    results.fail(
                        f"{where} is not read any more: write {old.today}."
                    )
                )
        problems += [
            results.succeed(
                f"{path}: [{group}]{name} is not read any more: remove it."
            )
            for group, name in _REMOVED
            if name in sections.get(group, {})
        ]
    return results.combine(problems)


def _list_files(conf: cfg.ConfigOpts) -> Iterator[str]:
    """List the files that were read, those of directories included."""
    yield from conf.config_file or ()
    for directory in conf.config_dir or ():
        yield from sorted(map(str, pathlib.Path(directory).glob("*.conf")))


def _read(path: str) -> dict[str, dict[str, Any]]:
    """Read what stands in a file: section -> option -> its values."""
    sections: dict[str, dict[str, Any]] = {}
    cfg.ConfigParser(path, sections).parse()
    return sections
