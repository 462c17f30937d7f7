# SPDX-License-Identifier: Apache-2.0

"""Anything that goes wrong, in any order: nothing dirty is given away, and
nothing is lost without a reason that can be listed."""

import collections
import pathlib
import random

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.fleet import reserving
from tests.functional.agent import worlds

pytestmark = pytest.mark.skipif(
    not worlds.HAS_ONE_TIME_USE,
    reason="without one_time_use Nova gives devices away while no agent runs",
)

STEPS = 50


class Faults:
    """Random things that happen to a compute node, and how often."""

    def __init__(self, world, seed):
        self.world = world
        self.random = random.Random(seed)
        self.counts = collections.Counter()
        self.claims = 0
        self.boots = 0

    def happen(self):
        """Have one thing happen to one device, and the agent look or not."""
        name = self.random.choice(
            [
                *("use", "use", "use", "end", "end", "end"),
                *("stopped server", "quarantined by root"),
                *("quarantined by controller", "released by root"),
                *("released by controller", "killed at a write"),
                *("Placement away", "libvirt away", "agent down"),
                *("ledger lost", "ledger damaged", "host restarted"),
                *("device gone", "failed reset", "provider made anew"),
            ]
        )
        device = self.random.choice(worlds.GPUS)
        if getattr(self, f"_{name.replace(' ', '_').lower()}")(device):
            self.counts[name] += 1
        if name != "agent down":
            self._guard(self.world.run)
        self.world.check()
        if self.random.random() < 0.25:
            self._mend()
            self.world.check()

    def _guard(self, act, *arguments):
        """Do something as the agent; start it again where it is killed."""
        try:
            act(*arguments)
        except worlds.Killed:
            self.counts["killed"] += 1
            self.world.check()
            self.world.kill_agent()
            return False
        except exception.GpuFilterError:
            return False
        return True

    def _use(self, device):
        if device not in self.world.consumers and self.world.claim(device):
            self.claims += 1
        if device in self.world.consumers and (
            device not in self.world.domains
        ):
            self.world.boot(device)
            return True
        return False

    def _end(self, device):
        if device not in self.world.consumers:
            return False
        self.world.delete(device)
        return True

    def _stopped_server(self, device):
        if device not in self.world.domains:
            return False
        self.world.shut(device)
        return True

    def _quarantined_by_root(self, device):
        return self._guard(self.world.keeper.quarantine, device, "x", "root")

    def _released_by_root(self, device):
        return self._guard(self.world.keeper.release, device, "x", "root")

    def _quarantined_by_controller(self, device):
        world = self.world
        reserving.quarantine(world.get, world.send, world.uuid(device))
        return True

    def _released_by_controller(self, device):
        world = self.world
        reserving.release(world.get, world.send, world.uuid(device))
        return True

    def _killed_at_a_write(self, _device):
        fuse = self.world.fuse
        fuse.at = fuse.writes + self.random.randrange(1, 6)
        fuse.is_after = self.random.random() < 0.5
        return True

    def _placement_away(self, _device):
        self.world.is_placement_away = not self.world.is_placement_away
        return True

    def _libvirt_away(self, _device):
        self.world.libvirt.is_away = not self.world.libvirt.is_away
        return True

    def _agent_down(self, _device):
        self.world.kill_agent()
        return True

    def _ledger_lost(self, _device):
        self.world.ledger.close()
        pathlib.Path(self.world.path, "ledger").unlink()
        self.world.start_agent()
        return True

    def _ledger_damaged(self, _device):
        self.world.ledger.close()
        path = pathlib.Path(self.world.path, "ledger")
        path.write_bytes(self.random.randbytes(20000))
        self.world.start_agent()
        return True

    def _host_restarted(self, _device):
        self.boots += 1
        self.world.tree.write(
            "/proc/sys/kernel/random/boot_id", str(self.boots)
        )
        self.world.kill_agent()
        return True

    def _device_gone(self, device):
        path = self.world.tree.path(f"/sys/bus/pci/devices/{device}")
        if path.is_symlink():
            self.world.hide(device)
        else:
            self.world.show(device)
        return True

    def _failed_reset(self, device):
        problem = self.world.problem
        problem[device] = None if problem[device] else "no way to reset it"
        return True

    def _provider_made_anew(self, _device):
        world = self.world
        if world.consumers or world.is_placement_away or world.libvirt.is_away:
            # With servers nova-compute does not; and until the agent's next
            # pass such a provider is offered, which the manual says.
            return False
        world.fuse.at = None
        world.make_providers()
        return True

    def _mend(self):
        """Have an operator see to everything, while the agent runs."""
        self._guard(self.heal)
        for record in self.world.keeper.list_records():
            self._guard(
                self.world.keeper.release, record.address, "repaired", "root"
            )
        self._guard(self.world.run, 2)

    def heal(self):
        """Bring everything back that was away."""
        world = self.world
        world.is_placement_away = world.libvirt.is_away = False
        world.problem = dict.fromkeys(worlds.GPUS)
        for device in worlds.GPUS:
            path = world.tree.path(f"/sys/bus/pci/devices/{device}")
            if not path.is_symlink():
                world.show(device)
        world.run(3)


def test_faults_in_any_order(placement, tmp_path):
    total = collections.Counter()
    claims = 0
    for seed in range(8):
        world = worlds.World(placement, tmp_path / str(seed))
        world.run(2)
        faults = Faults(world, seed)
        for _ in range(STEPS):
            faults.happen()
        world.fuse.at = None
        faults.heal()
        world.check_settled()
        for record in world.keeper.list_records():
            assert world.keeper.list_history(record.address)
            if record.state is State.QUARANTINED:
                world.keeper.release(record.address, "repaired", "root")
        world.run(3)
        world.check_settled()
        for device in worlds.GPUS:
            if device in world.consumers:
                world.delete(device)
        world.run(3)
        assert world.offered() == set(worlds.GPUS), "lost for ever"
        assert not world.dirty
        world.ledger.close()
        total.update(faults.counts)
        claims += faults.claims
    print(claims, "claims;", dict(sorted(total.items())))
    assert claims > 20
    assert all(count >= 2 for count in total.values()), total
    assert len(total) == 18
