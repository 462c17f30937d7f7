# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.warm_python.server PLACE MODULE...``.

Imports modules, and forks for each script that a client asks for at the socket
PLACE, until it is terminated.
"""

from collections.abc import Sequence
import contextlib
import gc
import importlib
import json
import os
import pathlib
import runpy
import signal
import socket
import sys
import traceback


def main() -> None:
    """Listen, import, and fork."""
    place, *modules = sys.argv[1:]
    # What is imported stays, and its pages are shared as long as no collection
    # writes to them: https://docs.python.org/3/library/gc.html#gc.freeze
    gc.disable()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        # Clients that come early wait until all is imported.
        listening.listen()
        print("ready", flush=True)
        for module in modules:
            importlib.import_module(module)
        gc.freeze()
        # Children are not waited for: they answer themselves.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                gc.enable()
                _answer(client)
            client.close()


def _answer(client: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(client, 1, 3)
    arguments, folder, environment = json.loads(client.makefile().readline())
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = _run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Of a script that left for the background the client knows already.
    with contextlib.suppress(BrokenPipeError):
        client.sendall(f"{code}\n".encode())
    os._exit(0)


def _run(arguments: Sequence[str]) -> int:
    """Run a script as Python does with ``-W ignore`` before it."""
    assert arguments[:2] == ["-W", "ignore"], arguments
    script = pathlib.Path(arguments[2])
    # By this name pkill finds it.
    pathlib.Path("/proc/self/comm").write_text(script.name[:15])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = list(arguments[2:])
    sys.path[0] = str(script.parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
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
    main()
