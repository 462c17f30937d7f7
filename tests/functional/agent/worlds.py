# SPDX-License-Identifier: Apache-2.0

"""A compute node with two GPUs: a real Placement, files of sysfs, a libvirt
that is a list of domains, and what Nova does with them."""

import random

import os_traits
import pytest

from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import cleaning
from nova_gpu_filter.agent import domains
from nova_gpu_filter.agent import keeper
from nova_gpu_filter.agent import ledger
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.fleet import api as services
from nova_gpu_filter.fleet import reserving
from tests import sysfs_trees
from tests.functional.fleet import adapters
from tests.functional.placement import service
from tests.unit.agent import fakes

HOST = "k2-1"
GPUS = ("0000:85:00.0", "0000:86:00.0")
CLASS = "CUSTOM_GPU"
ONE_TIME_USE = "HW_PCI_ONE_TIME_USE"
HAS_ONE_TIME_USE = hasattr(os_traits, ONE_TIME_USE)
"""Nova 32 brought it, with its os-traits."""

MODES = pytest.mark.parametrize(
    "is_one_time_use",
    [
        pytest.param(
            True,
            id="one-time-use",
            marks=pytest.mark.skipif(
                not HAS_ONE_TIME_USE, reason="Nova 31 lacks it"
            ),
        ),
        pytest.param(False, id="all-devices"),
    ],
)


class Killed(BaseException):
    """The agent is killed here; no handler of errors catches it."""


class Fuse:
    """Kills the agent before or after one of its writes to anything."""

    def __init__(self):
        self.writes = 0
        self.at = None
        self.is_after = False

    def wrap(self, target, *names):
        """Count the calls of some methods as writes."""
        for name in names:
            setattr(target, name, self._guard(getattr(target, name)))
        return target

    def _guard(self, method):
        def call(*arguments, **named):
            self.writes += 1
            mine = self.writes
            if mine == self.at and not self.is_after:
                raise Killed(method.__name__)
            result = method(*arguments, **named)
            if mine == self.at:
                raise Killed(method.__name__)
            return result

        return call


class World:
    """The compute node, and the agent on it."""

    def __init__(self, placement, path, is_one_time_use=True):
        self.placement = placement
        self.path = path
        self.is_one_time_use = is_one_time_use
        self.adapter = adapters.PlacementAdapter(placement)
        self.get = services.make_getter(self.adapter, "Placement", "1.31")
        self.send = services.make_sender(self.adapter, "Placement", "1.31")
        self.tree = sysfs_trees.k2_host(path / "host")
        for address in GPUS:
            self.tree.write(f"/sys/bus/pci/devices/{address}/reset", "")
        self.libvirt = fakes.Libvirt(HOST)
        self.is_placement_away = False
        self.fuse = Fuse()
        self.consumers = {}
        self.claims = 0
        self.domains = {}
        self.dirty = set()
        self.resets = dict.fromkeys(GPUS, 0)
        self.problem = dict.fromkeys(GPUS)
        self.queue = []
        self.clock = random.Random(7)
        self.places = {}
        self.uuids = {}
        self.make_providers()
        self.start_agent()

    # -- what an operator and Nova do

    def make_providers(self):
        """Make the providers, as nova-compute does; nothing is reserved."""
        self.placement.replace_providers(
            [
                service.Provider(HOST, None, {"VCPU": service.Inventory(8)}),
                *(
                    service.Provider(
                        f"{HOST}_{address.upper()}",
                        HOST,
                        {CLASS: service.Inventory(1)},
                        (ONE_TIME_USE,) if self.is_one_time_use else (),
                    )
                    for address in GPUS
                ),
            ]
        )

    def uuid(self, address):
        """Return the UUID of a device's provider."""
        return self.uuids.get(address) or service.provider_uuid(
            f"{HOST}_{address.upper()}"
        )

    def offered(self):
        """Ask Placement which devices a server could get."""
        path = f"/allocation_candidates?resources={CLASS}:1"
        found = self.placement.stock(path).json["allocation_requests"]
        uuids = {uuid for one in found for uuid in one["allocations"]}
        return {one for one in GPUS if self.uuid(one) in uuids}

    def claim(self, address):
        """Give a device to a server; whether Placement did."""
        path = f"/allocation_candidates?resources={CLASS}:1"
        for one in self.placement.stock(path).json["allocation_requests"]:
            if self.uuid(address) in one["allocations"]:
                break
        else:
            return False
        assert address not in self.dirty, f"{address} was given away dirty"
        one["mappings"] = {"": [self.uuid(address)]}
        self.claims += 1
        # The same in each world; see remembering.py.
        self.consumers[address] = self.placement.allocate(
            one, consumer=service.provider_uuid(f"server {self.claims}")
        )
        self.dirty.add(address)
        if self.is_one_time_use:
            # nova-compute: _handle_one_time_use of
            # nova/compute/pci_placement_translator.py
            reserving.reserve(self.get, self.send, self.uuid(address))
        return True

    def boot(self, address):
        """Start the guest of a server that has a device."""
        domain = fakes.Domain(address)
        self.domains[address] = domain
        self.libvirt.domains.append(domain)

    def shut(self, address):
        """Have libvirt forget a guest; the server stays."""
        self.libvirt.domains.remove(self.domains.pop(address))

    def delete(self, address):
        """Delete a server: its guest, then its allocation."""
        if address in self.domains:
            self.shut(address)
        self.placement.free(self.consumers.pop(address))

    def hide(self, address):
        """Take a device off the bus."""
        link = self.tree.path(f"/sys/bus/pci/devices/{address}")
        self.places[address] = link.readlink()
        link.unlink()

    def show(self, address):
        """Put it back."""
        self.tree.path(f"/sys/bus/pci/devices/{address}").symlink_to(
            self.places[address]
        )

    # -- the agent

    def start_agent(self):
        """Start the agent, on the ledger that there is."""
        self.fuse.at = None
        self.queue.clear()
        self.ledger = ledger.Ledger(str(self.path / "ledger"))
        self.fuse.wrap(self.ledger, "change")
        self.bus = bus_lib.Bus(str(self.tree.root), reading_seconds=0.0)
        self.bus.reset = self._reset
        self.fuse.wrap(self.bus, "reset")

        def get(path):
            self._answer()
            return self.get(path)

        def send(path, body):
            self._answer()
            return self.send(path, body)

        cleaner = cleaning.Cleaner(
            self.bus,
            hooks=str(self.path / "hooks"),
            hook_seconds=10.0,
            tool_seconds=10.0,
            settle_seconds=0.0,
            corrected_errors=1000,
            gpu_admin_tools="",
        )
        self.keeper = keeper.Keeper(
            self.ledger,
            self.fuse.wrap(
                providers_lib.Providers(get, send, HOST),
                "reserve",
                "offer",
                "mark",
            ),
            domains.Libvirt("qemu:///system", self.libvirt),
            self.bus,
            cleaner,
            submit=self.queue.append,
            all_devices=not self.is_one_time_use,
            reserve_in_use=True,
            corrected_errors=1000,
            # It jumps: nothing may be decided by it.
            clock=lambda: self.clock.uniform(0, 4e9),
        )

    def _answer(self):
        if self.is_placement_away:
            raise services.errors.Unreachable(
                service="Placement", error="connection refused"
            )

    def _reset(self, address, held):
        if self.problem[address]:
            return self.problem[address]
        problem = bus_lib.Bus.reset(self.bus, address, held)
        if problem is None:
            self.dirty.discard(address)
            self.resets[address] += 1
        return problem

    def kill_agent(self):
        """End the agent as a power cut would, and start another."""
        self.ledger.close()
        self.start_agent()

    def run(self, passes=1):
        """Make passes, and the cleanings that they ask for."""
        for _ in range(passes):
            self.keeper.run_once()
            while self.queue:
                self.queue.pop(0)()

    def state(self, address):
        """Return the state of a device in the ledger."""
        return self.ledger.get(address).state

    def check(self):
        """Assert what has to hold at each moment."""
        offered = self.offered()
        assert not offered & self.dirty, "dirty, and offered"
        for record in self.keeper.list_records():
            assert record.reason

    def check_settled(self):
        """Assert what has to hold once the agent had its time."""
        self.check()
        offered = self.offered()
        for address in GPUS:
            state = self.state(address)
            if address in self.consumers:
                assert state in (
                    State.CLAIMED,
                    State.IN_USE,
                    State.QUARANTINED,
                )
            else:
                assert state in (State.FREE, State.QUARANTINED)
                assert state is State.QUARANTINED or address not in self.dirty
                assert (address in offered) == (state is State.FREE)
