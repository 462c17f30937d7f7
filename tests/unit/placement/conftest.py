# SPDX-License-Identifier: Apache-2.0

from oslo_config import cfg
from placement import conf as placement_conf
import pytest

CHANGED = (
    ("placement", "allocation_conflict_retry_count"),
    ("placement", "max_allocation_candidates"),
    ("placement", "randomize_allocation_candidates"),
    ("gpu_filter", "retry_allocation_writes"),
)


@pytest.fixture
def conf():
    """The options of Placement with their defaults."""
    config = cfg.ConfigOpts()
    placement_conf.register_opts(config)
    config.set_default("connection", "sqlite://", group="placement_database")
    config([], default_config_files=[])
    yield config
    # Configurations of one process share groups, with what was overridden.
    for group, option in CHANGED:
        if group in config and option in config[group]:
            config.clear_override(option, group=group)
