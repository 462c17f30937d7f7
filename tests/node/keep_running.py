# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.node.keep_running READY NAME=MACHINE...``.

Adds emulated compute hosts to the cloud of ``CLOUD_DIR``, and ends them when
it gets SIGTERM. When they are ready, the file READY has commands that show
what can be done with them.
"""

from collections.abc import Sequence
import contextlib
import pathlib
import signal
import sys

from cloud import control
from tests.hardware import parts as parts_lib
from tests.hardware import programs
from tests.node import kinds as kinds_lib
from tests.node import nodes
from tests.node import offers


def main() -> int:
    """Start the hosts, and wait for the signal."""
    ready, *wanted = sys.argv[1:]
    kinds = {
        name: kinds_lib.KINDS[kind]
        for name, _, kind in (text.partition("=") for text in wanted)
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    cloud = control.Cloud()
    try:
        parts = parts_lib.get()
    except programs.NotHere as reason:
        print(f"cannot emulate a host: {reason}")
        return 1
    there = [
        kind for kind in kinds_lib.KINDS.values() if kind in kinds.values()
    ]
    offers.make(cloud, parts, there)
    with contextlib.ExitStack() as stack:
        hosts: list[nodes.Node] = []
        for number, (name, kind) in enumerate(kinds.items(), 1):
            host = nodes.Node(cloud, kind, parts, number, name)
            stack.callback(host.guest.remove)
            host.prepare()
            if kind not in list(kinds.values())[: number - 1]:
                host.configure_controller()
            host.start()
            host.start_agent()
            print(f"{name}: nova-compute and nova-gpu-agent run", flush=True)
            hosts.append(host)
        nodes.introduce(*hosts)
        new = pathlib.Path(f"{ready}.new")
        new.write_text(
            "".join(f"{line}\n" for line in _commands(there, hosts))
        )
        new.replace(ready)
        while True:
            signal.pause()


def _commands(
    there: Sequence[kinds_lib.Kind], hosts: Sequence[nodes.Node]
) -> list[str]:
    flavor = next(iter(there[0].flavors))
    return [
        f"openstack server create --flavor {flavor} --nic none"
        f" --image {offers.IMAGE} --wait gpu-1",
        "openstack console log show gpu-1",
        "openstack gpu device list",
        *(
            f"ssh -p {host.ssh_port} -i {host.key}"
            " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            f" root@127.0.0.1  # {host.name}"
            for host in hosts
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
