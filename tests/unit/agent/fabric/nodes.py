# SPDX-License-Identifier: Apache-2.0

"""A compute node with a Fabric Manager, guests, and the agent's part."""

import uuid

from nova_gpu_filter.agent import ledger
from nova_gpu_filter.agent.fabric import partitions
from tests.unit.agent.fabric import managers


class Node:
    """An HGX H100, unless it is said otherwise."""

    def __init__(
        self, path, table=managers.HGX_H100, is_resilient=False, deadline=0.0
    ):
        self.path = path
        self.manager = managers.Manager(path / "fm", table)
        self.known = {
            id_: frozenset(managers.ADDRESSES[module] for module in modules)
            for id_, modules in table.items()
        }
        self.is_resilient = is_resilient
        self.deadline = deadline
        self.parents = {}
        self.boot = "first"
        self.guests = {}
        self.readings = 0
        self.start_agent()

    def start_agent(self):
        """Start the agent on the ledger that there is."""
        self.client = self.manager.client()
        self.ledger = ledger.Ledger(str(self.path / "ledger"))
        self.agent = partitions.Partitions(
            self.ledger,
            self.client,
            self._read_partitions,
            lambda: self.is_resilient,
            self.parents.get,
            self.deadline,
            self.boot,
        )

    def _read_partitions(self):
        self.readings += 1
        return self.known

    def kill_agent(self):
        """End the agent, as SIGKILL would."""
        self.ledger.close()

    def start(self, partition, name=None):
        """Start a guest; its UUID."""
        name = name or str(uuid.uuid4())
        self.agent.prepare(name, self.known[partition])
        self.guests[name] = self.known[partition]
        return name

    def stop(self, name):
        """Stop a guest."""
        del self.guests[name]
        self.agent.release(name)

    def look(self):
        """Read what runs, and act on it."""
        return self.agent.reconcile(dict(self.guests), self.agent.mark())

    def wanted(self):
        """Return which partitions guests have that run."""
        by_devices = {devices: id_ for id_, devices in self.known.items()}
        return {
            by_devices[devices] for devices in self.guests.values() if devices
        }

    def rows(self):
        """Return the rows of the ledger: partition -> (phase, owner)."""
        return {
            id_: (row.phase.value, row.owner)
            for id_, row in self.ledger.read_partitions().items()
        }
