# SPDX-License-Identifier: Apache-2.0

"""Options of Nova's scheduler and quota by which hosts are left out.

Names and defaults are those of nova/conf/scheduler.py and nova/conf/quota.py
of Nova 34.
"""

import typing

if typing.TYPE_CHECKING:
    from oslo_config import cfg

UNIFIED_LIMITS: typing.Final = "nova.quota.UnifiedLimitsDriver"
"""The ``[quota]driver`` that enforces the limits of Keystone."""
FILTERS: typing.Final = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
"""Those that are enabled unless nova.conf says it."""


def register(conf: "cfg.ConfigOpts") -> None:
    """Register the options, before the files are read."""
    from oslo_config import cfg

    conf.register_opts(
        [
            cfg.BoolOpt(name, default=False)
            for name in (
                "limit_tenants_to_placement_aggregate",
                "placement_aggregate_required_for_tenants",
                "enable_isolated_aggregate_filtering",
                "image_metadata_prefilter",
            )
        ],
        group="scheduler",
    )
    conf.register_opt(
        cfg.ListOpt("enabled_filters", default=list(FILTERS)),
        group="filter_scheduler",
    )
    conf.register_opts(
        [
            cfg.StrOpt("driver", default="nova.quota.DbQuotaDriver"),
            cfg.StrOpt("unified_limits_resource_strategy", default="require"),
            cfg.ListOpt("unified_limits_resource_list", default=["servers"]),
        ],
        group="quota",
    )
