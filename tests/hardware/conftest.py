# SPDX-License-Identifier: Apache-2.0

"""Boots the machines; "make test-hardware" runs these tests, nobody else."""

import os
import re

import pytest
import xdist.scheduler

from tests.hardware import emulated_machines
from tests.hardware import facts as facts_lib
from tests.hardware import guest as guest_lib
from tests.hardware import parts as parts_lib


def pytest_ignore_collect() -> bool | None:
    """Leave all out but for ``python -m tests.hardware``, which sets it.

    A machine takes a minute and a gigabyte: too much for every change.
    """
    return None if parts_lib.SWITCH in os.environ else True


def _scope(nodeid: str) -> str:
    """Tell what a test shares a machine with."""
    file, _, name = nodeid.partition("::")
    # Those of test_cures.py without one of these boot their own.
    machine = re.search(r"\[(.*)\]", name)
    if machine:
        return machine[1]
    return name if file.endswith("test_cures.py") else file


class ByMachine(xdist.scheduler.LoadScopeScheduling):
    """Gives a worker all tests that use the same machine."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no worker ends much later.

    What a machine says of itself is asked before it is cured.
    """
    cured = {
        _scope(item.nodeid)
        for item in items
        if "facts" not in item.fixturenames
    }
    items.sort(
        key=lambda item: (
            "machine" in item.fixturenames,
            _scope(item.nodeid) not in cured,
            "facts" not in item.fixturenames,
        )
    )


def pytest_xdist_make_scheduler(config, log):
    """Have xdist know of machines."""
    return ByMachine(config, log)


@pytest.fixture(scope="session")
def parts():
    """QEMU, a kernel, and what goes with it."""
    return parts_lib.get()


@pytest.fixture(
    scope="session",
    params=emulated_machines.MACHINES,
    ids=lambda one: one.name,
)
def machine(request, parts):
    """Each machine in turn, booted."""
    guest = guest_lib.Guest(request.param, parts)
    try:
        guest.boot()
        yield guest
    finally:
        guest.remove()


@pytest.fixture(scope="session")
def facts(machine, tmp_path_factory):
    """What each machine says of itself after its first boot."""
    return facts_lib.take(machine, tmp_path_factory.mktemp("capture"))


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
