# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu quota``."""

import argparse
from collections.abc import Iterable
from typing import Any

from osc_lib.command import command

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import identity
from nova_gpu_filter.fleet import placement
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.fleet import service
from nova_gpu_filter.osc import aliases
from nova_gpu_filter.osc import base


class ShowQuota(command.Lister, base.GpuCommand):
    """List limits and usage of the resource classes of aliases, by project.

    Limits are Keystone's unified limits; a * is one that the project has of
    its own. Without --project, projects that have neither a limit of their
    own nor any of these devices are left out; each project costs a request.
    What has to be registered is said on standard error.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--project",
            metavar="<project>",
            action="append",
            default=[],
            help="only this project (name or UUID); can be given again",
        )
        aliases.add_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        """List the quota."""
        known = aliases.read(parsed_args)
        if not known.by_name:
            raise errors.Unknown(
                kind="alias in",
                name=known.source,
                hint=": give the nova.conf of a controller with --nova-conf,"
                " or --alias",
            )
        classes = quota.names_by_class(known.by_name.values())
        keystone = self.services.identity
        limits = identity.read_limits(
            keystone, getattr(self.app.client_manager, "region_name", None)
        )
        if parsed_args.project:
            projects = dict(
                identity.find_project(keystone, name)
                for name in parsed_args.project
            )
        else:
            projects = identity.read_projects(keystone)
        shown = []
        for uuid, usages in service.ask_all(
            lambda uuid: placement.read_usages(self.services.placement, uuid),
            sorted(projects, key=lambda uuid: projects[uuid]),
        ):
            rows = list(
                quota.of_project(uuid, projects[uuid], classes, limits, usages)
            )
            if parsed_args.project or any(r.is_own or r.used for r in rows):
                shown += rows
        for line in quota.to_register(classes, limits):
            self.app.stderr.write(f"No limit is registered: {line}\n")
        return (
            "Project",
            "Resource Class",
            "Aliases",
            "Limit",
            "Used",
            "Left",
        ), [
            (
                row.project,
                row.resource_class,
                base.Words(list(row.aliases)),
                _limit(row),
                row.used,
                "" if row.left is None else row.left,
            )
            for row in shown
        ]


def _limit(row: quota.Quota) -> str:
    if row.limit is None:
        return "not registered"
    text = "unlimited" if row.limit < 0 else str(row.limit)
    return f"{text} *" if row.is_own else text
