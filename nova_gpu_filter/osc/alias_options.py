# SPDX-License-Identifier: Apache-2.0

"""The options by which commands are given aliases: no API shows them."""

import argparse

from nova_gpu_filter.fleet import known_aliases


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
        default=[],
        help="nova.conf with the aliases, or a directory of .conf files; can"
        " be given again, later ones win (default:"
        f" {known_aliases.DEFAULT_PATH}, unless --alias is given)",
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


def read(parsed_args: argparse.Namespace) -> known_aliases.Known:
    """Read the aliases that the options name.

    :raises GpuFilterError: a file or an alias cannot be read.
    """
    return known_aliases.read(parsed_args.nova_conf, parsed_args.alias)
