# SPDX-License-Identifier: Apache-2.0

"""What the nova.conf of a compute node says to nova-gpu-agent."""

import dataclasses

from nova_gpu_filter.nova_rules import conf_files


@dataclasses.dataclass(frozen=True, slots=True)
class AgentOptions:
    """The options of ``[gpu_agent]`` that are checked."""

    source: str
    fabric_manager: str
    gpu_admin_tools: str
    hooks: str


def read(*paths: str) -> AgentOptions:
    """Read configuration files as nova-gpu-agent does.

    :raises FileUnreadable: one is not there, or not ours to read.
    :raises BadInput: one is no configuration file.
    """
    # oslo.config is slow to import, and most commands read no nova.conf.
    from oslo_config import cfg

    from nova_gpu_filter.conf import gpu_agent

    conf = cfg.ConfigOpts()
    gpu_agent.register_opts(conf)
    with conf_files.read_into(conf, paths):
        return AgentOptions(
            ", ".join(paths),
            conf.gpu_agent.fabric_manager,
            conf.gpu_agent.gpu_admin_tools,
            conf.gpu_agent.hooks,
        )
