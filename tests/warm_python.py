# SPDX-License-Identifier: Apache-2.0

"""Runs Python scripts in processes that have imported Nova already.

The plugin of DevStack starts a Python for each thing that it asks Nova, and
tests start nova-gpu-status; each would import Nova anew: 1.4 of 1.5 seconds.
So one process imports it, and forks for each script.
"""

import atexit
import functools
import importlib
import json
import os
import pathlib
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

REPO = pathlib.Path(__file__).parents[1]

_IMPORTED = (
    "nova.conf",
    "nova.pci.request",
    "nova.pci.whitelist",
    "nova.scheduler.manager",
    "nova_gpu_filter.status.pci",
    "nova_gpu_filter.status.scheduler_checks",
)

# Started without site-packages, which is a third of a short script's time.
_CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)])
    socket.send_fds(server, [b"x"], [0, 1, 2])
    server.sendall(request.encode() + b"\\n")
    sys.exit(int(server.makefile().readline() or 70))
"""


@functools.cache
def command() -> str:
    """Start the process that forks; it ends with this one.

    :returns: what a shell script runs with the arguments of Python behind it.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="warm-python-"))
    place = folder / "socket"
    server = subprocess.Popen(
        [sys.executable, __file__, str(place)],
        env={
            **os.environ,
            "PYTHONPATH": str(REPO),
            # Forking and green threads do not go together.
            "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(server.terminate)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    client = folder / "client.py"
    client.write_text(_CLIENT)
    return shlex.join([sys.executable, "-S", "-E", str(client), str(place)])


def serve(place: str) -> None:
    """Import Nova, then fork for each request, until it is terminated."""
    sys.path.insert(0, str(REPO))
    for module in _IMPORTED:
        importlib.import_module(module)
    # Children are not waited for: they answer themselves.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        print("ready", flush=True)
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(client)
            client.close()


def _answer(client: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(client, 1, 3)
    arguments, folder, environment = json.loads(client.makefile().readline())
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = _run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(f"{code}\n".encode())
    os._exit(0)


def _run(arguments: list[str]) -> int:
    """Run a script as Python does with ``-W ignore`` before it."""
    assert arguments[:2] == ["-W", "ignore"], arguments
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = arguments[2:]
    sys.path[0] = str(pathlib.Path(arguments[2]).parent)
    try:
        runpy.run_path(arguments[2], run_name="__main__")
    except SystemExit as exc:
        if exc.code is None or isinstance(exc.code, int):
            return exc.code or 0
        print(exc.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
