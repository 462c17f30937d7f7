# SPDX-License-Identifier: Apache-2.0

from oslo_config import cfg
from placement import conf as placement_conf
import pytest

CHANGED = (
    "allocation_conflict_retry_count",
    "max_allocation_candidates",
    "randomize_allocation_candidates",
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
    for option in CHANGED:
        config.clear_override(option, group="placement")
