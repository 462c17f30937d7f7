# SPDX-License-Identifier: Apache-2.0

"""Does a device answer, and is it as good as it could be?

Sources: the kernel's drivers/pci/pci-sysfs.c (current_link_speed,
current_link_width, power_state), drivers/pci/pci.c (pci_power_names) and
Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats. Reports of such
devices: kata-containers#11708, amd/MxGPU-Virtualization#25 and
NVIDIA/open-gpu-kernel-modules#853 (dead after a guest), NVIDIA's forum 159737
and Dunedan/mbp-2016-linux#60 (BARs without addresses).
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import re

from nova_gpu_filter import sizes
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import pci_config
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib

_NO_WIDTH = 63
"""The width of a link whose status reads all ones (PCI_EXP_LNKSTA_NLW)."""
_UNKNOWN = "Unknown"
_IDLE_GTS = 2.5
"""GPUs go down to the first generation of PCIe when they are idle."""


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorCounter:
    """A file of AER counters, and from when on they mean trouble."""

    name: str
    kind: str
    at_least: int
    without: frozenset[str]
    """Errors that do not count."""
    source: str


ERROR_COUNTERS = (
    ErrorCounter(
        "aer_dev_fatal", "fatal", 1, frozenset(), "PCIe 6.2.2.2.1: link lost"
    ),
    ErrorCounter(
        "aer_dev_nonfatal",
        "uncorrectable",
        1,
        # Probing of functions that are not there makes it.
        frozenset({"UnsupReq"}),
        "PCIe 6.2.2.2.2: a transaction was lost",
    ),
    ErrorCounter(
        "aer_dev_correctable",
        "corrected",
        1000,
        # It stands for an uncorrectable one that its receiver did not mind.
        frozenset({"NonFatalErr"}),
        "PCIe 6.2.2.1: repeated by the link; many are a bad riser or slot",
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class PortCounter:
    """A file of a root port: how many error messages it has received."""

    name: str
    kind: str
    of_devices: str
    """The file in which a device below has those that it sent."""
    at_least: int


# linux drivers/pci/pcie/aer.c (pci_rootport_aer_stats_incr): one number, of
# the port and all below it. Those of a device go with it when it is removed.
PORT_COUNTERS = (
    PortCounter("aer_rootport_total_err_fatal", "fatal", "aer_dev_fatal", 1),
    PortCounter(
        "aer_rootport_total_err_nonfatal",
        "uncorrectable",
        "aer_dev_nonfatal",
        1,
    ),
    PortCounter(
        "aer_rootport_total_err_cor", "corrected", "aer_dev_correctable", 1000
    ),
)
_ERROR_LINE = re.compile(r"(?P<name>\w+) (?P<count>[0-9]+)")


def check(context: Context, device: Function) -> Iterator[Finding]:
    """Check one physical device."""
    dead = _silence(context, device)
    if dead is not None:
        # What else its files say has no meaning.
        yield dead
        return
    yield from _power(context, device)
    yield from _bars(context, device)
    links = list(_links(context, device))
    yield from links
    yield from _errors(context, device)
    yield from _errors_of_port(context, device)
    yield from _peers(context, device, bool(links))


def _path(device: Function) -> str:
    return f"{reader.DEVICES}/{device.address}"


def _config(context: Context, device: Function) -> bytes | None:
    return context.tree.read_bytes(
        f"{_path(device)}/config", pci_config.HEADER_BYTES
    )


def _silence(context: Context, device: Function) -> Finding | None:
    """Find what says that a device does not answer."""
    path = _path(device)
    seen: list[Evidence] = []
    config = _config(context, device)
    answers = None
    if config is not None:
        answers = pci_config.silence(
            config, device.vendor_id, device.product_id
        )
        if answers is not None:
            seen.append(Evidence(f"{path}/config", answers))
    # A sleeping device is woken for its configuration space, not for the
    # state of its link.
    is_asleep = device.power_state == "D3cold" and config is not None
    link = device.pcie_link
    if link is not None and not (is_asleep and answers is None):
        is_down = not link.width and bool(link.max_width)
        if is_down or _NO_WIDTH in (link.width, link.max_width):
            seen.append(context.evidence(f"{path}/current_link_width"))
        if link.speed == _UNKNOWN and (link.max_speed != _UNKNOWN or seen):
            seen.append(context.evidence(f"{path}/current_link_speed"))
    runtime = context.tree.read(f"{path}/power/runtime_status")
    if runtime == "error":
        seen.append(Evidence(f"{path}/power/runtime_status", runtime))
    if device.power_state == "error" or (
        seen and device.power_state not in (None, "D0")
    ):
        seen.append(context.evidence(f"{path}/power_state"))
    if not seen:
        return None
    return Finding(
        Severity.ERROR,
        "health",
        "the device does not answer: a guest that gets it cannot start, or"
        " finds no device",
        device=str(device.address),
        evidence=tuple(seen),
        cures=(
            "# take it out of device_spec until it answers, and restart"
            " nova-compute; then, with no guest that uses it:",
            f"echo 1 > {path}/remove",
            "echo 1 > /sys/bus/pci/rescan",
            "# if that does not bring it back: reset the slot"
            " (/sys/bus/pci/slots), or power the host off and on",
        ),
    )


def _power(context: Context, device: Function) -> Iterator[Finding]:
    if device.power_state != "D3cold":
        return
    path = _path(device)
    runtime = context.tree.read(f"{path}/power/runtime_status")
    is_fine = runtime == "suspended" or _config(context, device) is not None
    yield Finding(
        Severity.NOTE if is_fine else Severity.WARNING,
        "health",
        "the device is without power (D3cold)"
        + (
            ", as it is not in use"
            if is_fine
            else ": some devices do not come back from it"
        ),
        device=str(device.address),
        evidence=(
            context.evidence(f"{path}/power_state"),
            context.evidence(f"{path}/power/runtime_status"),
        ),
        cures=()
        if is_fine
        else (
            f"echo on > {path}/power/control",
            "echo 'options vfio-pci disable_idle_d3=1'"
            " > /etc/modprobe.d/vfio-pci-power.conf",
        ),
    )


def _room(context: Context) -> tuple[str, ...]:
    return (
        '# switch on "Above 4G Decoding" (64-bit BARs) in the firmware\'s'
        " setup, with as much MMIO space as it offers",
        *context.kernel_arguments("pci=realloc"),
    )


def _bars(context: Context, device: Function) -> Iterator[Finding]:
    path = f"{_path(device)}/resource"
    text = context.tree.read(path)
    missing = dict(pci_config.unassigned_bars(text, _config(context, device)))
    for number in _bars_of_peers(context, device):
        missing.setdefault(number, "nothing; its peers have this BAR")
    if not device.bars and not missing:
        yield Finding(
            Severity.ERROR,
            "bars",
            "the device has no memory: the firmware gave its BARs no"
            " addresses",
            device=str(device.address),
            evidence=(context.evidence(path),),
            cures=_room(context),
        )
    elif missing:
        names = ", ".join(f"BAR{number}" for number in sorted(missing))
        yield Finding(
            Severity.ERROR,
            "bars",
            f"{names} {'has' if len(missing) == 1 else 'have'} no address:"
            " the firmware and the kernel found no room for it",
            device=str(device.address),
            evidence=tuple(
                Evidence(path, f"BAR{number}: {seen}")
                for number, seen in sorted(missing.items())
            ),
            cures=_room(context),
        )
    if device.is_pf and (bars := pci_config.unassigned_vf_bars(text)):
        yield Finding(
            Severity.WARNING if device.sriov_numvfs else Severity.NOTE,
            "bars",
            "the BARs of its VFs have no addresses: the device can be given"
            " whole, and VFs cannot be made of it",
            device=str(device.address),
            evidence=tuple(Evidence(path, str(bar)) for bar in bars),
            cures=_room(context),
        )


def _peers_of(context: Context, device: Function) -> list[Function]:
    return [
        other
        for other in context.host.functions
        if other.physfn is None
        and other is not device
        and other.ids == device.ids
        and (other.subvendor_id, other.subproduct_id)
        == (device.subvendor_id, device.subproduct_id)
    ]


def _bars_of_peers(context: Context, device: Function) -> set[int]:
    """Name the BARs that most peers have, and the device has not."""
    peers = _peers_of(context, device)
    own = {bar.index for bar in device.bars}
    counts = collections.Counter(
        bar.index for peer in peers for bar in peer.bars
    )
    return {
        index
        for index, count in counts.items()
        if index not in own and 2 * count > len(peers)
    }


def _gts(speed: str | None) -> float | None:
    match = re.match(r"([0-9.]+) GT/s", speed or "")
    return float(match[1]) if match else None


def _links(context: Context, device: Function) -> Iterator[Finding]:
    """Check each PCIe link on the way from the root port to the device."""
    # Ports alternate: root port, upstream, downstream, upstream ...
    ends: list[PciAddress] = [*device.bridges[1::2], device.address]
    for port, end in zip(device.bridges[::2], ends, strict=False):
        yield from _link(context, device, port, end)


def _link(
    context: Context, device: Function, port: PciAddress, end: PciAddress
) -> Iterator[Finding]:
    path = f"{reader.DEVICES}/{end}"
    above = f"{reader.DEVICES}/{port}"

    def read(name: str) -> str | None:
        return context.tree.read(name)

    width = _count(read(f"{path}/current_link_width"))
    widest = min(
        _count(read(f"{path}/max_link_width")) or 0,
        _count(read(f"{above}/max_link_width")) or 0,
    )
    speed = _gts(read(f"{path}/current_link_speed"))
    fastest = min(
        _gts(read(f"{path}/max_link_speed")) or 0,
        _gts(read(f"{above}/max_link_speed")) or 0,
    )
    evidence = (
        context.evidence(f"{path}/current_link_width"),
        context.evidence(f"{path}/current_link_speed"),
        context.evidence(f"{path}/max_link_width"),
        context.evidence(f"{path}/max_link_speed"),
        context.evidence(f"{above}/max_link_width"),
        context.evidence(f"{above}/max_link_speed"),
    )
    cures = (
        "# seat the card, its riser and its cables again, clean the contacts,"
        " or try another slot; look for limits of the slot in the firmware's"
        " setup",
    )
    if width and width < widest < _NO_WIDTH:
        yield Finding(
            Severity.WARNING,
            "link",
            f"the PCIe link of {end} is x{width}, and both of its ends can"
            f" x{widest}",
            device=str(device.address),
            evidence=evidence,
            cures=cures,
        )
    if speed and speed < fastest:
        is_idle = speed == _IDLE_GTS
        yield Finding(
            Severity.NOTE if is_idle else Severity.WARNING,
            "link",
            f"the PCIe link of {end} runs at {speed} GT/s, and both of its"
            f" ends can {fastest} GT/s"
            + (
                ": idle GPUs do that, so look again under load"
                if is_idle
                else ""
            ),
            device=str(device.address),
            evidence=evidence,
            cures=() if is_idle else cures,
        )


def _count(text: str | None) -> int | None:
    # 64 bits have 20 digits at most.
    return int(text) if text and re.fullmatch("[0-9]{1,20}", text) else None


def count_errors(
    tree: tree_lib.Tree, counter: ErrorCounter, address: PciAddress
) -> dict[str, int]:
    """Read how often each error has been, since the host was started."""
    text = tree.read(f"{reader.DEVICES}/{address}/{counter.name}") or ""
    return {
        match["name"]: int(match["count"])
        for line in text.splitlines()
        if (match := _ERROR_LINE.fullmatch(line.strip()))
        and not match["name"].startswith("TOTAL")
        and match["name"] not in counter.without
        and int(match["count"])
    }


def _errors(context: Context, device: Function) -> Iterator[Finding]:
    """Check the error counters of all links between the CPU and the device.

    Errors on the way to a PCIe switch are counted by the switch and by the
    root port, and all devices below have them.
    """
    for address in (*device.bridges, device.address):
        for counter in ERROR_COUNTERS:
            path = f"{reader.DEVICES}/{address}/{counter.name}"
            errors = count_errors(context.tree, counter, address)
            if sum(errors.values()) < counter.at_least:
                continue
            yield Finding(
                Severity.WARNING,
                "link",
                f"{sum(errors.values())} {counter.kind} PCIe errors of"
                f" {address} since the host was started",
                device=str(device.address),
                evidence=(
                    Evidence(
                        path,
                        " ".join(
                            f"{name} {count}" for name, count in errors.items()
                        ),
                    ),
                ),
                cures=(
                    f"# see what came with them: dmesg | grep {address}; seat"
                    " the card and its riser again, or try another slot",
                ),
            )


def _errors_of_port(context: Context, device: Function) -> Iterator[Finding]:
    """Check what a root port has received, and no device has now."""
    port = device.bridges[0] if device.bridges else None
    if port is None:
        return
    for counter in PORT_COUNTERS:
        path = f"{reader.DEVICES}/{port}/{counter.name}"
        count = _count(context.tree.read(path))
        if count is None or count < counter.at_least:
            continue
        # Disks, and what else is in no inventory, send messages, too.
        told = sum(
            _total(context.tree, counter.of_devices, address)
            for address in _below(context.tree, port)
        )
        if count - told < counter.at_least:
            continue
        yield Finding(
            Severity.WARNING,
            "link",
            f"root port {port} has received {count - told} messages of"
            f" {counter.kind} PCIe errors from devices that have been removed"
            " since, or from others below it",
            device=str(device.address),
            evidence=(Evidence(path, str(count)),),
            cures=(
                f"# see what came with them: dmesg | grep {port}; seat the"
                " card and its riser again, or try another slot",
            ),
        )


def _below(tree: tree_lib.Tree, port: PciAddress) -> Iterator[PciAddress]:
    """Yield a port and all that is below it now."""
    place = f"{tree.resolve(f'{reader.DEVICES}/{port}')}/"
    for name in tree.entries(reader.DEVICES):
        address = address_lib.find(name)
        below = f"{tree.resolve(f'{reader.DEVICES}/{name}')}/"
        if address and below.startswith(place):
            yield address


def _total(tree: tree_lib.Tree, name: str, address: PciAddress) -> int:
    """Add up a file of a device's AER counters, all errors of it."""
    text = tree.read(f"{reader.DEVICES}/{address}/{name}") or ""
    return sum(
        int(match["count"])
        for line in text.splitlines()
        if (match := _ERROR_LINE.fullmatch(line.strip()))
        and not match["name"].startswith("TOTAL")
    )


def _bar_sizes(device: Function) -> str | None:
    return (
        " ".join(
            f"BAR{bar.index}={sizes.text(bar.size)}" for bar in device.bars
        )
        or None
    )


def _own_width(device: Function) -> str | None:
    link = device.pcie_link
    if link is None or link.width in (None, 0, _NO_WIDTH):
        return None
    return f"x{link.width}"


def _own_speed(device: Function) -> str | None:
    link = device.pcie_link
    if link is None or _gts(link.speed) in (None, _IDLE_GTS):
        return None
    return link.speed


def _most_link(device: Function) -> str | None:
    link = device.pcie_link
    return f"{link.max_speed} x{link.max_width}" if link else None


def _vfs(device: Function) -> str | None:
    return str(device.sriov_totalvfs or 0)


def _resets(device: Function) -> str | None:
    methods = device.reset_methods
    return None if methods is None else " ".join(methods) or "none"


@dataclasses.dataclass(frozen=True, slots=True)
class Likeness:
    """What devices of one model on one host have in common."""

    what: str
    file: str
    value: Callable[[Function], str | None]
    """None: the device does not say, or it may differ now."""
    is_of_link: bool = False


_LIKENESSES = (
    Likeness("BARs", "resource", _bar_sizes),
    Likeness("the width of its link", "current_link_width", _own_width, True),
    Likeness("the speed of its link", "current_link_speed", _own_speed, True),
    Likeness("the link that it can have", "max_link_speed", _most_link, True),
    Likeness("the number of VFs", "sriov_totalvfs", _vfs),
    Likeness("ways to be reset", "reset_method", _resets),
)


def _peers(
    context: Context, device: Function, has_bad_link: bool
) -> Iterator[Finding]:
    """Compare a device with those of the same model, where most agree."""
    peers = _peers_of(context, device)
    for likeness in _LIKENESSES:
        own = likeness.value(device)
        others = [value for peer in peers if (value := likeness.value(peer))]
        if own is None or len(others) < 2:
            continue
        if has_bad_link and likeness.is_of_link:
            # It has been said.
            continue
        usual, count = collections.Counter(others).most_common(1)[0]
        if usual == own or 2 * count <= len(others) + 1:
            continue
        yield Finding(
            Severity.WARNING,
            "peers",
            f"the device differs from {count} of the same model in"
            f" {likeness.what}: {own}, not {usual}",
            device=str(device.address),
            evidence=(
                Evidence(f"{_path(device)}/{likeness.file}", own),
                Evidence(f"{_path(peers[0])}/{likeness.file}", usual),
            ),
            cures=(
                "# look for other firmware on the card, another slot or riser,"
                " or settings of the slot in the firmware's setup",
            ),
        )
