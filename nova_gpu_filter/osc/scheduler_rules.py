# SPDX-License-Identifier: Apache-2.0

"""What nova.conf says of aggregates and quota."""

from collections.abc import Sequence

from oslo_config import cfg

from nova_gpu_filter.fleet import placing
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.nova_rules import conf_files

# Defaults as in nova/conf/scheduler.py of Nova 34.
_SCHEDULER = [
    cfg.BoolOpt("limit_tenants_to_placement_aggregate", default=False),
    cfg.BoolOpt("placement_aggregate_required_for_tenants", default=False),
    cfg.BoolOpt("enable_isolated_aggregate_filtering", default=False),
    cfg.BoolOpt("image_metadata_prefilter", default=False),
]
_FILTER_SCHEDULER = [cfg.ListOpt("enabled_filters")]
# As in nova/conf/quota.py.
_QUOTA = [
    cfg.StrOpt("driver", default="nova.quota.DbQuotaDriver"),
    cfg.StrOpt("unified_limits_resource_strategy", default="require"),
    cfg.ListOpt("unified_limits_resource_list", default=["servers"]),
]
_UNIFIED = "nova.quota.UnifiedLimitsDriver"


def read(paths: Sequence[str]) -> tuple[placing.Rules, quota.Rules]:
    """Read the rules from nova.conf files.

    :param paths: none of them if no nova.conf is known.
    :raises GpuFilterError: a file cannot be read, or an option is wrong.
    """
    if not paths:
        return placing.Rules(), quota.Rules()
    conf = cfg.ConfigOpts()
    conf.register_opts(_SCHEDULER, group="scheduler")
    conf.register_opts(_FILTER_SCHEDULER, group="filter_scheduler")
    conf.register_opts(_QUOTA, group="quota")
    with conf_files.reading(conf, paths):
        placing_rules = placing.Rules(
            filters=frozenset(conf.filter_scheduler.enabled_filters or ()),
            limits_tenants=(
                conf.scheduler.limit_tenants_to_placement_aggregate
            ),
            requires_tenants=(
                conf.scheduler.placement_aggregate_required_for_tenants
            ),
            filters_images=conf.scheduler.image_metadata_prefilter,
            isolates_traits=(
                conf.scheduler.enable_isolated_aggregate_filtering
            ),
        )
        return placing_rules, quota.Rules(
            is_unified=conf.quota.driver == _UNIFIED,
            strategy=conf.quota.unified_limits_resource_strategy,
            listed=frozenset(conf.quota.unified_limits_resource_list or ()),
        )
