# SPDX-License-Identifier: Apache-2.0

"""The agent is killed at each of its writes."""

from nova_gpu_filter.agent.states import State
from tests.functional.agent import worlds

GPU, OTHER = worlds.GPUS
pytestmark = worlds.MODES


def _steps():
    """One use of a device, a quarantine of another, and a claim of it."""
    yield lambda world: world.claim(GPU)
    yield lambda world: world.boot(GPU)
    yield lambda world: world.keeper.quarantine(OTHER, "why", "root")
    yield lambda world: world.delete(GPU)
    yield lambda world: None
    yield lambda world: world.keeper.release(OTHER, "why", "root")
    yield lambda world: None
    yield lambda world: world.claim(GPU)


def _play(world):
    """Play all steps, with a pass after each; begin again after a kill."""
    kills = 0
    for step in _steps():
        for act in (step, lambda one: one.run()):
            try:
                act(world)
            except worlds.Killed:
                kills += 1
                world.check()
                world.kill_agent()
                world.run()
                world.check()
        world.check()
    world.run(2)
    return kills


def test_killed_at_every_write_nothing_dirty_is_given_and_nothing_lost(
    placement, tmp_path, is_one_time_use
):
    quiet = worlds.World(placement, tmp_path / "quiet", is_one_time_use)
    quiet.run(2)
    begun = quiet.fuse.writes
    assert _play(quiet) == 0
    writes = quiet.fuse.writes - begun
    quiet.check_settled()
    killed = 0
    for at in range(1, writes + 1):
        for is_after in (False, True):
            path = tmp_path / f"{at}-{is_after}"
            world = worlds.World(placement, path, is_one_time_use)
            world.run(2)
            world.fuse.writes = 0
            world.fuse.at, world.fuse.is_after = at, is_after
            killed += _play(world)
            world.check_settled()
            assert world.state(GPU) in (State.CLAIMED, State.FREE)
            world.ledger.close()
    print(writes, "writes,", killed, "kills")
    assert killed == 2 * writes
