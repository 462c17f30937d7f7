# SPDX-License-Identifier: Apache-2.0

"""Reads the options of devices from the nova.conf of a compute node.

Names, places and former names are those of nova/conf/pci.py,
nova/conf/devices.py and nova/conf/libvirt.py of Nova 34. oslo.config is slow
to import, and most commands read no nova.conf.
"""

import dataclasses
import typing

from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import resource_groups

if typing.TYPE_CHECKING:
    from oslo_config import cfg

MDEV_CLASS: typing.Final = (
    f"^({resource_groups.VGPU}|{names.CUSTOM}[A-Z0-9_]+)$"
)
"""Regular expression of what ``mdev_class`` takes."""


@dataclasses.dataclass(frozen=True)
class MdevGroup:
    """One type of ``[devices]enabled_mdev_types``, with its own group."""

    type_id: str
    device_addresses: tuple[str, ...] = ()
    mdev_class: str = resource_groups.VGPU


@dataclasses.dataclass(frozen=True)
class PciOptions:
    """The options of a compute node about PCI devices."""

    source: str
    device_specs: tuple[str, ...]
    aliases: tuple[str, ...]
    report_in_placement: bool
    permits_post_copy: bool = False
    """``[libvirt]live_migration_permit_post_copy``."""
    mdev_groups: tuple[MdevGroup, ...] = ()
    """``[devices]enabled_mdev_types``, in their order."""


def list_options() -> "list[cfg.Opt]":
    """Make the options of ``[pci]``."""
    from oslo_config import cfg

    return [
        cfg.MultiStrOpt(
            "device_spec",
            default=[],
            deprecated_opts=[
                cfg.DeprecatedOpt("passthrough_whitelist", group="pci"),
                cfg.DeprecatedOpt(
                    "pci_passthrough_whitelist", group="DEFAULT"
                ),
            ],
        ),
        cfg.MultiStrOpt(
            "alias",
            default=[],
            deprecated_name="pci_alias",
            deprecated_group="DEFAULT",
        ),
        cfg.BoolOpt("report_in_placement", default=False),
    ]


def register(conf: "cfg.ConfigOpts") -> None:
    """Register all options whose names are known before files are read."""
    from oslo_config import cfg

    conf.register_opts(list_options(), group="pci")
    conf.register_opt(
        cfg.BoolOpt("live_migration_permit_post_copy", default=False),
        group="libvirt",
    )
    conf.register_opt(
        cfg.ListOpt(
            "enabled_mdev_types",
            default=[],
            deprecated_name="enabled_vgpu_types",
        ),
        group="devices",
    )


def read(*paths: str) -> PciOptions:
    """Read configuration files as a Nova service does.

    Later ones go over earlier; a directory stands for its ``*.conf``.

    :raises FileUnreadable: one is not there, or not ours to read.
    :raises BadInput: one is no configuration file.
    """
    from oslo_config import cfg

    conf = cfg.ConfigOpts()
    register(conf)
    with conf_files.read_into(conf, paths):
        return PciOptions(
            source=", ".join(paths),
            device_specs=tuple(conf.pci.device_spec),
            aliases=tuple(conf.pci.alias),
            report_in_placement=conf.pci.report_in_placement,
            permits_post_copy=conf.libvirt.live_migration_permit_post_copy,
            mdev_groups=tuple(
                _read_mdev_group(conf, type_id)
                for type_id in conf.devices.enabled_mdev_types
            ),
        )


def _read_mdev_group(conf: "cfg.ConfigOpts", type_id: str) -> MdevGroup:
    """Read the group of a type, when the files have been read.

    :raises ValueError: its class is none.
    """
    from oslo_config import cfg

    group = f"mdev_{type_id}"
    conf.register_opts(
        [
            cfg.ListOpt(
                "device_addresses",
                default=[],
                item_type=cfg.types.String(),
                deprecated_group=f"vgpu_{type_id}",
            ),
            cfg.StrOpt(
                "mdev_class",
                default=resource_groups.VGPU,
                regex=MDEV_CLASS,
                max_length=names.MAX_LENGTH,
            ),
        ],
        group=group,
    )
    options = conf[group]
    return MdevGroup(
        type_id, tuple(options.device_addresses), options.mdev_class
    )
