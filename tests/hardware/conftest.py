# SPDX-License-Identifier: Apache-2.0

"""Boots the machines; "make test-hardware" runs these tests, nobody else."""

import os

import pytest

from tests.hardware import facts as facts_lib
from tests.hardware import guest as guest_lib
from tests.hardware import machines
from tests.hardware import parts as parts_lib

SWITCH = "NOVA_GPU_HARDWARE"


def pytest_ignore_collect() -> bool | None:
    """Leave all out but for ``python -m tests.hardware``, which sets SWITCH.

    A machine takes a minute and a gigabyte: too much for every change.
    """
    return None if SWITCH in os.environ else True


@pytest.fixture(scope="session")
def parts():
    """QEMU, a kernel, and what goes with it."""
    return parts_lib.get()


@pytest.fixture(
    scope="session", params=machines.MACHINES, ids=lambda one: one.name
)
def facts(request, parts, tmp_path_factory):
    """What each machine says of itself after its first boot."""
    guest = guest_lib.Guest(request.param, parts)
    try:
        guest.boot()
        return facts_lib.take(guest, tmp_path_factory.mktemp("capture"))
    finally:
        guest.remove()


@pytest.fixture(scope="module")
def boot(parts):
    """Boots a machine; it runs until the next one, or the module's end."""
    started = []

    def start(machine):
        while started:
            started.pop().remove()
        guest = guest_lib.Guest(machine, parts)
        started.append(guest)
        guest.boot()
        return guest

    yield start
    for guest in started:
        guest.remove()
