# SPDX-License-Identifier: Apache-2.0

"""Writes the aliases of a fleet, and tells in what its hosts differ."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from nova_gpu_filter import sizes
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.topology import codec

Host = tuple[Inventory, HostLinks]


def make_aliases(
    hosts: Sequence[Host],
    options: fragment.Options,
    numa_policy: str | None = None,
) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Make one alias for each kind of device in the fleet.

    :returns: the aliases, and the host names by alias.
    """
    # What one alias asks for: ids, device type and resource class.
    found: dict[tuple[str, str, str], tuple[Function, list[str]]] = {}
    for host, _ in hosts:
        for function in fragment.choose_devices(host, options):
            resource_class = naming.name_resource_class(
                function, options.names
            )
            kind = (function.ids, function.nova_type, resource_class or "")
            names = found.setdefault(kind, (function, []))[1]
            if host.hostname not in names:
                names.append(host.hostname)
    taken = collections.Counter(
        naming.name_alias(function, options.names)
        for function, _ in found.values()
    )
    made = []
    hosts_by_alias = {}
    for kind in sorted(found):
        ids, device_type, resource_class = kind
        function, names = found[kind]
        vendor_id, product_id = ids.split(":")
        name = naming.name_alias(function, options.names)
        if taken[name] > 1:
            # Nova wants one device type, and with Placement one spec, a name.
            short_type = device_type.removeprefix("type-").lower()
            name = f"{name}-{vendor_id}-{product_id}-{short_type}"
        alias = {
            "name": name,
            "vendor_id": vendor_id,
            "product_id": product_id,
            "device_type": device_type,
        }
        if resource_class:
            alias["resource_class"] = resource_class
        if numa_policy is not None:
            alias["numa_policy"] = numa_policy
        if options.live_migratable:
            alias["live_migratable"] = "yes"
        made.append(alias)
        hosts_by_alias[name] = names
    return made, hosts_by_alias


def write(
    hosts: Sequence[Host],
    options: fragment.Options,
    numa_policy: str | None = None,
) -> str:
    """Write the fragment for nova-api, nova-scheduler and nova-conductor."""
    names = " ".join(host.hostname for host, _ in hosts)
    lines = [
        f"{fragment.MARK} for {names}.",
        "# For nova-api, and for each nova-compute for move operations.",
    ]
    for line in find_differences(hosts, options):
        lines += fragment.write_comment(f"Drift: {line}")
    if options.report_in_placement:
        lines += ["", "[filter_scheduler]", "pci_in_placement = true"]
    lines += ["", "[pci]"]
    made, hosts_by_alias = make_aliases(hosts, options, numa_policy)
    for alias in made:
        lines += [
            "",
            *fragment.write_comment(
                f"{alias['vendor_id']}:{alias['product_id']} on"
                f" {' '.join(hosts_by_alias[alias['name']])}"
            ),
            fragment.write_option("alias", alias),
        ]
    return printed.join_lines(lines)


def find_differences(
    hosts: Sequence[Host], options: fragment.Options
) -> list[str]:
    """Tell which hosts differ from most hosts with the same devices.

    Hosts are compared within a kind: those that have devices of the same
    ids. Ties are decided for what the first host has.
    """
    counted = collections.Counter(host.hostname for host, _ in hosts)
    found = [
        f"{name}: this host name stands in several inventories"
        for name, count in counted.items()
        if count > 1
    ]
    kinds: dict[tuple[str, ...], list[Host]] = {}
    for host, host_links in hosts:
        ids = sorted(
            {one.ids for one in fragment.choose_devices(host, options)}
        )
        kinds.setdefault(tuple(ids), []).append((host, host_links))
    for alike in kinds.values():
        facts = [
            (host.hostname, dict(_list_facts(host, host_links, options)))
            for host, host_links in alike
        ]
        for name in facts[0][1]:
            values = collections.Counter(fact[name] for _, fact in facts)
            usual, number = values.most_common(1)[0]
            for hostname, fact in facts:
                if fact[name] != usual:
                    found.append(
                        f"{hostname}: {name} {fact[name]}; {usual} on"
                        f" {number} of {len(facts)} hosts"
                    )
    types = collections.defaultdict(set)
    for host, _ in hosts:
        for one in fragment.choose_devices(host, options):
            types[one.ids].add(one.nova_type)
    found.extend(
        f"{ids} is {' and '.join(sorted(several))}: no alias fits both"
        for ids, several in types.items()
        if len(several) > 1
    )
    return found


def _describe_pcie(function: Function) -> str:
    link = function.pcie_link
    return f"{link.speed} x{link.width}" if link else "unknown"


_FACTS: Mapping[str, Callable[[Function], str]] = {
    "NUMA nodes": lambda one: (
        "unknown" if one.numa_node is None else str(one.numa_node)
    ),
    "type": lambda one: one.nova_type,
    "driver": lambda one: one.driver or "none",
    "board": lambda one: (
        f"{one.subvendor_id or 0:04x}:{one.subproduct_id or 0:04x}"
    ),
    "revision": lambda one: f"{one.revision or 0:02x}",
    "BARs": lambda one: sizes.format_size(one.bar_bytes),
    "PCIe": _describe_pcie,
}
"""What should be the same of devices with the same ids."""


def _list_facts(
    host: Inventory,
    host_links: HostLinks,
    options: fragment.Options,
) -> Iterator[tuple[str, str]]:
    """Give what should be the same on hosts of a kind, as (name, value)."""
    devices = fragment.choose_devices(host, options)
    yield "kernel", host.kernel or "not known"
    for ids in sorted({one.ids for one in devices}):
        those = [one for one in devices if one.ids == ids]
        yield f"{ids}: number", str(len(those))
        for name, describe in _FACTS.items():
            yield f"{ids}: {name}", _count_values(map(describe, those))
    whole = [one for one in devices if one.address in host_links.place]
    described = host_links.build_device_links(whole)
    texts = [codec.format_text(described[one.address]) or "-" for one in whole]
    yield "links", " ".join(texts) or "none"
    known = all(
        host_links.is_certain(a, b) for a in whole for b in whole if a is not b
    )
    yield "NVLinks", "known" if known else "unknown"


def _count_values(values: Iterable[str]) -> str:
    """Write values with how often each occurs: ``4x 0, 4x 1``."""
    counted = collections.Counter(values)
    if len(counted) == 1:
        return next(iter(counted))
    return ", ".join(
        f"{count}x {value}" for value, count in sorted(counted.items())
    )
