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
    """Play all steps, with a pass after each; begin again after a kill.

    :returns: how often the agent was killed, and how many writes there had
        been at the end of each act of somebody.
    """
    kills, ends = 0, set()
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
            ends.add(world.fuse.writes)
        world.check()
    world.run(2)
    return kills, ends


def test_killed_at_every_write_nothing_dirty_is_given_and_nothing_lost(
    placement, tmp_path, is_one_time_use
):
    quiet = worlds.World(placement, tmp_path / "quiet", is_one_time_use)
    quiet.run(2)
    quiet.fuse.writes = 0
    kills, ends = _play(quiet)
    assert kills == 0
    writes = quiet.fuse.writes
    quiet.check_settled()
    # Between two writes of one act nothing changes but the agent's memory,
    # which a kill ends: after the first is before the second.
    points = [(at, False) for at in range(1, writes + 1)]
    points += [(at, True) for at in sorted(ends - {0})]
    killed = 0
    for at, is_after in points:
        path = tmp_path / f"{at}-{is_after}"
        world = worlds.World(placement, path, is_one_time_use)
        world.run(2)
        world.fuse.writes = 0
        world.fuse.at, world.fuse.is_after = at, is_after
        killed += _play(world)[0]
        world.check_settled()
        assert world.state(GPU) in (State.CLAIMED, State.FREE)
        world.ledger.close()
    print(writes, "writes,", killed, "kills")
    assert killed == len(points)
