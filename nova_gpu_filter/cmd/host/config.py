# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host config``."""

import dataclasses

from nova_gpu_filter import exception
from nova_gpu_filter import files
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.checks import vgpus
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.configuration import common_aliases
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import mediated
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.configuration import saving
from nova_gpu_filter.host.saved import inventory_json
from nova_gpu_filter.nova_rules import resource_groups

# What binds devices at boot: how it is written, and what it is.
_BOOT = {
    "--cmdline": (
        binding.write_cmdline,
        "the kernel's command line arguments instead",
    ),
    "--modprobe": (
        binding.write_modprobe,
        "a file for /etc/modprobe.d instead",
    ),
    "--udev": (
        binding.write_udev,
        "rules for /etc/udev/rules.d instead, which bind by address",
    ),
}


class Config(command.Command):
    """Write the nova.conf that offers the devices of a host.

    With --role compute (the default) it prints one [pci]device_spec a
    device, for nova-compute on this host. With --role controller it prints
    [pci]alias lines for the devices of all INVENTORY files ("inventory -f
    json" of each host), or of this host if none is given, and reports in
    what the hosts differ. With --cmdline, --modprobe or --udev it prints
    what binds the devices to vfio-pci at boot. With --mdev-type it offers
    mediated devices (vGPUs) by [devices]enabled_mdev_types. Nothing is
    applied.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        parser.add_argument(
            "inventory",
            metavar="INVENTORY",
            nargs="*",
            help="output of 'nova-gpu-host inventory -f json' to take in the"
            " place of this host; several with --role controller",
        )
        parser.add_argument(
            "--role",
            choices=("compute", "controller"),
            default="compute",
            help="whose nova.conf; default compute",
        )
        what = parser.add_mutually_exclusive_group()
        for option, (write, printed) in _BOOT.items():
            what.add_argument(
                option,
                dest="boot",
                action="store_const",
                const=write,
                help=f"print {printed}",
            )
        what.add_argument(
            "--provider-config",
            metavar="NODE",
            help="print a file for /etc/nova/provider_config instead, which"
            " gives the providers of mediated devices a trait of their type;"
            " NODE is the name of the compute node's resource provider",
        )
        self._add_choices(parser)
        parser.add_argument(
            "--write",
            metavar="FILE",
            help="write to FILE in place of printing; a FILE that is there is"
            " kept as FILE.<time>.bak",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="let --write replace a file that nova-gpu-host has not"
            " written",
        )
        return parser

    def _add_choices(self, parser) -> None:
        group = parser.add_argument_group("what to offer")
        group.add_argument(
            "--device",
            metavar="ADDRESS",
            action="append",
            default=[],
            help="offer this device and no others; can be repeated",
        )
        group.add_argument(
            "--nics", action="store_true", help="offer the RDMA NICs, too"
        )
        group.add_argument(
            "--nvswitches",
            action="store_true",
            help="offer the NVSwitches, too (full passthrough)",
        )
        group.add_argument(
            "--whole-cards",
            action="store_true",
            help="offer the other functions of a GPU's card (audio, USB), too;"
            " Nova does not know that they belong together, so a host should"
            " have one such card, or its guests should get all",
        )
        group.add_argument(
            "--resource-class",
            metavar="NAME",
            action="append",
            default=[],
            help="resource class of all GPUs; with ids before it, such as"
            " 10de:2330=CUSTOM_GPU_H100, of these devices; default is made of"
            " the model; can be repeated",
        )
        group.add_argument(
            "--alias",
            metavar="NAME",
            action="append",
            default=[],
            help="alias of all GPUs; with ids before it, such as"
            " 10de:2330=h100, of these devices; default is made of the model;"
            " can be repeated",
        )
        group.add_argument(
            "--numa-policy",
            choices=("required", "legacy", "preferred", "socket"),
            help="numa_policy of the aliases",
        )
        group.add_argument(
            "--managed",
            choices=("yes", "no"),
            help="set the tag managed: whether libvirt binds the devices to"
            " vfio-pci and back",
        )
        group.add_argument(
            "--live-migratable",
            action="store_true",
            help="say that the devices can be live-migrated; needs a variant"
            " driver of vfio-pci that can",
        )
        group.add_argument(
            mediated.OPTION,
            metavar="TYPE[=ADDRESS,...]",
            action="append",
            default=[],
            help="offer mediated devices (vGPUs) of this type, by its id or"
            " its name as 'nova-gpu-host show' has them, of these devices or"
            " of all that can carry it, which are then not offered as a whole;"
            " can be repeated",
        )
        group.add_argument(
            mediated.CLASS_OPTION,
            metavar="TYPE=CLASS",
            action="append",
            default=[],
            help="resource class of the mediated devices of a type; default"
            f" {resource_groups.VGPU}; can be repeated",
        )
        group.add_argument(
            "--no-links",
            action="store_true",
            help="leave out gpu_links and the traits of links",
        )
        group.add_argument(
            "--report-in-placement",
            action="store_true",
            help="set [pci]report_in_placement, or for a controller"
            " [filter_scheduler]pci_in_placement",
        )
        group.add_argument(
            "--one-time-use",
            action="store_true",
            help="have Nova (32 or later) keep a device from servers after"
            " each use, until nova-gpu-agent has cleaned it; needs"
            " --report-in-placement; VFs are left as they are",
        )

    def take_action(self, parsed_args):
        """Print or write what was asked for."""
        options = self._read_options(parsed_args)
        self._check_mediated(parsed_args)
        if parsed_args.boot:
            text = self._write_boot(parsed_args, options)
        elif parsed_args.role == "controller":
            text = self._write_controller(parsed_args, options)
        else:
            text = self._write_compute(parsed_args, options)
        if parsed_args.write is None:
            self.app.stdout.write(text)
            return
        if parsed_args.boot or parsed_args.provider_config is not None:
            raise exception.BadInput(
                source="--write",
                reason="is for nova.conf; send this to a file yourself",
            )
        backup = saving.save(parsed_args.write, text, parsed_args.force)
        self.app.warn(
            f"wrote {parsed_args.write}"
            + (f"; the old file is {backup}" if backup else "")
        )

    def _read_options(self, parsed_args):
        if parsed_args.one_time_use and not parsed_args.report_in_placement:
            raise exception.BadInput(
                source="--one-time-use",
                reason="needs --report-in-placement: Nova reserves a device"
                " in Placement",
            )
        return fragment.Options(
            names=naming.Choices(
                naming.parse_choices(
                    "--resource-class", parsed_args.resource_class
                ),
                naming.parse_choices("--alias", parsed_args.alias),
            ),
            only=tuple(
                base.parse_address(text, f"--device {text}")
                for text in parsed_args.device
            ),
            nics=parsed_args.nics,
            nvswitches=parsed_args.nvswitches,
            whole_cards=parsed_args.whole_cards,
            managed=parsed_args.managed,
            live_migratable=parsed_args.live_migratable,
            one_time_use=parsed_args.one_time_use,
            links=not parsed_args.no_links,
            report_in_placement=parsed_args.report_in_placement,
        )

    def _check_mediated(self, parsed_args) -> None:
        """Refuse options of mediated devices where they have no effect."""
        given = parsed_args.mdev_type
        if given and (parsed_args.boot or parsed_args.role == "controller"):
            raise exception.BadInput(
                source=f"{mediated.OPTION} {given[0]}",
                reason="is for the nova.conf of a compute node",
            )
        for option, value in (
            (mediated.CLASS_OPTION, parsed_args.mdev_class),
            ("--provider-config", parsed_args.provider_config),
        ):
            if value and not given:
                raise exception.BadInput(
                    source=option, reason=f"needs {mediated.OPTION}"
                )
        if parsed_args.provider_config == "":
            raise exception.BadInput(
                source="--provider-config",
                reason="name the resource provider of the compute node",
            )

    def _read_hosts(self, parsed_args):
        if parsed_args.inventory:
            return [
                inventory_json.read(
                    path, base.read_file(path, files.DOCUMENT_BYTES)
                )
                for path in parsed_args.inventory
            ]
        return [base.read_host(parsed_args)[1:]]

    def _require(self, hosts, options) -> None:
        """Refuse to write an empty fragment, or one without what was named."""
        known = {
            device.address for host, _ in hosts for device in host.devices
        }
        for address in options.only:
            if address not in known:
                raise exception.BadInput(
                    source=f"--device {address}",
                    reason="no GPU, NVSwitch or RDMA NIC; there are:"
                    f" {' '.join(map(str, sorted(known))) or 'none'}",
                )
        if not any(
            fragment.choose_devices(host, options) for host, _ in hosts
        ):
            reasons = [
                "there is no device to offer (what the host needs itself, such"
                " as the display of the console, is offered only if it is"
                " named with --device)"
            ]
            for host, _ in hosts:
                reasons += fragment.list_notes(host, options)
            raise exception.BadInput(
                source=", ".join(host.hostname for host, _ in hosts),
                reason="; ".join(reasons),
            )

    def _write_compute(self, parsed_args, options):
        hosts = self._read_hosts(parsed_args)
        if len(hosts) > 1:
            raise exception.BadInput(
                source="config",
                reason="several inventories need --role controller: the"
                " device_spec of one compute node fits no other",
            )
        ((host, host_links),) = hosts
        groups = mediated.choose(
            host, parsed_args.mdev_type, parsed_args.mdev_class
        )
        if parsed_args.provider_config is not None:
            import yaml

            return yaml.safe_dump(
                mediated.make_provider_config(
                    parsed_args.provider_config, groups
                ),
                sort_keys=False,
            )
        options = dataclasses.replace(options, mdevs=groups)
        if not groups:
            self._require(hosts, options)
        for problem in host.problems:
            self.app.warn(f"not read: {problem}")
        chosen = fragment.choose_devices(host, options)
        for note in (
            # Links are told of what is offered as a whole.
            *(host_links.notes if chosen else ()),
            *fragment.list_notes(host, options),
            *mediated.list_full(groups),
        ):
            self.app.warn(note)
        fixed = [
            str(one.address) for one in chosen if not vgpus.can_migrate(one)
        ]
        if options.live_migratable and fixed:
            self.app.warn(
                "live_migratable is set, but the driver of these cannot"
                f" migrate them: {' '.join(fixed)}"
            )
        return fragment.write(host, host_links, options)

    def _write_controller(self, parsed_args, options):
        hosts = self._read_hosts(parsed_args)
        self._require(hosts, options)
        for line in common_aliases.find_differences(hosts, options):
            self.app.warn(f"drift: {line}")
        return common_aliases.write(hosts, options, parsed_args.numa_policy)

    def _write_boot(self, parsed_args, options):
        if parsed_args.inventory:
            raise exception.BadInput(
                source=parsed_args.inventory[0],
                reason="--cmdline, --modprobe and --udev read the host's"
                " files, not an inventory",
            )
        tree, host, host_links = base.read_host(parsed_args)
        self._require([(host, host_links)], options)
        for note in fragment.list_notes(host, options):
            self.app.warn(note)
        chosen = fragment.choose_devices(host, options)
        return parsed_args.boot(Context(tree, host), chosen)
