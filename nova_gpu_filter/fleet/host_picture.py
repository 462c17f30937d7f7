# SPDX-License-Identifier: Apache-2.0

"""Makes the picture of a host: its devices, their links, and who has them."""

from collections.abc import Mapping
import dataclasses

from nova_gpu_filter.drawing import arrange
from nova_gpu_filter.drawing import picture
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import codec


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who has a device."""

    label: str
    """What to write: ``infer-2 (resize, source)``."""
    key: str
    """What has one colour: UUIDs of servers, not names."""


def list_owners(host: model.Host, held: holders.Holders) -> dict[str, Owner]:
    """List who has the devices of a host, by UUID of the provider."""
    found = {}
    for device in host.devices:
        owners = held.list_owners(device)
        if owners:
            keys = sorted(held.get_holder(one.consumer).key for one in owners)
            label = ", ".join(held.list_labels(device))
            found[device.uuid] = Owner(label, ",".join(keys))
    return found


def make(host: model.Host, owners: Mapping[str, Owner]) -> picture.Picture:
    """Make the picture of a host; see :func:`list_owners`."""
    boxes = [
        _make_box(device, owners.get(device.uuid)) for device in host.devices
    ]
    problem = linked_devices.LinkedDevices.from_devices(host.devices).problem
    device_links = {
        device.uuid: _read_links(device) for device in host.devices
    }
    columns = () if problem else arrange.list_columns(boxes, device_links)
    free = sum(device.is_free for device in host.devices)
    summary = arrange.summarize(len(boxes), free)
    if host.obstacles:
        summary += f", {host.status}"
    return picture.Picture(
        host.name,
        summary,
        arrange.nest(boxes, device_links),
        tuple(columns),
        (f"Links are not known: {problem}",) if problem else (),
    )


def _make_box(device: model.Device, owner: Owner | None) -> picture.Box:
    status = legend = device.state.value if owner is None else owner.label
    if owner is not None and device.is_quarantined:
        status = f"{owner.label}, {model.State.QUARANTINED.value}"
    return picture.Box(
        key=device.uuid,
        label=device.address,
        text=_describe_device(device),
        status=status,
        legend=legend,
        color=None if owner is None else owner.key,
        is_free=device.is_free,
        tooltip=f"{device.address} {device.model}, {status}, {device.name}",
    )


def _describe_device(device: model.Device) -> str:
    """Write what it is; of VFs and mediated devices, also how many."""
    if device.amount.capacity < 2:
        return device.model
    return f"{device.model}, {device.free} of {device.amount.capacity} free"


def _read_links(device: model.Device) -> codec.DeviceLinks:
    try:
        return codec.parse_traits(device.name, device.traits)
    except codec.LinkTextError:
        return codec.DeviceLinks()
