# SPDX-License-Identifier: Apache-2.0

"""What the devices in Placement need of it: links, extension, limits.

Each check raises PlacementError where Placement does not answer.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import contextlib

from nova_gpu_filter import conf as gpu_conf
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.status import limits
from nova_gpu_filter.status import pci
from nova_gpu_filter.status import results
from nova_gpu_filter.status import survey
from nova_gpu_filter.status.node import Node

APPLICATION = "nova_gpu_filter.placement.wsgi:application"
_MANY = 4
"""Stock Placement tries every order: 24 for 4 of 4 devices, 1,680 for 4 of 8,
20,160 for 6 of 8, which takes it 38 seconds."""
_FEW = 3
"""How many hosts a message names."""


def check_extension(node: Node) -> results.Result:
    """Look whether the Placement extension answers, everywhere."""
    if node.survey.composed == survey.PROBES:
        return _check_options(node)
    if node.survey.composed:
        return results.warn(
            f"Of {survey.PROBES} answers of Placement, {node.survey.composed}"
            " came with the extension: some of its APIs run without. Have"
            f" all run {APPLICATION}."
        )
    if node.survey.most < 2:
        return results.succeed(
            "Placement runs without the extension, and needs none: no host"
            " has two devices of a resource class."
        )
    if node.placement_conf is not None:
        # Where it cannot be read, the check of the limits says so.
        with contextlib.suppress(limits.UnreadableError):
            if limits.read(node.placement_conf).max_sets_per_tree == 0:
                return results.warn(
                    "The Placement extension is turned off by"
                    f" [gpu_filter]max_sets_per_tree = 0 in"
                    f" {node.placement_conf}."
                )
    return results.warn(
        "Placement runs without the extension, so the best linked devices may"
        " not be among its candidates: have its WSGI server run"
        f" {APPLICATION}."
    )


def _check_options(node: Node) -> results.Result:
    """Look whether the extension and the scheduler expect the same."""
    if node.placement_conf is None:
        return results.succeed()
    try:
        mix = limits.read(node.placement_conf).request_mix
    except limits.UnreadableError as exc:
        return results.warn(f"--placement-conf: {exc}.")
    if mix != gpu_conf.request_mix(node.conf):
        return results.warn(
            "[gpu_filter]request_mix is another in nova.conf than in"
            f" {node.placement_conf}, so Placement offers other devices than"
            " the scheduler would choose: give both the same."
        )
    return results.succeed()


def check_limits(node: Node) -> results.Result:
    """Look at the limits that Placement needs without the extension."""
    if node.survey.composed == survey.PROBES:
        return results.succeed("The extension answers in their place.")
    if node.survey.most <= _MANY:
        return results.succeed(
            f"Not needed: no host has more than {_MANY} devices of a resource"
            " class."
        )
    why = (
        f"Hosts have up to {node.survey.most} devices of a resource class, and"
        " without the extension Placement tries every order of them"
    )
    if node.placement_conf is None:
        return results.warn(
            f"{why}. See that its placement.conf has"
            f" {_join(limits.CURE.values())}; --placement-conf FILE lets this"
            " command check it."
        )
    try:
        missing = limits.read(node.placement_conf).missing
    except limits.UnreadableError as exc:
        return results.warn(f"--placement-conf: {exc}.")
    if missing:
        return results.warn(
            f"{why}. Write {_join(limits.CURE[name] for name in missing)} in"
            f" {node.placement_conf}, or use the extension."
        )
    return results.succeed()


def check_races(node: Node) -> results.Result:
    """Look whether Placement alone could give a device to two servers."""
    if node.survey.composed == survey.PROBES:
        return _check_tries_of_extension(node)
    if not node.survey.most:
        return results.succeed("Placement has no devices.")
    why = (
        "Without the extension Placement can give one device to servers that"
        " are created at the same time, of which nova-compute then refuses"
        " all but one"
    )
    if node.placement_conf is None:
        return results.warn(
            f"{why}. See that its placement.conf has {limits.ONE_TRY};"
            " --placement-conf FILE lets this command check it."
        )
    try:
        read = limits.read(node.placement_conf)
    except limits.UnreadableError as exc:
        return results.warn(f"--placement-conf: {exc}.")
    if read.max_sets_per_tree == 0:
        return results.succeed(
            "The extension sees to them, though it composes no answers."
        )
    if read.tries > 1:
        return results.warn(
            f"{why}. Write {limits.ONE_TRY} in {node.placement_conf}, or use"
            " the extension."
        )
    return results.succeed()


def _check_tries_of_extension(node: Node) -> results.Result:
    """Look for the option of Placement alone, left over beside ours."""
    if node.placement_conf is not None:
        # Where it cannot be read, the check of the limits says so.
        with contextlib.suppress(limits.UnreadableError):
            if limits.read(node.placement_conf).tries < 2:
                return results.warn(
                    "The extension sees to them, but may not try again what"
                    " lost a race, so that Nova has to: take"
                    f" {limits.TRIES} out of {node.placement_conf}."
                )
    return results.succeed("The extension sees to them.")


def check_links(node: Node) -> results.Result:
    """Look for hosts whose devices have no links that we know of."""
    try:
        aliases = pci.read_aliases(node)
    except pci.UnreadableError:
        return results.does_not_apply("[pci]alias cannot be read, see above.")
    wanted = {one.resource_class for many in aliases.values() for one in many}
    problems = []
    unknown: dict[str, list[str]] = {}
    for resource_class in sorted(wanted):
        for host in node.survey.hosts:
            devices = host.list_devices(resource_class)
            if len(devices) < 2:
                continue
            links = linked_devices.LinkedDevices.from_devices(devices)
            if links.problem:
                problems.append(
                    results.warn(
                        f"The links of {resource_class} on {host.name} cannot"
                        f" be read, and are not used: {links.problem}."
                    )
                )
            elif not links.knows_links:
                unknown.setdefault(resource_class, []).append(host.name)
    problems.extend(
        results.warn(
            f"The links of {resource_class} are not known on"
            f" {_list_few(hosts)}, so its devices are chosen by NUMA nodes:"
            " write there the [pci]device_spec that nova-gpu-host config"
            " gives."
        )
        for resource_class, hosts in unknown.items()
    )
    return results.combine(problems)


def check_owners(node: Node) -> results.Result:
    """Look for devices that Cyborg would give away as well."""
    names = [
        device.name
        for host in node.survey.hosts
        for device in host.devices
        if device.is_of_cyborg
    ]
    if not names:
        return results.succeed()
    return results.fail(
        f"Nova manages {_list_few(names, 'devices')}, and Cyborg reports the"
        " same (trait OWNER_CYBORG), so that both would give them away: take"
        " them out of [pci]device_spec of the compute nodes, or out of"
        " cyborg.conf."
    )


def _list_few(names: Sequence[str], what: str = "hosts") -> str:
    if len(names) <= _FEW:
        return _join(names)
    return f"{', '.join(names[:_FEW])} and {len(names) - _FEW} more {what}"


def _join(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
