# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu quota``."""

import argparse
from collections.abc import Sequence

from osc_lib.cli import format_columns
from osc_lib.command import command

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import identity
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.osc import base


class ShowQuota(command.Lister, base.GpuCommand):
    """List limits and usage of the resource classes of aliases, by project.

    Limits are Keystone's unified limits; a * is one that the project has of
    its own. Over is what a project uses above its limit. Without --project,
    projects that have neither a limit of their own nor any of these devices
    are left out; each project costs a request. A member of a project sees its
    own. Without aliases, resource classes are those that have limits. What has
    to be registered is said on standard error.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_name(
            parser,
            "--project",
            "only this project (name or UUID); can be given again",
            action="append",
            default=[],
        )
        base.add_alias_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        known = base.read_aliases(parsed_args)
        placement = self.services.placement
        with api.Together() as together:
            limits = together.ask(self.read_limits)
            projects = identity.distinguish(
                self._read_projects(parsed_args.project)
            )
            classes = quota.map_names_by_class(known.by_name.values())
            if not known.by_name:
                classes = quota.list_limited_classes(limits())
            if not classes:
                raise errors.NoAliases(source=known.source)
        shown = []
        for uuid, usages in api.ask_all(
            lambda uuid: provider_trees.read_usages(placement, uuid),
            sorted(projects, key=lambda uuid: projects[uuid]),
        ):
            rows = list(
                quota.list_project_quotas(
                    uuid, projects[uuid], classes, limits(), usages
                )
            )
            if len(projects) == 1 or any(r.is_own or r.used for r in rows):
                shown += rows
        for line in quota.list_registrations(classes, limits()):
            self.app.stderr.write(f"No limit is registered: {line}\n")
        return (
            "Project",
            "Resource Class",
            "Aliases",
            "Limit",
            "Used",
            "Left",
            "Over",
        ), [
            (
                row.project,
                row.resource_class,
                format_columns.ListColumn(list(row.aliases)),
                _format_limit(row),
                row.used,
                "" if row.left is None else row.left,
                f"{row.excess} above limit" if row.excess else "",
            )
            for row in shown
        ]

    def _read_projects(self, names: Sequence[str]) -> dict[str, str]:
        """Read the projects to show: those named, else all that we may see,
        which for a member is its own."""
        own = self.services.own_project
        if names:
            return dict(
                own
                if own is not None and name in own
                else identity.find_project(self.services.identity, name)
                for name in names
            )
        try:
            return identity.read_projects(self.services.identity)
        except errors.NotAllowed:
            if own is None:
                raise
            return dict([own])


def _format_limit(row: quota.Quota) -> str:
    if row.limit is None:
        return "not registered"
    text = "unlimited" if row.limit < 0 else str(row.limit)
    return f"{text} *" if row.is_own else text
