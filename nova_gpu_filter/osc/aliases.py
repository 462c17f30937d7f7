# SPDX-License-Identifier: Apache-2.0

"""Where commands get aliases from: no API shows them."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import logging
import os
from typing import Final

from nova_gpu_filter.fleet import aliases
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.host.configuration import nova_conf

LOG = logging.getLogger(__name__)

DEFAULT_PATH: Final = "/etc/nova/nova.conf"


@dataclasses.dataclass(frozen=True)
class Known:
    """The aliases that we were told of."""

    by_name: Mapping[str, aliases.Alias]
    source: str
    """Where they come from, for messages; if there are none, why."""
    paths: tuple[str, ...] = ()
    """The nova.conf files that were read."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which aliases are given."""
    group = parser.add_argument_group(
        "aliases",
        "No API shows [pci]alias, so they are read from a nova.conf of a"
        " controller or given here.",
    )
    group.add_argument(
        "--nova-conf",
        metavar="<file>",
        action="append",
        help="nova.conf with the aliases, or a directory of .conf files; can"
        f" be given again, later ones win (default: {DEFAULT_PATH}, unless"
        " --alias is given)",
    )
    group.add_argument(
        "--alias",
        metavar="<json>",
        action="append",
        default=[],
        help="an alias as in nova.conf, such as"
        ' \'{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}\'; can be'
        " given again",
    )


def read(parsed_args: argparse.Namespace) -> Known:
    """Read the aliases that the options name.

    Without options and without nova.conf there are none, and whoever needs
    one says so.

    :raises GpuFilterError: a file or an alias cannot be read.
    """
    texts: list[str] = list(parsed_args.alias)
    sources = ["--alias"] if texts else []
    paths = parsed_args.nova_conf
    if not paths and not texts:
        if not os.path.exists(DEFAULT_PATH):
            return Known({}, f"{DEFAULT_PATH} is not here")
        paths = [DEFAULT_PATH]
    if paths:
        options = nova_conf.read(*paths)
        texts += options.aliases
        sources.append(options.source)
    source = " and ".join(sources)
    if not texts:
        source = f"{source} has no [pci]alias"
    return Known(aliases.parse(texts, source), source, tuple(paths or ()))


def demands(
    flavors: Iterable[model.Flavor], known: Known
) -> list[demand.Demand]:
    """Work out what flavors take; warn of those that cannot be read.

    :raises FleetError: none of them can be read.
    """
    found = []
    failures = []
    for flavor in flavors:
        try:
            found.append(demand.of(flavor, known.by_name, known.source))
        except errors.FleetError as exc:
            failures.append(exc)
    if failures and not found:
        raise failures[0]
    for failure in failures:
        LOG.warning("Left out: %s", failure)
    return found


def with_devices(flavors: Iterable[model.Flavor]) -> list[model.Flavor]:
    """Choose the flavors that ask for devices, by name."""
    return sorted(
        (f for f in flavors if aliases.ALIAS_KEY in f.extra_specs),
        key=lambda flavor: flavor.name,
    )
