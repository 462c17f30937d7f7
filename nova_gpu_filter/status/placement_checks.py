# SPDX-License-Identifier: Apache-2.0

"""Whether Placement answers, and knows what the aliases ask for.

Each check raises PlacementError where Placement does not answer.
"""

import re

import microversion_parse
import os_traits

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet.hosts import cut_domain
from nova_gpu_filter.status import client
from nova_gpu_filter.status import pci
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node

_LONG_SECONDS = 15
"""Longer than nova-scheduler takes from its start to its first request."""


def check_api(node: Node) -> results.Result:
    """Ask Placement for its version, as nova-status does."""
    try:
        newest = node.placement.get("/")["versions"][0]["max_version"]
    except (errors.Failed, KeyError, IndexError, TypeError):
        return results.fail(
            "Something else than Placement answers at its endpoint: correct"
            " the endpoint in the service catalog, or"
            " [placement]endpoint_override."
        )
    needed = client.MICROVERSION
    if microversion_parse.parse_version_string(
        newest
    ) < microversion_parse.parse_version_string(needed):
        return results.fail(
            f"Placement knows microversion {newest}, Nova needs {needed}:"
            " upgrade Placement."
        )
    return results.succeed()


def check_workers(node: Node) -> results.Result:
    """Look whether workers of nova-scheduler would share a connection.

    Its parent asks for the versions of Placement before it forks
    (``SchedulerManager.__init__``), and keeps the connection. A worker that
    asks before Placement has closed it reads the answers of others.
    """
    workers = node.conf.scheduler.workers
    headers = node.placement.get("/").headers
    # Apache names its time; who names none cannot be told from here.
    found = re.search(r"timeout=(\d+)", headers.get("Keep-Alive", ""))
    if workers == 1 or not found or int(found[1]) <= _LONG_SECONDS:
        return results.succeed()
    return results.warn(
        f"Placement keeps connections open for {found[1]} seconds, so that"
        " the workers of nova-scheduler share one when they start, and the"
        " first requests can fail with JSONDecodeError or IncompleteRead:"
        " let its web server close them sooner (KeepAliveTimeout 5), or set"
        " [scheduler]workers = 1."
    )


def check_reported(node: Node) -> results.Result:
    """Look whether nova-compute is told to stop what cannot be stopped.

    It does not start without ``report_in_placement`` when devices of its host
    are in Placement (``ensure_tracking_was_not_enabled_before`` in
    nova/compute/pci_placement_translator.py).
    """
    if node.conf.pci.report_in_placement:
        return results.succeed()
    body = node.placement.get(
        f"/resource_providers?required={os_traits.COMPUTE_MANAGED_PCI_DEVICE}"
    )
    own = cut_domain(node.conf.host)
    there = [
        provider["name"]
        for provider in body["resource_providers"]
        # <hypervisor hostname>_<address>; the hypervisor may add a domain.
        if cut_domain(provider["name"].rpartition("_")[0]) == own
    ]
    if there:
        return results.fail(
            f"[pci]report_in_placement is not true, but Placement has"
            f" {len(there)} PCI devices of this host, such as {there[0]}:"
            " nova-compute does not start, since Nova cannot take them back."
            " Write [pci]report_in_placement = true."
        )
    return results.succeed()


def check_names(node: Node) -> results.Result:
    """Look whether Placement knows what the aliases ask for.

    It refuses a question with a name that it does not know, so a server with
    such an alias ends in an error; nova-compute makes the names when it
    reports devices.
    """
    try:
        aliases = pci.read_aliases(node)
    except pci.UnreadableError:
        return results.does_not_apply("[pci]alias cannot be read, see above.")
    asked = {name: specs[0] for name, specs in aliases.items()}
    body = node.placement.get("/resource_classes")
    classes = {found["name"] for found in body["resource_classes"]}
    wanted = sorted({trait for one in asked.values() for trait in one.traits})
    traits = set()
    if wanted:
        body = node.placement.get(f"/traits?name=in:{','.join(wanted)}")
        traits = set(body["traits"])
    problems = []
    for name, one in sorted(asked.items()):
        unknown = [
            *({one.resource_class} - classes),
            *sorted(one.traits - traits),
        ]
        if unknown:
            problems.append(
                results.warn(
                    f"[pci]alias {name} asks for {' and '.join(unknown)},"
                    " which no host has reported: correct its resource_class"
                    " and traits, or those of [pci]device_spec on the"
                    " computes."
                )
            )
    return results.combine(problems)
