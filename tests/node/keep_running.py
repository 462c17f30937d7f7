# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.node.keep_running READY NAME=MACHINE...``.

Adds emulated compute hosts to the cloud of ``CLOUD_DIR``, and ends them when
it gets SIGTERM. When they are ready, the file READY has commands that show
what can be done with them.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import pathlib
import signal
import sys

from cloud import control
from cloud import emulated
from tests.hardware import emulated_machines
from tests.hardware import parts as parts_lib
from tests.hardware import programs
from tests.node import nodes
from tests.node import offers

_MACHINES = dict(
    zip(
        emulated.KINDS,
        (emulated_machines.K2_NODE,),
        strict=True,
    )
)


def main() -> int:
    """Start the hosts, and wait for the signal."""
    ready, *wanted = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    cloud = control.Cloud()
    try:
        parts = parts_lib.get()
    except programs.NotHere as reason:
        print(f"cannot emulate a host: {reason}")
        return 1
    offers.make(cloud, parts)
    with contextlib.ExitStack() as stack:
        hosts = []
        for number, text in enumerate(wanted, 1):
            name, _, kind = text.partition("=")
            machine = dataclasses.replace(_MACHINES[kind], name=name)
            host = nodes.Node(cloud, machine, parts, number)
            stack.callback(host.guest.remove)
            host.prepare()
            host.start()
            host.start_agent()
            print(f"{name}: nova-compute and nova-gpu-agent run", flush=True)
            hosts.append(host)
        nodes.introduce(*hosts)
        new = pathlib.Path(f"{ready}.new")
        new.write_text("".join(f"{line}\n" for line in _commands(hosts)))
        new.replace(ready)
        while True:
            signal.pause()


def _commands(hosts: Sequence[nodes.Node]) -> list[str]:
    return [
        "openstack server create --flavor k2.1 --nic none"
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
