# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu topology show``."""

import argparse

from nova_gpu_filter.drawing import svg
from nova_gpu_filter.drawing import text
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import host_picture
from nova_gpu_filter.osc import base


class ShowTopology(base.GpuCommand):
    """Draw the devices of a host, how they are linked, and who has them.

    Devices stand below their NUMA nodes and PCIe switches; a column is an
    NVLink group or a fabric partition. In the picture, colours are owners.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_name(parser, "host", "hypervisor hostname")
        files = parser.add_mutually_exclusive_group()
        base.add_name(
            files,
            "--svg",
            "write an SVG picture to this file",
            metavar="<file>",
        )
        base.add_name(
            files,
            "--html",
            "write a web page to this file",
            metavar="<file>",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        (host,) = self.read_hosts(parsed_args.host)
        owners = host_picture.list_owners(host, self.read_holders([host]))
        shown = host_picture.make(host, owners)
        if parsed_args.svg:
            _write(parsed_args.svg, svg.draw(shown))
        elif parsed_args.html:
            _write(parsed_args.html, svg.draw_page(shown))
        else:
            self.app.stdout.write(text.draw(shown) + "\n")


def _write(path: str, content: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as exc:
        raise errors.NotWritten(path=path, error=exc.strerror) from exc
