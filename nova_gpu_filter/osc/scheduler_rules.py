# SPDX-License-Identifier: Apache-2.0

"""What nova.conf says of aggregates and quota."""

from collections.abc import Sequence

from oslo_config import cfg

from nova_gpu_filter.fleet import placing
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.nova_rules import scheduler_options


def read(paths: Sequence[str]) -> tuple[placing.Rules, quota.Rules]:
    """Read the rules from nova.conf files.

    :param paths: none of them if no nova.conf is known.
    :raises GpuFilterError: a file cannot be read, or an option is wrong.
    """
    if not paths:
        return placing.Rules(), quota.Rules()
    conf = cfg.ConfigOpts()
    scheduler_options.register(conf)
    with conf_files.read_into(conf, paths):
        options = conf.scheduler
        placing_rules = placing.Rules(
            filters=frozenset(conf.filter_scheduler.enabled_filters),
            limits_tenants=options.limit_tenants_to_placement_aggregate,
            requires_tenants=options.placement_aggregate_required_for_tenants,
            filters_images=options.image_metadata_prefilter,
            isolates_traits=options.enable_isolated_aggregate_filtering,
        )
        return placing_rules, quota.Rules(
            is_unified=(conf.quota.driver == scheduler_options.UNIFIED_LIMITS),
            strategy=conf.quota.unified_limits_resource_strategy,
            listed=frozenset(conf.quota.unified_limits_resource_list),
        )
