# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host vgpu``."""

import contextlib
import fcntl
import os

from nova_gpu_filter import exception
from nova_gpu_filter import files
from nova_gpu_filter import systemd
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.host.sysfs import tree as tree_lib
from nova_gpu_filter.host.vgpu import applying
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import planning
from nova_gpu_filter.host.vgpu import state

LOCK = "/run/nova-gpu-vgpu.lock"

_CHANGES, _REFUSED = 1, 2


class Vgpu(command.Lister):
    """Make the VFs of this host, and their vGPU types, as a file declares.

    'plan' prints what would be changed, 'apply' changes it, 'show' lists the
    devices that can have VFs, with what they have, and 'unit' prints the unit
    of systemd that runs 'apply' before nova-compute. What a guest or the
    host uses is never changed, and devices that the file does not name are
    left alone.

    Exit codes: 0 all is as declared; 1 plan: there is something to change;
    2 something is refused, or has failed; 3 wrong usage or input that cannot
    be read.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        base.add_root(parser)
        parser.add_argument(
            "action",
            choices=("plan", "apply", "show", "unit"),
            help="what to do",
        )
        parser.add_argument(
            "--file",
            metavar="FILE",
            help="what is declared; - is standard input; default"
            f" {declaration.PATH}, below --sysfs-root",
        )
        return parser

    def run(self, parsed_args):
        """Run the action.

        :returns: 0, or 1 for changes to make, 2 for refusals, 3 for errors.
        """
        if parsed_args.action == "unit":
            self.app.stdout.write(systemd.read_unit(systemd.VGPU))
            return 0
        return super().run(parsed_args)

    def take_action(self, parsed_args):
        """Do what was asked for."""
        self._tree = base.open_tree(parsed_args)
        if parsed_args.action == "show":
            return self._show()
        if parsed_args.action == "apply" and not self._tree.is_live:
            raise exception.BadInput(
                source="--sysfs-root",
                reason="apply changes the machine that it runs on; of the"
                " files of another host there is 'vgpu plan'",
            )
        source = parsed_args.file or os.path.join(
            self._tree.root, declaration.PATH.lstrip("/")
        )
        rows = declaration.parse(
            source, base.read_file(source, files.OUTPUT_BYTES)
        )
        modes = self._read_mig_modes(rows)

        def read_plans():
            return planning.plan(rows, self._read(), modes)

        if parsed_args.action == "plan":
            return self._plan(read_plans())
        if os.geteuid() != 0:
            raise exception.BadInput(source="apply", reason="run it as root")
        with self._lock():
            return self._apply(read_plans)

    def _read(self):
        # A tree remembers where links lead, and these change.
        return state.read(tree_lib.Tree(self._tree.root))

    def _read_mig_modes(self, rows):
        if not self._tree.is_live or all(row.mig is None for row in rows):
            return None
        try:
            _, text = base.run_nvidia_smi(list(state.MIG_QUERY))
        except exception.BadInput as error:
            # Devices of which no row asks for a mode are set up all the same.
            return str(error)
        return state.parse_mig_modes(text)

    @contextlib.contextmanager
    def _lock(self):
        """Keep a second 'apply' away while one is at work."""
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(LOCK, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise exception.BadInput(
                source=LOCK, reason="another 'vgpu apply' is at work"
            ) from None
        try:
            yield
        finally:
            os.close(descriptor)

    _NAMES = ("Device", "Declared", "Status", "Step", "Reason")

    def _plan(self, plans):
        rows = []
        for plan in plans:
            if plan.refusal is not None:
                self.exit_code = _REFUSED
                rows.append((plan, "refused", "", plan.refusal))
            elif plan.is_done:
                rows.append((plan, "as declared", "", ""))
            else:
                self.exit_code = max(self.exit_code, _CHANGES)
                rows += [(plan, "to do", str(step), "") for step in plan.steps]
                if plan.then:
                    rows.append((plan, "afterwards", plan.then, ""))
        return self._NAMES, [
            (plan.name, plan.wanted, *rest) for plan, *rest in rows
        ]

    def _apply(self, read_plans):
        rows = []
        for one in applying.apply(read_plans, applying.Machine()):
            if one.problem is not None:
                self.exit_code = _REFUSED
                status = "refused" if one.step is None else "failed"
            else:
                status = "as declared" if one.step is None else "done"
            rows.append(
                (
                    one.name,
                    one.wanted,
                    status,
                    "" if one.step is None else str(one.step),
                    one.problem or "",
                )
            )
        return self._NAMES, rows

    def _show(self):
        host = self._read()
        names = ("Device", "Ids", "Slot", "Driver", "VFs", "Of", "Types")
        rows = [
            (
                str(pf.address),
                pf.ids,
                pf.slot or "",
                pf.driver or "",
                pf.numvfs,
                pf.totalvfs,
                list(pf.count_types(host.names)),
                sorted({one.name for vf in pf.vfs for one in vf.creatable}),
                [
                    f"{vf.address}: {user}"
                    for vf in pf.vfs
                    for user in vf.users
                ],
            )
            for pf in host.pfs
        ]
        if not rows:
            self.app.warn("no device of this host can have VFs")
        return (*names, "Creatable", "In Use"), rows
