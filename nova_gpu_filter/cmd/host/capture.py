# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host capture``."""

import io
import os
import sys

from nova_gpu_filter import exception
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.host.configuration import saving
from nova_gpu_filter.host.saved import archive
from nova_gpu_filter.host.saved import capture


class Capture(command.Command):
    """Write what the other commands read into a tar archive.

    For a support ticket: unpack it elsewhere and give its directory with
    --sysfs-root. Of each file, only words that are known are kept: numbers,
    PCI addresses, names of kernel modules and interfaces, keywords. Serial
    numbers, UUIDs, MAC addresses, passwords and keys are left out, and
    REMOVED stands in their place. nova.conf is not part of it. See with
    --show what it is before you send it.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        base.add_root(parser)
        base.add_links(parser)
        base.add_cc_mode(parser)
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
        parser.add_argument(
            "--show",
            action="store_true",
            help="print every file of the archive as it would be in it, and"
            " write nothing",
        )
        return parser

    def take_action(self, parsed_args):
        """Write the archive."""
        tree = base.open_tree(parsed_args)
        if parsed_args.baseboard is not None:
            raise exception.BadInput(
                source="--baseboard",
                reason="is not captured: give it when the capture is examined",
            )
        if parsed_args.show and (parsed_args.file or parsed_args.force):
            raise exception.BadInput(
                source="--show",
                reason="writes no file: give it without FILE and --force",
            )
        entries = capture.generate_entries(
            tree,
            base.read_sources(tree, parsed_args),
            base.read_cc_modes(tree, parsed_args),
        )
        if parsed_args.show:
            for line in archive.show(entries):
                self.app.stdout.write(f"{line}\n")
        else:
            self._save(tree, entries, parsed_args)
        for problem, error in sorted(tree.problems.items()):
            self.app.warn(f"not read: {problem}: {error}")

    def _save(self, tree, entries, parsed_args):
        path = parsed_args.file or capture.name_archive(tree)
        top = capture.name_top(tree)
        is_packed = path.endswith("gz")
        if path == "-":
            where = "standard output"
            # Nothing is written if something cannot be read.
            whole = io.BytesIO()
            count = archive.write(entries, top, whole, is_packed)
            sys.stdout.buffer.write(whole.getvalue())
            sys.stdout.buffer.flush()
        else:
            with saving.replace(path, parsed_args.force) as file:
                count = archive.write(entries, top, file, is_packed)
            where = os.path.abspath(path)
        self.app.warn(f"wrote {count} entries to {where}")
