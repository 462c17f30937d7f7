# SPDX-License-Identifier: Apache-2.0

"""Makes the VFs of a host as they are declared, one change at a time."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import os
import subprocess
import time

from nova_gpu_filter.host.vgpu import planning

_PROGRAM_SECONDS = 300
_WAIT_SECONDS = 30.0
"""For VFs to appear with what their driver makes for them: udev and modules
are loaded meanwhile."""
_PAUSE_SECONDS = 0.5


class Machine:
    """The host that we run on, as far as it is changed."""

    def write(self, path: str, text: str) -> None:
        """Write to a file of sysfs, in one call as the kernel needs it.

        :raises OSError: the driver refuses.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def run(self, arguments: tuple[str, ...]) -> None:
        """Run a program, and wait for it.

        :raises OSError: it cannot be run, or fails.
        """
        try:
            done = subprocess.run(  # noqa: S603
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROGRAM_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OSError(
                f"no end within {_PROGRAM_SECONDS} seconds"
            ) from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise OSError(
                f"exit code {done.returncode}:"
                f" {said[-1] if said else 'no message'}"
            )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A change that was made, or why it, or anything, was not."""

    name: str
    """The PF, as :attr:`planning.Plan.name`."""
    wanted: str
    step: planning.Step | None
    """None: nothing was tried, or nothing had to be done."""
    problem: str | None = None


def apply(
    read_plans: Callable[[], tuple[planning.Plan, ...]],
    machine: Machine,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:
    """Make what is planned, and plan anew after each change.

    What cannot be done with one PF keeps no other from being set up.

    :param read_plans: reads the host and plans.
    :returns: the changes in their order, then what is refused, and what was
        as declared from the start.
    """
    stuck: set[str] = set()
    # No change is made twice: a driver that grants less than it was asked for
    # would be asked without an end.
    tried: set[tuple[str, planning.Step]] = set()
    changed: set[str] = set()
    began = clock()
    while True:
        waiting = [one for one in read_plans() if one.name not in stuck]
        fresh = [
            (one, one.steps[0])
            for one in waiting
            if one.steps and (one.name, one.steps[0]) not in tried
        ]
        if fresh:
            plan, step = fresh[0]
            tried.add((plan.name, step))
            problem = _make(machine, step)
            if problem is None:
                changed.add(plan.name)
            else:
                stuck.add(plan.name)
            yield Outcome(plan.name, plan.wanted, step, problem)
            began = clock()
            continue
        # The driver is at work, or has taken a change without an effect.
        is_unsettled = any(
            one.steps or (one.refusal and one.name in changed)
            for one in waiting
        )
        if not is_unsettled or clock() - began > _WAIT_SECONDS:
            break
        pause(_PAUSE_SECONDS)
    for plan in waiting:
        if plan.steps:
            yield Outcome(
                plan.name,
                plan.wanted,
                plan.steps[0],
                "this was done, and has had no effect",
            )
        elif plan.refusal or plan.name not in changed:
            yield Outcome(plan.name, plan.wanted, None, plan.refusal)


def _make(machine: Machine, step: planning.Step) -> str | None:
    """Make a change; say why it failed, None: it did not."""
    try:
        if step.arguments:
            machine.run(step.arguments)
        else:
            machine.write(step.path, step.text)
    except OSError as error:
        return error.strerror or str(error)
    return None
