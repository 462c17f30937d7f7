# SPDX-License-Identifier: Apache-2.0

"""Where the commands start that need an extra, so that each can name it."""

import functools
import importlib
import sys

COMMANDS = {
    "nova-gpu-agent": ("nova_gpu_filter.cmd.agent", "agent", 3),
    "nova-gpu-exporter": ("nova_gpu_filter.cmd.exporter", "exporter", 3),
    "nova-gpu-simulate": ("nova_gpu_filter.cmd.simulate", "simulate", 3),
    "nova-gpu-status": ("nova_gpu_filter.cmd.status", "scheduler", 255),
}
"""The module of a command, the extra that brings what it imports, and its exit
code for errors."""


def run_command(name: str) -> int:
    """Import a command and run it.

    :returns: its exit code.
    """
    module, extra, error_code = COMMANDS[name]
    try:
        command = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing == "nova_gpu_filter":
            raise
        sys.stderr.write(
            f"{name}: {missing} is not installed; run"
            f" pip install 'nova-gpu-filter[{extra}]'\n"
        )
        return error_code
    result: int = command.main()
    return result


run_agent = functools.partial(run_command, "nova-gpu-agent")
run_exporter = functools.partial(run_command, "nova-gpu-exporter")
run_simulate = functools.partial(run_command, "nova-gpu-simulate")
run_status = functools.partial(run_command, "nova-gpu-status")
