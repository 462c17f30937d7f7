# SPDX-License-Identifier: Apache-2.0

"""Reads the options of ``[pci]`` from the nova.conf of a compute node."""

import dataclasses
import typing

from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.nova_rules import mdev_options

if typing.TYPE_CHECKING:
    from oslo_config import cfg


def list_options() -> "list[cfg.Opt]":
    """Make the options, with names, places and former names of Nova 34.

    They are those of nova/conf/pci.py. oslo.config is slow to import, and most
    commands read no nova.conf.
    """
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


@dataclasses.dataclass(frozen=True)
class PciOptions:
    """The options of a compute node about PCI devices."""

    source: str
    device_specs: tuple[str, ...]
    aliases: tuple[str, ...]
    report_in_placement: bool
    permits_post_copy: bool = False
    """``[libvirt]live_migration_permit_post_copy``."""
    mdev_groups: tuple[mdev_options.MdevGroup, ...] = ()
    """``[devices]enabled_mdev_types``, in their order."""


def read(*paths: str) -> PciOptions:
    """Read configuration files as a Nova service does.

    Later ones go over earlier; a directory stands for its ``*.conf``.

    :raises FileUnreadable: one is not there, or not ours to read.
    :raises BadInput: one is no configuration file.
    """
    from oslo_config import cfg

    conf = cfg.ConfigOpts()
    conf.register_opts(list_options(), group="pci")
    conf.register_opt(
        cfg.BoolOpt("live_migration_permit_post_copy", default=False),
        group="libvirt",
    )
    mdev_options.register(conf)
    with conf_files.read_into(conf, paths):
        return PciOptions(
            source=", ".join(paths),
            device_specs=tuple(conf.pci.device_spec),
            aliases=tuple(conf.pci.alias),
            report_in_placement=conf.pci.report_in_placement,
            permits_post_copy=conf.libvirt.live_migration_permit_post_copy,
            mdev_groups=mdev_options.read(conf),
        )
