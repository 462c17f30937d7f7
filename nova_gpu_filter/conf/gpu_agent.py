# SPDX-License-Identifier: Apache-2.0

"""Options of the group ``[gpu_agent]``, read by nova-gpu-agent."""

from typing import Any

from oslo_config import cfg

HOOKS = "/etc/nova-gpu-agent"
"""Where hooks are, unless the option says it."""

gpu_agent_group = cfg.OptGroup(
    "gpu_agent",
    title="nova-gpu-agent options",
    help="""
How ``nova-gpu-agent`` cleans and checks devices between two servers. It reads
nova.conf of the compute node, whose ``[placement]`` it uses as well; these
options can stand there or in a file of their own.
""",
)

gpu_agent_opts = [
    cfg.StrOpt(
        "devices",
        default="one_time_use",
        choices=[
            (
                "one_time_use",
                "those of ``one_time_use`` in ``[pci]device_spec`` (Nova 32"
                " or later)",
            ),
            (
                "all",
                "every device that is in Placement; the agent itself"
                " reserves those that are not of one-time use, as soon as it"
                " sees that they are in use",
            ),
        ],
        help="""
Which devices are managed.

With ``all`` and without ``one_time_use`` a device is not protected in the
moment between the end of a server and the agent's next pass, unless it was
seen in use before (``reserve_in_use``); nor while no agent is running. With
Nova 32 or later give the devices ``one_time_use`` instead.
""",
    ),
    cfg.BoolOpt(
        "reserve_in_use",
        default=True,
        help="""
Reserve a device in Placement while a server has it.

Nova does that itself with ``one_time_use``. Set it to ``False`` for
``devices = all`` with Placement 13 (2025.1): it counts what is reserved
against what a server holds already, so that the server could not be migrated
or resized. The device is then reserved when its server has left, and a request
in that moment gets it as it is.
""",
    ),
    cfg.IntOpt(
        "interval",
        default=30,
        min=1,
        max=3600,
        help="""
Seconds between two passes over Placement, libvirt and the devices.

Events of libvirt and commands of people lead to a pass at once; this is for
what has no event, such as an allocation that was removed.
""",
    ),
    cfg.StrOpt(
        "hypervisor_hostname",
        help="""
Name of this compute node's resource provider.

Without it libvirt is asked for its host name, as nova-compute does.
""",
    ),
    cfg.StrOpt(
        "libvirt_uri",
        default="qemu:///system",
        help="The libvirt that runs the guests. It is only read.",
    ),
    cfg.StrOpt(
        "ledger",
        default="/var/lib/nova-gpu-agent/ledger.sqlite",
        help="""
File of the ledger: what is known of each device.

It belongs on a local disk that survives a restart of the host. When it is
lost, devices that are reserved in Placement are quarantined, since nobody
knows why they are.
""",
    ),
    cfg.StrOpt(
        "socket",
        default="/run/nova-gpu-agent/agent.sock",
        help="""
Unix socket on which the commands of ``nova-gpu-agent`` reach the daemon.

It is made for root only.
""",
    ),
    cfg.StrOpt(
        "hooks",
        default=HOOKS,
        help="""
Directory that has the directories ``before.d`` and ``after.d``.

The executable files in them run in the order of their names, before a device
is reset and after it was checked. The device's PCI address is in the variable
``GPU_AGENT_DEVICE``, the UUID of the server that had it in
``GPU_AGENT_SERVER``. One that ends with another code than 0, or not in
``hook_timeout``, has the device quarantined. Files that others than root can
write to are not run, which quarantines the device as well.
""",
    ),
    cfg.FloatOpt(
        "hook_timeout",
        default=120.0,
        min=0.1,
        help="Seconds that one hook may take.",
    ),
    cfg.StrOpt(
        "gpu_admin_tools",
        default="",
        help="""
Path of ``nvidia_gpu_tools.py`` of NVIDIA's gpu-admin-tools.

With it the memory of NVIDIA's GPUs that no driver of the host has is cleared
after a reset of the bus (``--reset-with-sbr --clear-memory``), and a GPU of
which this fails is quarantined. The agent does not start where it is no
executable file. Without it the reset has to do: a GPU's memory need not be
empty after a function level reset. Use it where servers of several projects
share a host, unless a hook of yours clears the memory.
""",
    ),
    cfg.FloatOpt(
        "tool_timeout",
        default=600.0,
        min=1.0,
        help="""
Seconds that one call of ``gpu_admin_tools`` or ``nvidia-smi`` may take.
""",
    ),
    cfg.FloatOpt(
        "settle_timeout",
        default=30.0,
        min=0.0,
        help="Seconds that a device may take to answer after a reset.",
    ),
    cfg.IntOpt(
        "corrected_errors",
        default=1000,
        min=1,
        help="""
How many corrected PCIe errors between two passes, or since a device was last
clean, have it quarantined. A single uncorrectable one always has.
""",
    ),
    cfg.IntOpt(
        "workers",
        default=4,
        min=1,
        max=64,
        help="How many devices are cleaned at the same time.",
    ),
    cfg.StrOpt(
        "fabric_manager",
        default="",
        help="""
Address of NVIDIA's Fabric Manager, on hosts with NVSwitches whose GPUs are
given to guests (``FABRIC_MODE=1``, or 2 for vGPUs).

With it the agent activates the fabric partition of a guest before the guest
starts, and deactivates it after. ``127.0.0.1:6666`` is Fabric Manager's
default; a path is that of its Unix socket (``FM_CMD_UNIX_SOCKET_PATH``).
Empty: partitions are left alone. The hook of libvirt has to be installed, too;
see ``nova-gpu-agent fabric hook``.
""",
    ),
    cfg.StrOpt(
        "fabric_library",
        default="libnvfm.so.1",
        help="""
Library by which Fabric Manager is asked, of the package
``nvidia-fabricmanager-dev``; or the path of ``fmpm``, which cannot activate
partitions of vGPUs.

Where the library cannot be loaded and ``fmpm`` is in the path, that is used.
""",
    ),
    cfg.StrOpt(
        "fabric_inventory",
        default="",
        help="""
Saved output of ``nova-gpu-host inventory -f json`` that has the partitions.

Without it the tags ``gpu_links`` of ``[pci]device_spec`` say which GPUs a
partition has.
""",
    ),
    cfg.FloatOpt(
        "fabric_deadline",
        default=60.0,
        min=0.0,
        max=180.0,
        help="""
Seconds that the start of a guest waits for a Fabric Manager that is starting
or cannot be reached. Then the start fails, and Nova builds the server on
another host.
""",
    ),
    cfg.FloatOpt(
        "fabric_interval",
        default=2.0,
        min=0.1,
        max=60.0,
        help="""
Seconds between two polls of Fabric Manager: so long it can have forgotten what
is active after it was restarted.
""",
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group and its options with ``conf``."""
    conf.register_group(gpu_agent_group)
    conf.register_opts(gpu_agent_opts, group=gpu_agent_group)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """List the group for oslo-config-generator."""
    return [(gpu_agent_group, gpu_agent_opts)]
