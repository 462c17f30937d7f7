# SPDX-License-Identifier: Apache-2.0

"""What sysfs says of a device, and resets through it.

Files: the kernel's Documentation/ABI/testing/sysfs-bus-pci (``reset``,
``reset_method``, ``reset_subordinate``). The kernel tries the methods of a
device in their order, and resets its slot or bus only where nothing else is on
it (pci_parent_bus_reset in drivers/pci/pci.c).
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
import os
import time
from typing import Any
from typing import Final

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import context as context_lib
from nova_gpu_filter.host.checks import health
from nova_gpu_filter.host.checks import pcie_links
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.host.sysfs import pci_config
from nova_gpu_filter.host.sysfs import pci_functions
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib
from nova_gpu_filter.severity import Severity

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_READINGS: Final = 3
"""How often a device has to be silent before it counts as dead: one that
wakes up, or that somebody else resets, is silent for a moment."""
_READING_SECONDS: Final = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """How a device is at one moment; kept as the baseline of the next."""

    boot: str
    """Which start of the host it is of: counters begin with it."""
    counters: Mapping[str, int]
    """PCIe errors since the host was started, by kind."""
    problems: tuple[str, ...]
    """What is wrong whatever was before."""
    warnings: Mapping[str, str]
    """What may be as it always was: (check, file, content) -> in words."""
    width: int
    """Lanes of its link; 0 if sysfs does not say."""
    bars: str
    """Sizes of its memory."""

    def dump(self) -> str:
        """Write it as text, for the ledger."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def load(cls, text: str) -> "Health | None":
        """Read what :meth:`dump` wrote; None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def compare(
    before: Health | None, now: Health, corrected_errors: int
) -> tuple[str, ...]:
    """Say why a device must not be given away, in words.

    :param before: how it was when it was last clean. Without it what is only
        unusual is accepted: the slot may have no more lanes.
    :param corrected_errors: so many corrected PCIe errors in between are too
        many.
    """
    if before is None:
        return now.problems
    found = list(now.problems)
    found += [
        text
        for key, text in now.warnings.items()
        if key not in before.warnings
    ]
    if 0 < now.width < before.width:
        found.append(f"its link has x{now.width}, and had x{before.width}")
    if now.bars != before.bars:
        found.append(f"its BARs are {now.bars}, and were {before.bars}")
    found += find_new_errors(before, now, corrected_errors)
    return tuple(found)


def find_new_errors(
    before: Health, now: Health, corrected_errors: int
) -> tuple[str, ...]:
    """Say which PCIe errors there were in between, where they are too many."""
    found = []
    limits = {
        counter.kind: counter.at_least for counter in pcie_links.ERROR_COUNTERS
    } | {"corrected": corrected_errors}
    for kind, count in now.counters.items():
        earlier = (
            before.counters.get(kind, 0) if now.boot == before.boot else 0
        )
        # A device that was removed and found again counts from 0, too.
        more = count - earlier if count >= earlier else count
        if more >= limits.get(kind, 1):
            found.append(f"{more} {kind} PCIe errors")
    return tuple(found)


class Bus:
    """The PCI devices of a host."""

    def __init__(
        self, root: str = "/", reading_seconds: float = _READING_SECONDS
    ) -> None:
        """Nothing is read yet.

        :param root: where the files of the host are.
        :param reading_seconds: how long to wait before a device that does not
            answer is read again.
        """
        self._root = root
        self._reading_seconds = reading_seconds

    def find_dead(self, addresses: Iterable[str]) -> frozenset[str]:
        """Find the devices that are not on the bus, or do not answer."""
        silent = list(addresses)
        for reading in range(_READINGS):
            if reading and silent:
                time.sleep(self._reading_seconds)
            silent = [one for one in silent if not self._answers(one)]
        return frozenset(silent)

    def _answers(self, address: str) -> bool:
        tree = tree_lib.Tree(self._root)
        path = f"{address_lib.DEVICES}/{address}"
        vendor = tree.read_number(f"{path}/vendor")
        product = tree.read_number(f"{path}/device")
        if vendor is None or product is None:
            return False
        config = tree.read_bytes(f"{path}/config", pci_config.HEADER_BYTES)
        # Copies of sysfs have no configuration space.
        return config is None or (
            pci_config.silence(config, vendor, product) is None
        )

    def has_vfs(self, address: str) -> bool:
        """Whether a device is a PF that has VFs now."""
        path = f"{address_lib.DEVICES}/{address}/sriov_numvfs"
        return bool(tree_lib.Tree(self._root).read_number(path))

    def is_nvidia_gpu(self, address: str) -> bool:
        """Whether a device is a GPU of NVIDIA."""
        tree = tree_lib.Tree(self._root)
        path = f"{address_lib.DEVICES}/{address}"
        kind = (tree.read_number(f"{path}/class") or 0) >> 8
        vendor = tree.read_number(f"{path}/vendor")
        return vendor == chips.NVIDIA and kind in pci_functions.GPU_CLASSES

    def is_for_guests(self, address: str) -> bool:
        """Whether a driver of VFIO has a device, or none."""
        path = f"{address_lib.DEVICES}/{address}/driver"
        driver = tree_lib.Tree(self._root).read_link_name(path)
        return driver is None or driver in drivers.VFIO_DRIVERS

    def read_counters(self, address: str) -> Health:
        """Read the error counters of a device, and nothing else of it."""
        tree = tree_lib.Tree(self._root)
        counters = _count(tree, PciAddress.parse(address))
        return Health(read_boot(tree), counters, (), {}, 0, "")

    def read_health(self, address: str) -> Health:
        """Check a device by itself, and against those of the same model."""
        tree, host, device = self._read(address)
        boot = read_boot(tree)
        if device is None:
            return Health(boot, {}, ("it is not on the bus",), {}, 0, "")
        seen = context_lib.Context(tree, host)
        problems, warnings = [], {}
        for finding in health.check(seen, device):
            evidence = finding.evidence[:1]
            names = [os.path.basename(one.path) for one in evidence]
            # They are compared with what they were.
            is_counter = any(name.startswith("aer_") for name in names)
            if finding.severity is Severity.ERROR:
                problems.append(finding.summary)
            elif finding.severity is Severity.WARNING and not is_counter:
                key = " ".join((finding.check, *map(str, evidence)))
                warnings[key] = finding.summary
        link = device.pcie_link
        return Health(
            boot,
            _count(tree, device.address),
            problems=tuple(problems),
            warnings=warnings,
            width=(link.width or 0) if link else 0,
            bars=" ".join(f"{bar.index}:{bar.size:x}" for bar in device.bars),
        )

    def reset(self, address: str, held: Collection[str]) -> str | None:
        """Reset a device: alone, or else with all that is below its bridge.

        :param held: devices that servers have; they are not reset.
        :returns: why it was not reset; None if it was.
        """
        tree, host, device = self._read(address)
        if device is None:
            return "it is not on the bus"
        path = f"{address_lib.DEVICES}/{address}/reset"
        why = self._write(tree, path)
        if why is None:
            return None
        if not device.bridges:
            return f"{path}: {why}"
        bridge = device.bridges[-1]
        others = [
            str(one.address)
            for one in host.functions
            if bridge in one.bridges and one.address != device.address
        ]
        cause = None
        if in_use := sorted(set(others) & set(held)):
            cause = f"{', '.join(in_use)} is in use"
        elif foreign := [one for one in others if not self.is_for_guests(one)]:
            cause = f"the host uses {', '.join(foreign)}"
        if cause is not None:
            return f"{path}: {why}; its bus cannot be reset while {cause}"
        path = f"{address_lib.DEVICES}/{bridge}/reset_subordinate"
        above = self._write(tree, path)
        return None if above is None else f"{why}; {path}: {above}"

    def _write(self, tree: tree_lib.Tree, path: str) -> str | None:
        """Write 1 to a file that is there; give what is wrong."""
        place = tree.resolve(path)
        if place is None or not tree.exists(path):
            return "the kernel has no such file"
        try:
            with open(
                tree.root.rstrip("/") + place, "w", encoding="ascii"
            ) as file:
                file.write("1")
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _read(
        self, address: str
    ) -> tuple[tree_lib.Tree, Inventory, Function | None]:
        tree = tree_lib.Tree(self._root)
        # Any device can be given away: disks, too. Names are not needed.
        host = reader.read(tree, pci_ids.Names("", "\n"), everything=True)
        wanted = address_lib.find(address)
        found = (one for one in host.functions if one.address == wanted)
        return tree, host, next(found, None)


@dataclasses.dataclass(slots=True)
class ErrorCounters:
    """The error counters of devices as they were read last."""

    bus: Bus
    corrected_errors: int
    """So many corrected errors between two readings are too many."""
    last: dict[str, Health] = dataclasses.field(default_factory=dict)
    """By address."""

    def find_new(self, address: str, baseline: str) -> tuple[str, ...]:
        """Say which errors there were since the last reading, where they are
        too many.

        :param baseline: the health of the device when it was last clean, with
            which the first reading is compared; "": with nothing.
        """
        now = self.bus.read_counters(address)
        before = self.last.get(address) or Health.load(baseline)
        self.last[address] = now
        if before is None:
            return ()
        return find_new_errors(before, now, self.corrected_errors)

    def forget(self, address: str) -> None:
        """Compare the next reading with the baseline."""
        self.last.pop(address, None)


def read_boot(tree: tree_lib.Tree) -> str:
    """Read which start of the host this is."""
    return tree.read(_BOOT_ID) or ""


def _count(tree: tree_lib.Tree, address: PciAddress) -> dict[str, Any]:
    return {
        counter.kind: sum(
            pcie_links.count_errors(tree, counter, address).values()
        )
        for counter in pcie_links.ERROR_COUNTERS
    }
