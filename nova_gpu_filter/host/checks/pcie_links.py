# SPDX-License-Identifier: Apache-2.0

"""Are the PCIe links to a device as fast as they can be, and without errors?

Sources: the kernel's drivers/pci/pci-sysfs.c (current_link_speed,
current_link_width) and
Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats.
"""

from collections.abc import Iterator
import dataclasses
import re

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import tree as tree_lib

_LINK = Reporter("link")

NO_WIDTH = 63
"""The width of a link whose status reads all ones (PCI_EXP_LNKSTA_NLW)."""
IDLE_GTS = 2.5
"""GPUs go down to the first generation of PCIe when they are idle."""


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorCounter:
    """A file of AER counters, and from when on they mean trouble."""

    name: str
    of_port: str
    """The file in which a root port counts the messages of all below it."""
    kind: str
    at_least: int
    without: frozenset[str]
    """Errors that do not count."""
    source: str


ERROR_COUNTERS = (
    ErrorCounter(
        "aer_dev_fatal",
        "aer_rootport_total_err_fatal",
        "fatal",
        1,
        frozenset(),
        "PCIe 6.2.2.2.1: link lost",
    ),
    ErrorCounter(
        "aer_dev_nonfatal",
        "aer_rootport_total_err_nonfatal",
        "uncorrectable",
        1,
        # Probing of functions that are not there makes it.
        frozenset({"UnsupReq"}),
        "PCIe 6.2.2.2.2: a transaction was lost",
    ),
    ErrorCounter(
        "aer_dev_correctable",
        "aer_rootport_total_err_cor",
        "corrected",
        1000,
        # It stands for an uncorrectable one that its receiver did not mind.
        frozenset({"NonFatalErr"}),
        "PCIe 6.2.2.1: repeated by the link; many are a bad riser or slot",
    ),
)
_ERROR_LINE = re.compile(r"(?P<name>\w+) (?P<count>[0-9]{1,20})")


def parse_gts(speed: str | None) -> float | None:
    """Read the speed of a link in GT/s; None: it has none."""
    match = re.match(r"([0-9.]+) GT/s", speed or "")
    return float(match[1]) if match else None


def check_links(context: Context, device: Function) -> Findings:
    """Check each PCIe link on the way from the root port to the device."""
    # Ports alternate: root port, upstream, downstream, upstream ...
    ends: list[PciAddress] = [*device.bridges[1::2], device.address]
    for port, end in zip(device.bridges[::2], ends, strict=False):
        yield from _check_link(context, device, port, end)


def _check_link(
    context: Context, device: Function, port: PciAddress, end: PciAddress
) -> Findings:
    read = context.tree.read
    ends = (end.path, port.path)
    width = _count(read(f"{end.path}/current_link_width"))
    widest = min(_count(read(f"{one}/max_link_width")) or 0 for one in ends)
    speed = parse_gts(read(f"{end.path}/current_link_speed"))
    fastest = min(
        parse_gts(read(f"{one}/max_link_speed")) or 0 for one in ends
    )
    evidence = [
        context.read_evidence(f"{link}_{what}")
        for link in (
            f"{end.path}/current_link",
            f"{end.path}/max_link",
            f"{port.path}/max_link",
        )
        for what in ("width", "speed")
    ]
    cures = (
        "# seat the card, its riser and its cables again, clean the contacts,"
        " or try another slot; look for limits of the slot in the firmware's"
        " setup",
    )
    if width and width < widest < NO_WIDTH:
        yield _LINK.warning(
            f"the PCIe link of {end} is x{width}, and both of its ends can"
            f" x{widest}",
            *evidence,
            device=device.address,
            cures=cures,
        )
    if speed and speed < fastest:
        is_idle = speed == IDLE_GTS
        yield _LINK.report(
            Severity.NOTE if is_idle else Severity.WARNING,
            f"the PCIe link of {end} runs at {speed} GT/s, and both of its"
            f" ends can {fastest} GT/s"
            + (
                ": idle GPUs do that, so look again under load"
                if is_idle
                else ""
            ),
            *evidence,
            device=device.address,
            cures=() if is_idle else cures,
        )


def _count(text: str | None) -> int | None:
    # 64 bits have 20 digits at most.
    return int(text) if text and re.fullmatch("[0-9]{1,20}", text) else None


def count_errors(
    tree: tree_lib.Tree, counter: ErrorCounter, address: PciAddress
) -> dict[str, int]:
    """Read how often each error has been, since the host was started."""
    return {
        name: count
        for name, count in _read_counter(tree, counter.name, address)
        if count and name not in counter.without
    }


def _read_counter(
    tree: tree_lib.Tree, name: str, address: PciAddress
) -> Iterator[tuple[str, int]]:
    """Yield each error in a file of AER counters of a device."""
    text = tree.read(f"{address.path}/{name}") or ""
    for line in text.splitlines():
        match = _ERROR_LINE.fullmatch(line.strip())
        if match and not match["name"].startswith("TOTAL"):
            yield match["name"], int(match["count"])


def check_errors(context: Context, device: Function) -> Findings:
    """Check the error counters of all links between the CPU and the device.

    Errors on the way to a PCIe switch are counted by the switch and by the
    root port, and all devices below have them.
    """
    for address in (*device.bridges, device.address):
        for counter in ERROR_COUNTERS:
            errors = count_errors(context.tree, counter, address)
            total = sum(errors.values())
            if total < counter.at_least:
                continue
            yield _LINK.warning(
                f"{total} {counter.kind} PCIe errors of {address} since the"
                " host was started",
                Evidence(
                    f"{address.path}/{counter.name}",
                    " ".join(
                        f"{name} {count}" for name, count in errors.items()
                    ),
                ),
                device=device.address,
                cures=(
                    f"# see what came with them: dmesg | grep {address}; seat"
                    " the card and its riser again, or try another slot",
                ),
            )
    yield from _check_errors_of_port(context, device)


def _check_errors_of_port(context: Context, device: Function) -> Findings:
    """Check what a root port has received, and no device has now.

    It counts for itself and all below it; the counters of a device go with it
    when it is removed (pci_rootport_aer_stats_incr in the kernel's
    drivers/pci/pcie/aer.c).
    """
    if not device.bridges:
        return
    port = device.bridges[0]
    for counter in ERROR_COUNTERS:
        path = f"{port.path}/{counter.of_port}"
        count = _count(context.tree.read(path))
        if count is None or count < counter.at_least:
            continue
        # Disks, and what else is in no inventory, send messages, too.
        reported = sum(
            sent
            for address in _find_below(context.tree, port)
            for _, sent in _read_counter(context.tree, counter.name, address)
        )
        if count - reported < counter.at_least:
            continue
        yield _LINK.warning(
            f"root port {port} has received {count - reported} messages of"
            f" {counter.kind} PCIe errors from devices that have been removed"
            " since, or from others below it",
            Evidence(path, str(count)),
            device=device.address,
            cures=(
                f"# see what came with them: dmesg | grep {port}; seat the"
                " card and its riser again, or try another slot",
            ),
        )


def _find_below(tree: tree_lib.Tree, port: PciAddress) -> Iterator[PciAddress]:
    """Yield a port and all that is below it now."""
    place = f"{tree.resolve(port.path)}/"
    for name in tree.list_entries(address_lib.DEVICES):
        address = address_lib.find(name)
        if address and f"{tree.resolve(address.path)}/".startswith(place):
            yield address
