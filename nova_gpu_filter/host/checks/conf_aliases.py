# SPDX-License-Identifier: Apache-2.0

"""Holds the aliases of a nova.conf against the devices that it offers.

What Nova does with them: nova/pci/request.py (parsing), nova/pci/stats.py
(``_filter_pools_for_spec`` and what follows it).
"""

from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.conf_findings import Taken
from nova_gpu_filter.host.checks.conf_findings import list_addresses
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.nova_rules import alias as alias_rules
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec
from nova_gpu_filter.nova_rules.pci_options import PciOptions

_CONTROLLER = "nova-gpu-host config --role controller"


def check(options: PciOptions, host: Inventory, taken: Taken) -> Findings:
    """Check every alias of a file.

    :param taken: the devices that the device specs offer, and which does.
    """
    everything = fragment.Options(nics=True, nvswitches=True)
    (no_tags,) = device_spec.parse("{}")
    hardware = [
        (function, no_tags)
        for function in fragment.choose_devices(host, everything)
    ]
    aliases: list[Alias] = []
    for text in options.aliases:
        try:
            aliases.append(alias_rules.parse(text))
        except alias_rules.AliasError as error:
            yield CHECK.error(
                "Nova refuses this alias, and every flavor that names one:"
                f" {error}",
                Evidence(options.source, text),
                cures=(_CONTROLLER,),
            )
    yield from _check_contradictions(options, aliases)
    for alias in aliases:
        if alias.doubled:
            yield CHECK.warning(
                f"{', '.join(alias.doubled)} stands twice in alias"
                f" {alias.name}: the last one counts",
                Evidence(options.source, alias.text),
                cures=("# write each key once",),
            )
        yield from _check_alias(options, alias, taken, hardware)
    if aliases and taken:
        yield from _check_out_of_reach(options, aliases, taken)


def _check_contradictions(
    options: PciOptions, aliases: list[Alias]
) -> Findings:
    first: dict[str, Alias] = {}
    for alias in aliases:
        other = first.setdefault(alias.name, alias)
        if other is alias:
            continue
        for key in ("device_type", "numa_policy"):
            values = (getattr(other, key), getattr(alias, key))
            if values[0] != values[1]:
                what = f"with {key} {values[0]} and {values[1]}"
            elif values[0] is None:
                # Nova looks it up in both, and finds it in neither.
                what = f"twice, without {key}"
            else:
                continue
            yield CHECK.error(
                f"alias {alias.name} is there {what}: Nova refuses all"
                " aliases",
                Evidence(options.source, alias.text),
                cures=(f"# give both the same {key}, or other names",),
            )


def _list_offered(
    alias: Alias, taken: Taken
) -> list[tuple[Function, DeviceSpec]]:
    """List the offered devices that an alias means."""
    return [
        (function, spec)
        for function, spec in taken
        if alias.matches_ids(function.vendor_id, function.product_id)
        and (
            alias.vendor_id is not None
            or alias.resource_class
            == spec.get_resource_class(function.vendor_id, function.product_id)
        )
        # For Neutron ports, which have no alias.
        and not spec.tags.get("physical_network")
    ]


def _check_alias(
    options: PciOptions, alias: Alias, taken: Taken, hardware: Taken
) -> Findings:
    is_offered = bool(_list_offered(alias, taken))
    offered = _list_offered(alias, taken if is_offered else hardware)
    if not offered:
        if alias.vendor_id is not None:
            # All nodes have the aliases of the whole cloud.
            yield CHECK.note(
                f"alias {alias.name} asks for devices that this host does not"
                " have: right if other hosts do",
                Evidence(options.source, alias.text),
            )
        return
    fitting = [
        function
        for function, _ in offered
        if function.nova_type in alias.allowed_types
    ]
    if not fitting:
        types = sorted({function.nova_type for function, _ in offered})
        asked = (
            f"asks for {alias.device_type}"
            if alias.device_type is not None
            else "has no device_type, which leaves out type-PF"
        )
        yield CHECK.error(
            f"alias {alias.name} {asked}, but the devices with these ids are"
            f" {' or '.join(types)} here"
            f" ({list_addresses([one for one, _ in offered])}): no server gets"
            " one",
            Evidence(options.source, alias.text),
            cures=(
                f'# write "device_type": "{types[0]}" into alias'
                f" {alias.name}, here and for nova-api",
            ),
        )
        return
    if is_offered:
        yield from _check_migration(options, alias, offered)
        yield from _check_number(options, alias, fitting, offered)
        if options.report_in_placement:
            yield from _check_placement(options, alias, offered)


def _check_placement(
    options: PciOptions, alias: Alias, offered: Taken
) -> Findings:
    """Find an alias that asks Placement for what no device has there.

    nova/objects/request_spec.py: the resource class of the alias, else one of
    its ids, and all of its traits.
    """
    reported = [
        (
            spec.get_resource_class(function.vendor_id, function.product_id),
            spec.reported_traits,
        )
        for function, spec in offered
    ]
    classes = sorted({name for name, _ in reported})
    if alias.resource_class not in classes:
        what = f"{alias.resource_class}, and its devices are reported as"
        what += f" {' and '.join(classes)}"
        cure = f'"resource_class": "{classes[0]}"'
    elif not any(
        alias.traits <= traits
        for name, traits in reported
        if name == alias.resource_class
    ):
        missing = alias.traits - frozenset().union(
            *(traits for _, traits in reported)
        )
        what = "traits that no device_spec of its devices gives" + (
            f": {', '.join(sorted(missing))}" if missing else " together"
        )
        cure = "the traits of the device_spec"
    else:
        return
    yield CHECK.warning(
        f"alias {alias.name} asks Placement for {what}: with"
        " [filter_scheduler]pci_in_placement no server gets one",
        Evidence(options.source, alias.text),
        cures=(
            f"# write {cure} into alias {alias.name}, here and for nova-api",
        ),
    )


def _check_migration(
    options: PciOptions, alias: Alias, offered: Taken
) -> Findings:
    """Find an alias whose live_migratable no device spec has.

    A device without the tag is given to nobody who asks for "no".
    """
    wanted = alias.live_migratable
    found = {spec.read_tag("live_migratable") for _, spec in offered}
    if wanted is not None and wanted not in found:
        word = "yes" if wanted else "no"
        yield CHECK.error(
            f"alias {alias.name} asks for live_migratable {word}, and no"
            " device_spec of its devices says so: no server gets one",
            Evidence(options.source, alias.text),
            cures=(
                f'# write "live_migratable": "{word}" into the device_spec,'
                " or take it out of the alias",
            ),
        )


def _check_number(
    options: PciOptions, alias: Alias, fitting: list[Function], offered: Taken
) -> Findings:
    """Count the devices for an alias against those with its ids."""
    if len(fitting) == len(offered):
        return
    others = [function for function, _ in offered if function not in fitting]
    yield CHECK.warning(
        f"alias {alias.name} gets {len(fitting)} of the {len(offered)} devices"
        " with its ids that are offered; the others are"
        f" {' or '.join(sorted({one.nova_type for one in others}))}:"
        f" {list_addresses(others)}",
        Evidence(options.source, alias.text),
        cures=("# give the others an alias of their device_type",),
    )


def _check_out_of_reach(
    options: PciOptions, aliases: list[Alias], taken: Taken
) -> Findings:
    """Find offered devices that no alias of the file asks for."""
    meant = {
        function.address
        for alias in aliases
        for function, _ in _list_offered(alias, taken)
    }
    left = [
        function
        for function, spec in taken
        if function.address not in meant
        and not spec.tags.get("physical_network")
    ]
    if left:
        yield CHECK.warning(
            f"no alias of this file asks for {len(left)} of the"
            f" {len(taken)} devices that are offered: {list_addresses(left)}",
            Evidence(options.source, "[pci]alias"),
            cures=(_CONTROLLER,),
        )
