# SPDX-License-Identifier: Apache-2.0

"""What a picture of a host shows, before it is text or SVG.

Devices stand in frames, a frame for each NUMA node, PCIe root or switch.
Beside them is a column for each link group and each fabric partition.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum

from nova_gpu_filter import printable


class State(enum.Enum):
    """What can be had of a set of devices; the value is for legends."""

    FREE = "free"
    TAKEN = "taken"
    BROKEN = "broken: only a part is free"
    UNKNOWN = "not known"


@dataclasses.dataclass(frozen=True)
class Box(printable.OneLineTexts):
    """A device."""

    key: str
    """Tells it from all others: UUID of its provider, or its address."""
    label: str
    """What to call it: ``0000:1b:00.0``."""
    text: str
    """What it is: ``H100 SXM5 80GB``."""
    status: str
    """Who has it, or what is to know of it: ``train-1``, ``vfio-pci``."""
    legend: str
    """What its colour means."""
    color: str | None = None
    """What has one colour: UUIDs of servers, kinds of devices. None for the
    colours of what is free, and of what nobody can have."""
    is_free: bool | None = None
    """None where it is not known."""
    tooltip: str = ""


@dataclasses.dataclass(frozen=True)
class Frame:
    """Devices that are near to each other, and frames of nearer ones."""

    name: str
    frames: tuple["Frame", ...] = ()
    boxes: tuple[Box, ...] = ()
    """Those in none of the frames."""
    is_strong: bool = False
    """Whether its name is to stand out: that of a NUMA node."""

    def iterate_boxes(self) -> Iterator[Box]:
        """Generate its devices and those of its frames, from top to bottom."""
        yield from self.boxes
        for frame in self.frames:
            yield from frame.iterate_boxes()


@dataclasses.dataclass(frozen=True)
class Column:
    """A link group, or a fabric partition."""

    kind: str
    """``NV18``, ``fabric``: the same in neighbors is written once."""
    name: str
    keys: tuple[str, ...]
    """Of the devices that belong to it."""
    is_partition: bool = False
    is_whole: bool = True
    """Whether all devices of a partition are in the picture."""
    is_active: bool = False
    """Whether Fabric Manager has activated the partition."""

    def find_state(self, is_free: Mapping[str, bool | None]) -> State:
        """Work out what can be had of it.

        :param is_free: by key of the device.
        """
        states = {is_free[key] for key in self.keys}
        if None in states:
            return State.UNKNOWN
        if len(states) > 1 or not self.is_whole:
            return State.BROKEN
        return State.FREE if True in states else State.TAKEN


@dataclasses.dataclass(frozen=True)
class Picture:
    """A host."""

    name: str
    """Of the host."""
    summary: str
    """What of it is free: ``8 devices, 5 free``."""
    frame: Frame
    """Has no name itself."""
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name and the summary."""
        return f"{self.name}: {self.summary}"

    @property
    def is_free(self) -> dict[str, bool | None]:
        """Whether a device is free, by key."""
        return {box.key: box.is_free for box in self.frame.iterate_boxes()}
