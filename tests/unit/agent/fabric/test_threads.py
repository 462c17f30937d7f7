# SPDX-License-Identifier: Apache-2.0

"""Hooks of several domains come at once, while the daemon looks, and Fabric
Manager is restarted: in the end it has active what runs.
"""

import random
import threading
import time

import pytest

from nova_gpu_filter.agent import errors
from tests.unit.agent.fabric import managers
from tests.unit.agent.fabric import nodes

_ROUNDS = 25
_PATIENCE = 60.0
"""Seconds, on a machine however busy."""
_THREADS = 4
_RESTARTS = 5
"""Of Fabric Manager: without an end to them no start would be in time."""


def _use(node, seed, lock, owned, problems):
    """Start and stop guests, as one user after the other does."""
    rng = random.Random(seed)
    try:
        for _ in range(_ROUNDS):
            partition = rng.choice(sorted(node.known))
            name = f"00000000-0000-4000-8000-{rng.getrandbits(40):012}"
            devices = node.known[partition]
            # libvirt lists a domain before it runs its hook.
            with lock:
                node.guests[name] = devices
            try:
                node.agent.prepare(name, devices)
            except errors.Occupied:
                with lock:
                    del node.guests[name]
                node.agent.release(name)
                continue
            with lock:
                assert not any(devices & one for one in owned.values())
                owned[name] = devices
            time.sleep(rng.random() / 200)
            with lock:
                del node.guests[name]
                del owned[name]
            node.agent.release(name)
    except Exception as error:
        problems.append(error)


def _look(node, lock, is_over, problems):
    """Read what runs, as the daemon does, and restart Fabric Manager."""
    turn = 0
    try:
        while not is_over.is_set():
            turn += 1
            mark = node.agent.mark()
            with lock:
                running = dict(node.guests)
            node.agent.reconcile(running, mark)
            if not turn % 10 and turn <= 10 * _RESTARTS:
                node.manager.restart(node.is_resilient)
    except Exception as error:
        problems.append(error)


@pytest.mark.parametrize("is_resilient", [False, True])
def test_hooks_at_once_leave_active_what_runs(tmp_path, is_resilient):
    node = nodes.Node(tmp_path, managers.HGX_H100, is_resilient, deadline=20)
    lock = threading.Lock()
    is_over = threading.Event()
    owned = {}
    problems = []
    looker = threading.Thread(
        target=_look, args=(node, lock, is_over, problems)
    )
    users = [
        threading.Thread(target=_use, args=(node, seed, lock, owned, problems))
        for seed in range(_THREADS)
    ]
    for thread in (looker, *users):
        thread.start()
    for thread in users:
        thread.join()
    is_over.set()
    looker.join()
    assert problems == []
    last = node.start(3)
    until = time.monotonic() + _PATIENCE
    while not node.look() or node.manager.active() != {3}:
        assert time.monotonic() < until, node.rows()
    assert {owner for _, owner in node.rows().values()} == {last}
    assert node.ledger.read_suspects() == {}
    node.kill_agent()
