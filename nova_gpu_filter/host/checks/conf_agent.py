# SPDX-License-Identifier: Apache-2.0

"""Whether somebody gives back the devices that Nova reserves for one use, and
clears their memory.

With the tag ``one_time_use`` nova-compute reserves a device when it gives it
to a server, and never clears that (``_handle_one_time_use`` of
nova/compute/pci_placement_translator.py).
"""

import contextlib
import dataclasses
import os
import socket
from typing import Final

from nova_gpu_filter.host import hook_programs
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules.pci_options import PciOptions

_AGENT = Reporter("agent")
SOCKET: Final = "/run/nova-gpu-agent/agent.sock"
"""The default of ``[gpu_agent]socket``."""
_SECONDS: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class AgentOptions:
    """The options of ``[gpu_agent]`` that are checked."""

    source: str
    fabric_manager: str
    gpu_admin_tools: str
    hooks: str


def read_options(*paths: str) -> AgentOptions:
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


def is_listening(path: str) -> bool:
    """Tell whether a process listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(path)
        except PermissionError:
            # It is for root only: it is there, and more cannot be known.
            return True
        except OSError:
            return False
    return True


def check(
    options: PciOptions, agent: AgentOptions, is_running: bool
) -> Findings:
    """Check the device specs with ``one_time_use``.

    :param is_running: whether nova-gpu-agent is.
    """
    for text in options.device_specs:
        with contextlib.suppress(device_spec.SpecError):
            if any(
                spec.read_tag("one_time_use")
                for spec in device_spec.parse(text)
            ):
                yield _make_finding(options, text, is_running)
                if is_running:
                    yield from _check_memory(agent)
                return


def _make_finding(options: PciOptions, text: str, is_running: bool) -> Finding:
    state = "a process listens" if is_running else "no process listens"
    evidence = (Evidence(options.source, text), Evidence(SOCKET, state))
    if is_running:
        return _AGENT.ok(
            "nova-gpu-agent is running, and gives devices of one-time use back"
            " when they are clean",
            *evidence,
        )
    return _AGENT.warning(
        "devices of one-time use stay reserved for ever after their first"
        " server: nova-gpu-agent, which cleans them and gives them back, is"
        " not running",
        *evidence,
        cures=(
            "pip install 'nova-gpu-filter[agent]'",
            "nova-gpu-agent unit > /etc/systemd/system/nova-gpu-agent.service",
            "systemctl enable --now nova-gpu-agent",
        ),
    )


def _check_memory(options: AgentOptions) -> Findings:
    """Check that something clears memory; a reset need not."""
    if options.gpu_admin_tools:
        return
    try:
        if hook_programs.list_all(options.hooks):
            return
    except OSError:
        # It is for root only, or each cleaning says what is wrong with it.
        return
    yield _AGENT.warning(
        "a server can read what the one before has left in the memory of its"
        " device: nova-gpu-agent resets devices, and nothing clears their"
        " memory",
        Evidence(options.source, "[gpu_agent]gpu_admin_tools is not set"),
        *(
            Evidence(os.path.join(options.hooks, name), "no executable files")
            for name in (hook_programs.BEFORE, hook_programs.AFTER)
        ),
        cures=(
            "# set [gpu_agent]gpu_admin_tools to the path of"
            " nvidia_gpu_tools.py of NVIDIA's gpu-admin-tools, for GPUs that"
            " stay bound to vfio-pci",
            "# or put a program that clears the memory into"
            f" {os.path.join(options.hooks, hook_programs.BEFORE)}",
            "# or leave it so, where all servers are of one project",
        ),
    )
