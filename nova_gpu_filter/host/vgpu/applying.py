# SPDX-License-Identifier: Apache-2.0

"""Makes the VFs of a host as they are declared, one change at a time."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import os
import subprocess
import time
from typing import Protocol

from nova_gpu_filter.host.vgpu import pf_steps
from nova_gpu_filter.host.vgpu import planning

_PROGRAM_SECONDS = 300
_WAIT_SECONDS = 30.0
"""For VFs to appear with what their driver makes for them: udev and modules
are loaded meanwhile."""
_PAUSE_SECONDS = 0.5


class Machine(Protocol):
    """What can be changed on a host."""

    def write(self, path: str, text: str) -> None:
        """Write to a file of sysfs.

        :raises OSError: the driver refuses.
        """

    def run(self, arguments: tuple[str, ...]) -> None:
        """Run a program.

        :raises OSError: it cannot be run, or fails.
        """


class ThisMachine:
    """The host that we run on."""

    def write(self, path: str, text: str) -> None:
        """Write to a file of sysfs, in one call as the kernel needs it."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def run(self, arguments: tuple[str, ...]) -> None:
        """Run a program, and wait for it."""
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
    step: pf_steps.Step | None
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
    tried: set[tuple[str, pf_steps.Step]] = set()
    changed: set[str] = set()
    began = clock()
    while True:
        plans = read_plans()
        waiting = [one for one in plans if one.name not in stuck]
        todo = [one for one in waiting if one.steps]
        late = clock() - began > _WAIT_SECONDS
        fresh = [one for one in todo if (one.name, one.steps[0]) not in tried]
        if fresh:
            plan, step = fresh[0], fresh[0].steps[0]
            tried.add((plan.name, step))
            try:
                _make(machine, step)
            except OSError as error:
                stuck.add(plan.name)
                problem = error.strerror or str(error)
                yield Outcome(plan.name, plan.wanted, step, problem)
            else:
                changed.add(plan.name)
                yield Outcome(plan.name, plan.wanted, step)
            began = clock()
            continue
        # The driver is at work, or has taken a change without an effect.
        unsettled = [
            one
            for one in waiting
            if one.steps or (one.refusal and one.name in changed)
        ]
        if unsettled and not late:
            pause(_PAUSE_SECONDS)
            continue
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
        return


def _make(machine: Machine, step: pf_steps.Step) -> None:
    if step.arguments:
        machine.run(step.arguments)
    else:
        machine.write(step.path, step.text)
