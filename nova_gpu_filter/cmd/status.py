# SPDX-License-Identifier: Apache-2.0

"""The command ``nova-gpu-status``."""

from collections.abc import Sequence
import contextlib
import sys
import warnings

with warnings.catch_warnings():
    # What Nova is built on announces the end of eventlet at import, which is
    # nothing that the user of this command could act on.
    warnings.simplefilter("ignore")
    import nova.conf

    from nova_gpu_filter.status import commands

# isort: split

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from nova_gpu_filter import conf
from nova_gpu_filter import printable
from nova_gpu_filter.status import node

CONF = nova.conf.CONF

_EXIT_ERROR = 255
"""Of oslo_upgradecheck: not to be taken for the result of a check."""

_CLI_OPTS = [
    cfg.StrOpt(
        "role",
        default="auto",
        choices=[
            (
                "auto",
                "a compute where [pci]device_spec is set, a controller"
                " where filters or weighers are, or neither",
            ),
            ("controller", "nova-api, nova-scheduler or nova-conductor"),
            ("compute", "nova-compute"),
            ("both", "all of them, as on an all-in-one"),
        ],
        help="What runs on this node, which decides what is checked.",
    ),
    cfg.StrOpt(
        "placement-conf",
        metavar="PATH",
        help="The placement.conf of the Placement API, to see its limits."
        " They are needed on hosts with many GPUs where the Placement"
        " extension is not used.",
    ),
]


def _make_node() -> node.Node:
    if CONF.role == "auto":
        roles = node.find_roles(CONF)
    elif CONF.role == "both":
        roles = frozenset(node.Role)
    else:
        roles = frozenset({node.Role(CONF.role)})
    return node.Node(CONF, roles, CONF.placement_conf)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-status``.

    :returns: 0 to 2, a code of oslo_upgradecheck; 255 where nothing
        could be checked.
    """
    conf.register_opts(CONF)
    CONF.register_cli_opts(_CLI_OPTS)
    try:
        # Names of hosts and flavors are in the results.
        with contextlib.redirect_stdout(printable.Stream(sys.stdout)):
            return upgradecheck.main(
                CONF,
                project="nova",
                upgrade_command=commands.UpgradeCommands(_make_node),
                argv=list(sys.argv[1:] if argv is None else argv),
            )
    except (cfg.Error, UnicodeDecodeError) as exc:
        # A file that cannot be read: nothing was checked, which must not look
        # like a warning.
        text = printable.join_lines(str(exc))
        sys.stderr.write(f"nova-gpu-status: {text}\n")
        return _EXIT_ERROR
