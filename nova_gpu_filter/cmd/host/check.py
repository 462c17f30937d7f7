# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host check``."""

import shlex
import textwrap

from nova_gpu_filter import exception
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import conf_agent
from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import conf_mdevs
from nova_gpu_filter.host.checks import conf_vfs
from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.checks import findings
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.nova_rules import pci_options

_WIDTH = 79
_INDENT = "    "
_VERDICTS = {0: "READY", 1: "READY, WITH WARNINGS", 2: "NOT READY"}


def _print_report(output):
    """Print the rows of ``check``, one paragraph a finding.

    The same finding about several devices is one paragraph. Each row is
    severity, check, device, finding, evidence, cure.
    """
    paragraphs = {}
    for severity, check, device, summary, evidence, cures in output.rows:
        devices, seen, commands = paragraphs.setdefault(
            (severity, check, summary), ([], [], [])
        )
        if device:
            devices.append(device)
        # The same command twice is one command.
        seen += [line for line in evidence if line not in seen]
        commands += [line for line in cures if line not in commands]
    for (severity, check, summary), parts in paragraphs.items():
        devices, seen, commands = parts
        heading = " ".join((severity.upper(), check, *devices))
        lines = textwrap.wrap(heading, _WIDTH, subsequent_indent=_INDENT * 2)
        lines += textwrap.wrap(
            summary,
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
        )
        lines += [f"{_INDENT}seen: {line}" for line in seen]
        # Commands are not wrapped, so that they can be copied.
        lines += [f"{_INDENT}cure: {line}" for line in commands]
        output.stdout.write("\n".join(lines) + "\n\n")


class Check(command.Lister):
    """Check whether the GPUs can be passed through, and how to fix it.

    Every finding has a severity, the device, the evidence (a file and its
    content) and the cure, command by command. Nothing is changed.

    Exit codes: 0 ready, 1 warnings, 2 not ready, 3 wrong usage or input that
    cannot be read.
    """

    printers = command.Lister.printers | {"report": _print_report}
    default_form = "report"

    def get_parser(self, prog_name):
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

    def take_action(self, parsed_args):
        """Check the host."""
        tree, host, _ = base.read_host(parsed_args)
        asked = tuple(
            self._check_device(host, text)
            for text in dict.fromkeys(parsed_args.device)
        )
        options = None
        carriers = frozenset()
        if parsed_args.nova_conf:
            options = pci_options.read(*parsed_args.nova_conf)
            carriers = frozenset(
                one.address
                for _, one, _ in conf_mdevs.find_carried(host, options)
            )
        context = Context(
            tree,
            host,
            asked,
            options is not None and bool(options.aliases),
            base.read_cc_modes(tree, parsed_args),
            base.write_flags(parsed_args),
            tuple(
                f"--nova-conf {shlex.quote(path)}"
                for path in parsed_args.nova_conf
            ),
            carriers,
        )
        found = readiness.check(context)
        if options is not None:
            found += self._check_conf(context, options, parsed_args.nova_conf)
            found.sort(key=readiness.rank_severity)
        for problem in host.problems:
            self.app.warn(f"not read: {problem}")
        self.exit_code = findings.compute_exit_code(found)
        self._found = found
        self._context = context
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
            for finding in found
            if parsed_args.all or finding.severity is not Severity.OK
        ]

    def _check_conf(self, context, options, paths):
        """Hold the files of Nova against the host."""
        everything = reader.read(context.tree, everything=True).functions
        for finding in (
            *conf_device_specs.check(context.host, everything, options),
            *conf_mdevs.check(context.host, options),
        ):
            yield context.repeat_flags(finding)
        yield from conf_vfs.check_versions(context, options)
        agent = conf_agent.read_options(*paths)
        # Of another host's files it cannot be known.
        if context.tree.is_live:
            is_running = conf_agent.is_listening(conf_agent.SOCKET)
            yield from conf_agent.check(options, agent, is_running)
            yield from fabric_manager.check_partitions(agent, context.tree)

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

    def _print_verdict(self) -> None:
        write = self.app.stdout.write
        # What is wrong with the host is wrong with each of its devices.
        common = [
            one
            for one in self._found
            if one.device is None and one.severity is Severity.ERROR
        ]
        host, asked = self._context.host, self._context.asked
        for gpu in host.gpus:
            if asked and gpu.address not in asked:
                continue
            card = {str(one.address) for one in host.list_card_functions(gpu)}
            own = [one for one in self._found if one.device in card]
            if any(
                one.check == "console" and one.severity is Severity.NOTE
                for one in own
            ):
                verdict = "left to the console"
            elif not asked and any(one.check == "host-use" for one in own):
                verdict = "left to the host"
            else:
                code = findings.compute_exit_code(own + common)
                verdict = _VERDICTS[code].lower()
            write(f"{gpu.address}  {gpu.product or gpu.ids}: {verdict}\n")
        counts = ", ".join(
            f"{number} {severity.value}{'' if number == 1 else 's'}"
            for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)
            if (number := sum(one.severity is severity for one in self._found))
        )
        write(
            f"{host.hostname}: {_VERDICTS[self.exit_code]}"
            f"{f' ({counts})' if counts else ''}\n"
        )
