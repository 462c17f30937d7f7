# SPDX-License-Identifier: Apache-2.0

"""What has to be done so that the VFs of a host are as declared.

A pure function of what is declared and what there is. VFs that have what they
shall have stay as they are, whoever uses them; what is in use is never
changed.

Sources: the kernel's drivers/pci/pci-sysfs.c (``sriov_numvfs`` goes from 0 to
a number and back to 0, and never from one number to another), NVIDIA's
Virtual GPU Software User Guide (a VF's type is set while nothing uses it, and
taken by writing 0), Nova's admin/pci-passthrough (one resource class a PF,
therefore one type).
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses

from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import state
from nova_gpu_filter.host.vgpu import types

MigModes = Mapping[PciAddress, bool | None] | str
"""Whether GPUs are in MIG mode; None: they have no such mode. A text: why the
modes cannot be read."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One change: a program to run, or a text to write to a file."""

    arguments: tuple[str, ...] = ()
    """The program; empty: ``text`` is written to ``path``."""
    path: str = ""
    text: str = ""

    def __str__(self) -> str:
        if self.arguments:
            return " ".join(self.arguments)
        return f"echo {self.text} > {self.path}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one PF, or a row that names none, is in for."""

    name: str
    """The PF's address, or how a row names what is not there."""
    wanted: str
    """``4 VFs of type NVIDIA A40-8Q``."""
    address: PciAddress | None = None
    steps: tuple[Step, ...] = ()
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
    mig_modes: MigModes | None = None,
) -> tuple[Plan, ...]:
    """Plan the changes, PF by PF in the order of the rows.

    A row with an address or a slot goes before one that names the same PF by
    its ids. PFs that no row names are left alone.

    :param mig_modes: None: they cannot be known, and are not looked at.
    """
    assigned, plans = _assign(tuple(rows), host)
    for pf, row in assigned:
        one = Plan(str(pf.address), row.wanted, pf.address)
        try:
            steps, then = _plan_steps(row, pf, host, mig_modes)
            one = dataclasses.replace(one, steps=steps, then=then)
        except _Refused as error:
            one = dataclasses.replace(one, refusal=str(error))
        plans.append(one)
    return tuple(plans)


def _describe_missing(row: declaration.Row, host: state.Host) -> str:
    """Say that a row names no PF, and what else it may name."""
    there = printable.list_few([str(pf.address) for pf in host.pfs])
    text = (
        "no PCI function of this host that can have VFs has this"
        f" {row.selector.partition(' ')[0]}; there are: {there or 'none'}"
    )
    matched = [str(pf.address) for pf in host.mediated if _matches(row, pf)]
    if matched:
        text += (
            f"; the driver of {printable.list_few(matched)} makes mediated"
            " devices: nova.conf has their types, nova-gpu-host config"
            " --mdev-type"
        )
    return text


def _assign(
    rows: tuple[declaration.Row, ...], host: state.Host
) -> tuple[list[tuple[state.Pf, declaration.Row]], list[Plan]]:
    """Give each PF the row that names it most exactly."""
    chosen: dict[PciAddress, declaration.Row] = {}
    plans = []
    for row in sorted(rows, key=lambda row: row.id is not None):
        matched = [pf for pf in host.pfs if _matches(row, pf)]
        refusals = [] if matched else [_describe_missing(row, host)]
        for pf in matched:
            other = chosen.setdefault(pf.address, row)
            if other is not row and row.id is None:
                refusals.append(
                    f"this is {pf.address}, which is named by"
                    f" {other.selector}, too; write one row"
                )
        plans += [
            Plan(row.selector, row.wanted, refusal=refusal)
            for refusal in refusals
        ]
    assigned = [
        (pf, row)
        for row in rows
        for pf in host.pfs
        if chosen.get(pf.address) is row
    ]
    return assigned, plans


def _matches(row: declaration.Row, pf: state.Pf) -> bool:
    if row.address is not None:
        return pf.address == row.address
    if row.slot is not None:
        return pf.slot == row.slot
    return pf.ids == row.id


class _Refused(Exception):
    """A PF that cannot be as declared: why, and what to do."""


def _plan_steps(
    row: declaration.Row,
    pf: state.Pf,
    host: state.Host,
    mig_modes: MigModes | None,
) -> tuple[tuple[Step, ...], str | None]:
    """Plan the changes of one PF.

    :returns: them, and what follows when they are done.
    :raises _Refused: the PF cannot be so.
    """
    if row.vfs > pf.totalvfs:
        raise _Refused(
            f"the device can have {pf.totalvfs} VFs (sriov_totalvfs), and"
            f" {row.vfs} are declared"
        )
    _check_type(row, pf, host)
    _check_mig(row, pf, host, mig_modes)
    steps = _plan_autoprobe(row, pf)
    making = _make_vfs(row, pf, host)
    if making:
        then = f"make {row.wanted}" if row.type and row.vfs else None
        return (*steps, *making), then
    if row.type is None or not row.vfs:
        return steps, None
    types_steps, then = _set_types(row, pf, host)
    return (*steps, *types_steps), then


def _check_type(row: declaration.Row, pf: state.Pf, host: state.Host) -> None:
    """Refuse what no VF of the PF will ever offer, before any is made."""
    if row.type is None:
        return
    if not pf.is_managed:
        raise _Refused(
            f"its driver is {pf.driver or 'not bound'}, and a type is for"
            " VFs of NVIDIA's vGPU host driver; declare vfs without a type"
        )
    if host.has_every_type and not (
        types.find(row.type, host.known_types) & host.names.keys()
    ):
        raise _Refused(
            f"the driver knows no type {row.type}; it knows"
            f" {_list(one.name for one in host.known_types)}"
        )


def _check_mig(
    row: declaration.Row,
    pf: state.Pf,
    host: state.Host,
    mig_modes: MigModes | None,
) -> None:
    if row.mig is None or row.type is None:
        return
    name = host.names.get(int(row.type)) if row.type.isdecimal() else row.type
    if not row.mig and name and types.VgpuType(0, name).is_of_mig:
        raise _Refused(
            f"{name} is a type of GPUs in MIG mode, and mig: false is declared"
        )
    if mig_modes is None:
        # Of the files of another host it cannot be known.
        return
    if isinstance(mig_modes, str):
        raise _Refused(
            f"mig: {str(row.mig).lower()} is declared, and the mode cannot be"
            f" read: {mig_modes}"
        )
    mode = mig_modes.get(pf.address)
    if bool(mode) is row.mig:
        return
    if mode is None:
        raise _Refused(
            "nvidia-smi says that the GPU has no MIG mode, and mig: true is"
            " declared; take mig out"
        )
    raise _Refused(
        f"the GPU {'is not' if row.mig else 'is'} in MIG mode, and mig:"
        f" {str(row.mig).lower()} is declared; empty the GPU and run"
        f" 'nvidia-smi -i {pf.address} -mig {int(row.mig)}'"
        + (" and make its GPU instances" if row.mig else "")
    )


def _plan_autoprobe(row: declaration.Row, pf: state.Pf) -> tuple[Step, ...]:
    if row.autoprobe is None or row.autoprobe is pf.autoprobe:
        return ()
    if pf.autoprobe is None:
        raise _Refused(
            "autoprobe is declared, and the kernel has no"
            " sriov_drivers_autoprobe for this device"
        )
    path = f"{pf.address.path}/sriov_drivers_autoprobe"
    return (Step(path=path, text=str(int(row.autoprobe))),)


def _make_vfs(
    row: declaration.Row, pf: state.Pf, host: state.Host
) -> tuple[Step, ...]:
    """Plan how the PF gets its VFs; empty: it has them."""
    # The script of NVIDIA makes all VFs, of which some get a type.
    if pf.numvfs == row.vfs or (pf.is_managed and pf.numvfs >= row.vfs > 0):
        return ()
    if pf.users:
        raise _Refused(
            f"the device itself is in use: {_list(pf.users)}; a PF that is"
            " given away has no VFs"
        )
    if pf.driver is None:
        raise _Refused(
            "no driver is bound to the device, and its driver makes the VFs"
        )
    if pf.numvfs:
        _require_free(pf.vfs, host, f"its {pf.numvfs} VFs are taken away")
    if pf.is_managed:
        if not pf.has_sriov_manage:
            raise _Refused(
                f"{state.SRIOV_MANAGE} is not there, which makes the VFs of"
                " GPUs under NVIDIA's driver; install the vGPU host driver"
            )
        options = ("-d",) * bool(pf.numvfs) + ("-e",) * bool(row.vfs)
        return tuple(
            Step((state.SRIOV_MANAGE, option, str(pf.address)))
            for option in options
        )
    path = f"{pf.address.path}/sriov_numvfs"
    numbers = (0,) * bool(pf.numvfs) + (row.vfs,) * bool(row.vfs)
    return tuple(Step(path=path, text=str(number)) for number in numbers)


def _require_free(
    vfs: Iterable[state.Vf], host: state.Host, change: str
) -> None:
    """Refuse to change what somebody uses, or may use.

    :param change: what would be done to the VFs.
    """
    used = [vf for vf in vfs if vf.users]
    if used:
        whose = _list(f"{vf.address} ({vf.users[0]})" for vf in used)
        raise _Refused(f"before {change}, free what is in use: {whose}")
    if host.unseen:
        raise _Refused(
            f"before {change}, it has to be seen that nothing uses them, and"
            " the files of some processes cannot be read: run this as root"
        )


def _set_types(
    row: declaration.Row, pf: state.Pf, host: state.Host
) -> tuple[tuple[Step, ...], str | None]:
    assert row.type is not None
    typed = [vf for vf in pf.vfs if vf.type is not None]
    if len(typed) < row.vfs:
        raise _Refused(
            f"{len(typed)} of {len(pf.vfs)} VFs have a directory nvidia, in"
            " which a vGPU type is set; its driver is"
            f" {_list({str(vf.driver) for vf in pf.vfs})}, and a type needs"
            " NVIDIA's vGPU host driver without mediated devices"
        )
    number = _find_number(row, typed, host)
    having = [vf for vf in typed if vf.type == number]
    others = [vf for vf in typed if vf.type not in (0, number)]
    # What is used stays; of the others, the last ones go.
    free = [vf for vf in having if not vf.users]
    surplus = max(0, len(having) - row.vfs)
    if surplus > len(free):
        _require_free(
            having, host, f"{surplus} VFs lose their type {row.type}"
        )
    clear = [*others, *reversed(free[len(free) - surplus :])]
    if clear:
        _require_free(clear, host, "VFs lose their type")
        steps = tuple(_write_type(vf, 0) for vf in clear)
        missing = row.vfs - len(having)
        return steps, (
            f"give {missing} VFs the type {row.type}" if missing > 0 else None
        )
    return _give_types(row, number, typed, row.vfs - len(having)), None


def _find_number(
    row: declaration.Row, typed: list[state.Vf], host: state.Host
) -> int:
    """Find the number of the type that is declared."""
    assert row.type is not None
    # The same name has another number on another model of GPU.
    offered = {one for vf in typed for one in vf.creatable}
    numbers = types.find(row.type, offered)
    if not numbers:
        numbers = types.find(row.type, host.known_types)
        own = {vf.type for vf in typed}
        numbers = numbers & own or numbers
    if len(numbers) == 1:
        return next(iter(numbers))
    if numbers:
        raise _Refused(
            f"there are several types of the name {row.type}:"
            f" {_list(map(str, sorted(numbers)))}; declare the number"
        )
    raise _Refused(_describe_not_offered(row, offered))


def _describe_not_offered(
    row: declaration.Row, offered: Iterable[types.VgpuType]
) -> str:
    name = str(row.type)
    hint = (
        "; it is a type of GPUs in MIG mode with a GPU instance that fits"
        " ('nvidia-smi mig -lgi')"
        if types.VgpuType(0, name).is_of_mig
        else ""
    )
    return (
        f"the driver does not offer the type {name} (creatable_vgpu_types);"
        f" it offers {_list(one.name for one in sorted(offered))}{hint}"
    )


def _give_types(
    row: declaration.Row, number: int, typed: list[state.Vf], missing: int
) -> tuple[Step, ...]:
    empty = [vf for vf in typed if vf.type == 0 and not vf.users]
    able = [
        vf for vf in empty if any(one.number == number for one in vf.creatable)
    ]
    if missing > len(able):
        offered = {one for vf in empty for one in vf.creatable}
        if not any(one.number == number for one in offered):
            have = sum(vf.type == number for vf in typed)
            more = f"; {have} VFs have it" if have else ""
            raise _Refused(_describe_not_offered(row, offered) + more)
        raise _Refused(
            f"{missing} more VFs shall have the type {row.type}, and"
            f" {len(able)} can get it"
        )
    return tuple(_write_type(vf, number) for vf in able[:missing])


def _write_type(vf: state.Vf, number: int) -> Step:
    path = f"{vf.address.path}/nvidia/current_vgpu_type"
    return Step(path=path, text=str(number))


def _list(names: Iterable[str]) -> str:
    return printable.list_few(list(names)) or "none"
