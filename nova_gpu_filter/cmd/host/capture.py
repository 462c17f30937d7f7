# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host capture``."""

import os
import sys

from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.host import errors
from nova_gpu_filter.host.saved import capture


class Capture(base.HostCommand, command.Command):
    """Write what the other commands read into a tar archive.

    For a support ticket: unpack it elsewhere and give its directory with
    --sysfs-root. Serial numbers, UUIDs, MAC addresses, passwords and keys
    are left out; of the kernel command line, only values that matter here
    are kept. nova.conf is not part of it.
    """

    def get_parser(self, prog_name):
        """Describe the options."""
        parser = super().get_parser(prog_name)
        base.add_root(parser)
        base.add_links(parser)
        parser.add_argument(
            "file",
            metavar="FILE",
            nargs="?",
            help="where to write; - is standard output; packed if it ends in"
            " gz; default nova-gpu-host-<host name>.tar.gz here",
        )
        parser.add_argument(
            "--force", action="store_true", help="replace FILE if it is there"
        )
        return parser

    def take_action(self, parsed_args):
        """Write the archive."""
        tree = base.tree(self, parsed_args)
        if parsed_args.baseboard is not None:
            raise errors.BadInput(
                source="--baseboard",
                reason="is not captured: give it when the capture is examined",
            )
        sources = base.sources(tree, parsed_args)
        path = parsed_args.file or capture.default_name(tree)
        if path == "-":
            count = capture.write(tree, sources, sys.stdout.buffer, path)
        else:
            mode = "wb" if parsed_args.force else "xb"
            try:
                with open(path, mode) as file:
                    count = capture.write(tree, sources, file, path)
            except FileExistsError:
                raise errors.BadInput(
                    source=path, reason="is there already; use --force"
                ) from None
        where = "standard output" if path == "-" else os.path.abspath(path)
        self.warn(f"wrote {count} entries to {where}")
        for problem, error in sorted(tree.problems.items()):
            self.warn(f"not read: {problem}: {error}")
        return 0
