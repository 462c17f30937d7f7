# SPDX-License-Identifier: Apache-2.0

"""Reads the types of mediated devices from the nova.conf of a compute node.

Names, places and former names are those of nova/conf/devices.py of Nova 34.
"""

import dataclasses
import typing

from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import resource_groups

if typing.TYPE_CHECKING:
    from oslo_config import cfg

CLASS: typing.Final = f"^({resource_groups.VGPU}|{names.CUSTOM}[A-Z0-9_]+)$"
"""Regular expression of what ``mdev_class`` takes."""


@dataclasses.dataclass(frozen=True)
class MdevGroup:
    """One type of ``[devices]enabled_mdev_types``, with its own group."""

    type_id: str
    device_addresses: tuple[str, ...] = ()
    mdev_class: str = resource_groups.VGPU


def register(conf: "cfg.ConfigOpts") -> None:
    """Register what names the types, before the files are read."""
    from oslo_config import cfg

    conf.register_opt(
        cfg.ListOpt(
            "enabled_mdev_types",
            default=[],
            deprecated_name="enabled_vgpu_types",
        ),
        group="devices",
    )


def read(conf: "cfg.ConfigOpts") -> tuple[MdevGroup, ...]:
    """Read the groups of the types, when the files have been read.

    :raises ValueError: a class is none.
    """
    from oslo_config import cfg

    found = []
    for type_id in conf.devices.enabled_mdev_types:
        group = f"mdev_{type_id}"
        conf.register_opt(
            cfg.ListOpt(
                "device_addresses",
                default=[],
                item_type=cfg.types.String(),
                deprecated_group=f"vgpu_{type_id}",
            ),
            group=group,
        )
        conf.register_opt(
            cfg.StrOpt(
                "mdev_class",
                default=resource_groups.VGPU,
                regex=CLASS,
                max_length=names.MAX_LENGTH,
            ),
            group=group,
        )
        options = conf[group]
        found.append(
            MdevGroup(
                type_id, tuple(options.device_addresses), options.mdev_class
            )
        )
    return tuple(found)
