# SPDX-License-Identifier: Apache-2.0

"""PCI aliases, device specs and the options for Placement, by themselves."""

from collections.abc import Iterable
from collections.abc import Iterator

from nova import exception as nova_exc
from nova.pci import devspec
from nova.pci import request
from nova.pci import whitelist

from nova_gpu_filter.nova_rules import alias as alias_rules
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import values
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node
from nova_gpu_filter.status.node import Role
from nova_gpu_filter.topology import codec


class UnreadableError(Exception):
    """Nova refuses the option; the message says why, and the cure."""


def read_aliases(node: Node) -> dict[str, list[alias_rules.Alias]]:
    """Let Nova read ``[pci]alias``, and take what it does not refuse.

    :returns: {alias: [what one value asks for, ...]}
    :raises UnreadableError: Nova refuses one.
    """
    # It is cached for the life of a service.
    request.get_alias_from_config.cache_clear()
    try:
        request.get_alias_from_config()
    except nova_exc.PciInvalidAlias as exc:
        text = (
            f"[pci]alias: Nova refuses it, and flavors that name an alias with"
            f" it: {str(exc).rstrip('.')}."
        )
        if not node.conf.filter_scheduler.pci_in_placement and any(
            "resource_class" in alias for alias in node.conf.pci.alias
        ):
            text += (
                " An alias that names a resource_class in the place of ids"
                " needs [filter_scheduler]pci_in_placement = true in nova-api,"
                " nova-scheduler, nova-conductor and nova-compute."
            )
        raise UnreadableError(text) from exc
    finally:
        request.get_alias_from_config.cache_clear()
    found: dict[str, list[alias_rules.Alias]] = {}
    for text in node.conf.pci.alias:
        alias = alias_rules.parse(text)
        found.setdefault(alias.name, []).append(alias)
    return found


def read_device_specs(node: Node) -> list[devspec.PciDeviceSpec]:
    """Let Nova read ``[pci]device_spec``, as nova-compute does.

    A spec with ``devname``, or with the address of one device, makes Nova look
    into the sysfs of this machine.

    :raises UnreadableError: Nova refuses one.
    """
    found = []
    for text in node.conf.pci.device_spec:
        try:
            found.extend(whitelist.Whitelist([text]).specs)
        # Nova checks little before it works with a value: an id that is no
        # string is an AttributeError.
        except Exception as exc:
            raise UnreadableError(
                f"[pci]device_spec = {text}: Nova refuses it, and nova-compute"
                f" does not start: {str(exc).rstrip('.')}. nova-gpu-host"
                " config writes one for each device."
            ) from exc
    return found


def check_aliases(node: Node) -> results.Result:
    """Let Nova parse the aliases."""
    try:
        aliases = read_aliases(node)
    except UnreadableError as exc:
        return results.fail(str(exc))
    if aliases:
        return results.combine(_check_keys("alias", node.conf.pci.alias))
    if Role.CONTROLLER in node.roles:
        return results.warn(
            "[pci]alias is not set: no flavor can ask for a GPU. nova-gpu-host"
            " config --role controller writes it."
        )
    return results.warn(
        "[pci]alias is not set: servers with GPUs cannot be resized or moved"
        " to or from this host. Write the aliases of nova-api here, too."
    )


def check_device_specs(node: Node) -> results.Result:
    """Let Nova parse the device specs, and read their links."""
    try:
        specs = read_device_specs(node)
    except UnreadableError as exc:
        return results.fail(str(exc))
    if not specs:
        return results.warn(
            "[pci]device_spec is not set: no server can have a GPU of this"
            " host. nova-gpu-host config writes it."
        )
    return results.combine(
        _find_spec_problems(node, specs),
        otherwise="nova-gpu-host check --nova-conf holds them against the"
        " hardware.",
    )


def _find_spec_problems(
    node: Node, specs: Iterable[devspec.PciDeviceSpec]
) -> Iterator[results.Result]:
    yield from _check_keys("device_spec", node.conf.pci.device_spec)
    for spec in specs:
        if spec.dev_name and node.conf.pci.report_in_placement:
            yield results.fail(
                f"[pci]device_spec with devname {spec.dev_name} and"
                " [pci]report_in_placement exclude each other, and"
                " nova-compute does not start: give its address."
            )
        tags = spec.get_tags()
        if codec.TAG in tags:
            yield from _check_links(tags)
    yield from _check_post_copy(node, specs)


def _check_keys(option: str, texts: Iterable[str]) -> Iterator[results.Result]:
    """Look for keys that stand twice in one object: JSON takes the last."""
    for text in texts:
        _, doubled = values.load_json(text)
        if doubled:
            yield results.warn(
                f"[pci]{option} = {text}: {', '.join(doubled)} stands twice in"
                " one object, and the last one counts: write each key once."
            )


def _check_post_copy(
    node: Node, specs: Iterable[devspec.PciDeviceSpec]
) -> Iterator[results.Result]:
    """Look for post-copy beside devices that can be live-migrated.

    QEMU refuses to migrate such a server if the switch to post-copy is
    allowed (Nova's admin/pci-passthrough, "Post-copy limitation").
    """
    can_move = any(
        # Nova writes the tag as true or false, whatever the word was.
        spec.get_tags().get("live_migratable") == "true"
        for spec in specs
    )
    if can_move and node.conf.libvirt.live_migration_permit_post_copy:
        yield results.warn(
            "[libvirt]live_migration_permit_post_copy is true, and a"
            " [pci]device_spec has live_migratable: QEMU refuses to"
            " live-migrate servers with such a device. Write"
            " [libvirt]live_migration_permit_post_copy = false."
        )


def _check_links(tags: dict[str, str]) -> Iterator[results.Result]:
    """Look whether the filter and the Placement extension see one thing."""
    text = str(tags[codec.TAG])
    try:
        tagged = codec.parse_text("[pci]device_spec", text)
        traits = codec.parse_traits(
            "[pci]device_spec",
            names.normalize_traits(tags.get("traits", "")),
        )
    except codec.LinkTextError as exc:
        yield results.fail(f"{exc}. nova-gpu-host config writes the links.")
        return
    if tagged != traits:
        yield results.warn(
            f"[pci]device_spec with gpu_links {text} has other links in"
            " its traits, by which the Placement extension goes: add"
            f" {','.join(codec.format_traits(tagged))}."
        )


def check_in_placement(node: Node) -> results.Result:
    """Look whether the options for PCI devices in Placement go together."""
    reports = node.conf.pci.report_in_placement
    asks = node.conf.filter_scheduler.pci_in_placement
    is_controller = Role.CONTROLLER in node.roles
    if Role.COMPUTE in node.roles and asks and not reports:
        return results.fail(
            "[filter_scheduler]pci_in_placement is true, but"
            " [pci]report_in_placement is not: the scheduler finds no GPU of"
            " this host. Write [pci]report_in_placement = true and restart"
            " nova-compute."
        )
    if is_controller and reports and not asks:
        return results.warn(
            "[pci]report_in_placement is true, but the scheduler does not ask"
            " Placement for devices, so nova-compute takes any: when all"
            " hosts report, write [filter_scheduler]pci_in_placement = true"
            " for nova-api, nova-scheduler and nova-conductor."
        )
    if reports and not asks:
        return results.succeed(
            "[filter_scheduler]pci_in_placement is not set here: needed in"
            " nova-compute, too, if an alias names a resource_class without"
            " ids."
        )
    uses_links = node.conf.gpu_filter.pool_matcher == "topology"
    if is_controller and uses_links and not asks:
        return results.warn(
            "PCI devices are not in Placement, so hosts are chosen by links"
            " but nova-compute takes any of their devices: set"
            " [pci]report_in_placement = true on every compute, then"
            " [filter_scheduler]pci_in_placement = true; or say that this is"
            " meant by [gpu_filter]pool_matcher = nova."
        )
    return results.succeed()
