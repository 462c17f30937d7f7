# SPDX-License-Identifier: Apache-2.0

"""Whatever is started, stopped, killed and restarted: Fabric Manager has
active what runs. FABRIC_EXAMPLES says how many histories are tried.
"""

import contextlib
import os
import pathlib
import tempfile
import time

import hypothesis
from hypothesis import strategies
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.agent import errors
from tests.unit.agent.fabric import managers
from tests.unit.agent.fabric import nodes

EXAMPLES = int(os.environ.get("FABRIC_EXAMPLES", "30"))
PATIENCE = 60.0
"""Seconds until all has to agree again, on a machine however busy."""


TAKER = "00000000-0000-4000-8000-000000000000"
"""A domain with GPUs of another."""


class Killed(BaseException):
    """The agent is killed here."""


def arm(node, calls, is_after):
    """Kill the agent before or after one of its next writes."""
    left = [calls]

    def guard(target, name):
        method = getattr(target, name)

        def call(*arguments):
            left[0] -= 1
            if left[0] == 0 and not is_after:
                raise Killed
            result = method(*arguments)
            if left[0] == 0:
                raise Killed
            return result

        setattr(target, name, call)

    for name in ("write_owner", "disown", "suspect"):
        guard(node.ledger, name)
    for name in ("activate", "deactivate", "set_activated"):
        guard(node.client, name)


def start(node, partition):
    """Start a guest whose GPUs are free, as Nova and libvirt do."""
    if not any(node.known[partition] & one for one in node.guests.values()):
        # libvirt calls "release end" after a start that failed.
        with contextlib.suppress(exception.GpuFilterError):
            node.start(partition)


def start_on_taken(node, partition):
    """Start a guest with a GPU that another guest has, which libvirt would
    find out after its hook.
    """
    owned = node.known[partition]
    if any(owned & one for one in node.guests.values()):
        with pytest.raises(exception.GpuFilterError) as refused:
            node.agent.prepare(TAKER, owned)
        # By the ledger, whatever Fabric Manager would say.
        assert isinstance(refused.value, errors.Occupied)
        node.agent.release(TAKER)


def start_that_fails(node, partition):
    """Start a guest whose partition cannot be activated."""
    node.manager.inject("fail fmActivateFabricPartition -10 1")
    node.failing = node.known[partition]
    start(node, partition)
    node.manager.heal()


def stop_that_fails(node, number):
    """Stop a guest whose partition cannot be deactivated at first."""
    node.manager.inject("fail fmDeactivateFabricPartition -1 2")
    stop(node, number)


def stop(node, number):
    """Stop one of the guests."""
    if node.guests:
        node.stop(sorted(node.guests)[number % len(node.guests)])


def start_without_end(node, partition):
    """Start a guest that fails later, and whose second hook is killed."""
    start(node, partition)
    if node.guests:
        del node.guests[list(node.guests)[-1]]


def stop_without_hook(node, number):
    """Stop a guest whose hook is killed."""
    if node.guests:
        del node.guests[sorted(node.guests)[number % len(node.guests)]]


def suspend(node, number):
    """Take the devices of a guest that runs, and give them back."""
    if node.guests:
        name = sorted(node.guests)[number % len(node.guests)]
        devices, node.guests[name] = node.guests[name], frozenset()
        node.look()
        node.guests[name] = devices


def suspend_for_long(node, number):
    """Take the devices of a guest; others may get them."""
    held = sorted(name for name, devices in node.guests.items() if devices)
    if held:
        name = held[number % len(held)]
        node.suspended[name] = node.guests[name]
        node.guests[name] = frozenset()


def resume(node, _number):
    """Give devices that are still free back to guests."""
    for name, devices in list(node.suspended.items()):
        del node.suspended[name]
        if name in node.guests and not any(
            devices & one for one in node.guests.values()
        ):
            node.guests[name] = devices


def restart_manager(node, _number):
    """Restart Fabric Manager."""
    node.manager.restart(node.is_resilient)


def start_while_away(node, partition):
    """Start a guest while Fabric Manager cannot be reached."""
    node.manager.set("away", 1)
    start(node, partition)
    node.manager.set("away", 0)


def restart_agent(node, _number):
    """Kill the agent, and start it."""
    node.kill_agent()
    node.start_agent()


ACTS = (
    start,
    start_on_taken,
    start_that_fails,
    stop,
    stop_that_fails,
    start_without_end,
    stop_without_hook,
    suspend,
    suspend_for_long,
    resume,
    restart_manager,
    start_while_away,
    restart_agent,
)


@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    table=strategies.sampled_from((managers.HGX_H100, managers.HGX_4)),
    is_resilient=strategies.booleans(),
    history=strategies.lists(
        strategies.tuples(
            strategies.sampled_from(ACTS),
            strategies.integers(0, 14),
            # At which write the agent is killed, and on which side of it.
            strategies.none()
            | strategies.tuples(
                strategies.integers(1, 6), strategies.booleans()
            ),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_fabric_manager_has_active_what_runs(table, is_resilient, history):
    with tempfile.TemporaryDirectory() as directory:
        node = nodes.Node(pathlib.Path(directory), table, is_resilient)
        node.suspended = {}
        for act, number, kill in history:
            partition = sorted(table)[number % len(table)]
            node.failing = frozenset()
            if kill is not None:
                arm(node, *kill)
            try:
                act(node, partition if "start" in act.__name__ else number)
            except Killed:
                node.manager.set("away", 0)
                node.manager.heal()
            if kill is not None:
                restart_agent(node, 0)
            begun = time.monotonic()
            while not node.look() or node.manager.active() != node.wanted():
                assert time.monotonic() - begun < PATIENCE, node.rows()
            assert {owner for _phase, owner in node.rows().values()} == {
                name for name, devices in node.guests.items() if devices
            }
            # Of a start that has failed, and of nothing else.
            assert node.ledger.read_suspects().keys() <= node.failing
            for device in node.ledger.read_suspects():
                node.ledger.clear_suspect(device)
        node.kill_agent()
