# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host check``."""

import shlex

from nova_gpu_filter import exception
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.cmd.host import report
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import agent_options
from nova_gpu_filter.host.checks import conf_agent
from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import conf_fabric
from nova_gpu_filter.host.checks import conf_mdevs
from nova_gpu_filter.host.checks import conf_migration
from nova_gpu_filter.host.checks import findings
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.nova_rules import pci_options

_VERDICTS = {0: "READY", 1: "READY, WITH WARNINGS", 2: "NOT READY"}


class Check(base.HostCommand, command.Lister):
    """Check whether the GPUs can be passed through, and how to fix it.

    Every finding has a severity, the device, the evidence (a file and its
    content) and the cure, command by command. Nothing is changed.

    Exit codes: 0 ready, 1 warnings, 2 not ready, 3 wrong usage or input that
    cannot be read.
    """

    printers = command.Lister.printers | {"report": report.print_report}
    default_form = "report"

    def get_parser(self, prog_name):
        """Describe the options."""
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        base.add_cc_mode(parser)
        parser.add_argument(
            "--nova-conf",
            metavar="FILE",
            action="append",
            default=[],
            help="hold the [pci]device_spec of FILE against the hardware;"
            " repeat it for further files, a directory stands for its .conf"
            " files",
        )
        parser.add_argument(
            "--device",
            metavar="ADDRESS",
            action="append",
            default=[],
            help="check this device only, also a NIC or an NVSwitch, or the"
            " display of the console; can be repeated",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="list also what is as it should be",
        )
        return parser

    def run(self, parsed_args):
        """Run the checks.

        :returns: 0 ready, 1 warnings, 2 not ready, 3 bad input.
        """
        self._exit_code = 0
        return super().run(parsed_args) or self._exit_code

    def take_action(self, parsed_args):
        """Check the host."""
        tree, host, host_links = base.read_host(self, parsed_args)
        only = [
            self._check_device(host, text)
            for text in dict.fromkeys(parsed_args.device)
        ]
        options = (
            pci_options.read(*parsed_args.nova_conf)
            if parsed_args.nova_conf
            else None
        )
        has_aliases = options is not None and bool(options.aliases)
        context = Context(
            tree,
            host,
            host_links,
            tuple(only),
            has_aliases,
            base.read_cc_modes(tree, parsed_args),
            base.write_flags(self, parsed_args),
            tuple(
                f"--nova-conf {shlex.quote(path)}"
                for path in parsed_args.nova_conf
            ),
            frozenset(
                one.address for one in conf_mdevs.find_carriers(host, options)
            )
            if options is not None
            else frozenset(),
        )
        found = readiness.check(context, only)
        if options is not None:
            everything = reader.read(tree, everything=True).functions
            agent_conf = agent_options.read(*parsed_args.nova_conf)
            agent = (
                (
                    *conf_agent.check(
                        options,
                        agent_conf,
                        conf_agent.is_listening(conf_agent.SOCKET),
                    ),
                    *conf_fabric.check(agent_conf, tree),
                )
                # Of another host's files it cannot be known.
                if tree.is_live
                else ()
            )
            found = sorted(
                [
                    *found,
                    *map(
                        context.repeat_flags,
                        conf_device_specs.check(host, everything, options),
                    ),
                    *map(
                        context.repeat_flags, conf_mdevs.check(host, options)
                    ),
                    *conf_migration.check(context, options),
                    *agent,
                ],
                key=lambda finding: list(findings.Severity).index(
                    finding.severity
                ),
            )
        for problem in host.problems:
            self.warn(f"not read: {problem}")
        self._exit_code = findings.compute_exit_code(found)
        self._found = found
        self._host = host
        self._only = only
        shown = [
            finding
            for finding in found
            if parsed_args.all or finding.severity is not findings.Severity.OK
        ]
        names = ("Severity", "Check", "Device", "Finding", "Evidence", "Cure")
        return names, [
            (
                finding.severity.value,
                finding.check,
                finding.device or "",
                finding.summary,
                [str(evidence) for evidence in finding.evidence],
                list(finding.cures),
            )
            for finding in shown
        ]

    def _check_device(self, host, text):
        address = address_lib.find(text)
        if address not in {device.address for device in host.devices}:
            known = " ".join(str(device.address) for device in host.devices)
            raise exception.BadInput(
                source=f"--device {text}",
                reason="no GPU, NVSwitch or RDMA NIC of"
                f" {host.hostname}; there are: {known or 'none'}",
            )
        return address

    def produce_output(self, parsed_args, names, rows):
        """Print the findings, and for people the verdict."""
        if parsed_args.formatter == "report" and parsed_args.columns:
            raise exception.BadInput(
                source="-c", reason="columns can be chosen with -f table"
            )
        super().produce_output(parsed_args, names, rows)
        if parsed_args.formatter == "report":
            self._print_verdict()
        return 0

    def _print_verdict(self) -> None:
        write = self.app.stdout.write
        # What is wrong with the host is wrong with each of its devices.
        common = [
            one
            for one in self._found
            if one.device is None and one.severity is findings.Severity.ERROR
        ]
        for gpu in self._host.gpus:
            if self._only and gpu.address not in self._only:
                continue
            card = {
                str(one.address) for one in self._host.list_card_functions(gpu)
            }
            own = [one for one in self._found if one.device in card]
            if any(
                one.check == "console"
                and one.severity is findings.Severity.NOTE
                for one in own
            ):
                verdict = "left to the console"
            elif any(one.check == "host-use" for one in own) and (
                gpu.address not in self._only
            ):
                verdict = "left to the host"
            else:
                verdict = _VERDICTS[
                    findings.compute_exit_code(own + common)
                ].lower()
            write(f"{gpu.address}  {gpu.product or gpu.ids}: {verdict}\n")
        counts = ", ".join(
            f"{number} {severity.value}{'' if number == 1 else 's'}"
            for severity in (
                findings.Severity.ERROR,
                findings.Severity.WARNING,
                findings.Severity.NOTE,
            )
            if (number := sum(one.severity is severity for one in self._found))
        )
        write(
            f"{self._host.hostname}: {_VERDICTS[self._exit_code]}"
            f"{f' ({counts})' if counts else ''}\n"
        )
