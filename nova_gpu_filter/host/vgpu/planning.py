# SPDX-License-Identifier: Apache-2.0

"""What has to be done so that the VFs of a host are as declared.

A pure function of what is declared and what there is: which row means which
PF, and what :mod:`.pf_steps` says of each.
"""

from collections.abc import Iterable
import dataclasses

from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import pf_steps
from nova_gpu_filter.host.vgpu import state


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one PF, or a row that names none, is in for."""

    name: str
    """The PF's address, or how a row names what is not there."""
    wanted: str
    """``4 VFs of type NVIDIA A40-8Q``."""
    address: PciAddress | None = None
    steps: tuple[pf_steps.Step, ...] = ()
    then: str | None = None
    """What follows when the steps are done, and cannot be told before."""
    refusal: str | None = None
    """Why nothing is done about it."""

    @property
    def is_done(self) -> bool:
        """Whether everything is as declared."""
        return not self.steps and self.refusal is None


def plan(
    rows: Iterable[declaration.Row],
    host: state.Host,
    mig_modes: pf_steps.MigModes | None = None,
) -> tuple[Plan, ...]:
    """Plan the changes, PF by PF in the order of the rows.

    A row with an address or a slot goes before one that names the same PF by
    its ids. PFs that no row names are left alone.

    :param mig_modes: None: they cannot be known, and are not looked at.
    """
    assigned, plans = _assign(tuple(rows), host)
    for pf, row in assigned:
        wanted = row.wanted
        try:
            steps, then = pf_steps.plan_steps(row, pf, host, mig_modes)
        except pf_steps.Refused as error:
            plans.append(
                Plan(str(pf.address), wanted, pf.address, refusal=str(error))
            )
        else:
            plans.append(
                Plan(str(pf.address), wanted, pf.address, steps, then)
            )
    return tuple(plans)


def _point_to_mdevs(row: declaration.Row, host: state.Host) -> str:
    """Say where the types of a device belong that makes no VFs."""
    matched = [str(pf.address) for pf in host.mediated if _matches(row, pf)]
    if not matched:
        return ""
    return (
        f"; the driver of {printable.list_few(matched)} makes mediated"
        " devices: nova.conf has their types, nova-gpu-host config --mdev-type"
    )


def _assign(
    rows: tuple[declaration.Row, ...], host: state.Host
) -> tuple[list[tuple[state.Pf, declaration.Row]], list[Plan]]:
    """Give each PF the row that names it most exactly."""
    chosen: dict[PciAddress, declaration.Row] = {}
    plans = []
    for row in sorted(rows, key=lambda row: row.id is not None):
        matched = [pf for pf in host.pfs if _matches(row, pf)]
        if not matched:
            there = printable.list_few([str(pf.address) for pf in host.pfs])
            plans.append(
                Plan(
                    row.selector,
                    row.wanted,
                    refusal="no PCI function of this host that can have VFs"
                    f" has this {row.selector.partition(' ')[0]}; there are:"
                    f" {there or 'none'}" + _point_to_mdevs(row, host),
                )
            )
        for pf in matched:
            other = chosen.setdefault(pf.address, row)
            if other is not row and row.id is None:
                plans.append(
                    Plan(
                        row.selector,
                        row.wanted,
                        refusal=f"this is {pf.address}, which is named by"
                        f" {other.selector}, too; write one row",
                    )
                )
    order = {id(row): place for place, row in enumerate(rows)}
    assigned = [(host.by_address[key], row) for key, row in chosen.items()]
    assigned.sort(key=lambda one: (order[id(one[1])], one[0].address))
    return assigned, plans


def _matches(row: declaration.Row, pf: state.Pf) -> bool:
    if row.address is not None:
        return pf.address == row.address
    if row.slot is not None:
        return pf.slot == row.slot
    return pf.ids == row.id
