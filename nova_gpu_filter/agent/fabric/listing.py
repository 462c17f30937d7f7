# SPDX-License-Identifier: Apache-2.0

"""Lists partitions, and says to a new Fabric Manager which are active.

One with FABRIC_MODE_RESTART waits for that list, also where it is empty
(fmSetActivatedFabricPartitions of nv_fm_agent.h).
"""

from collections.abc import Callable
import logging

from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent.fabric import client as client_lib
from nova_gpu_filter.agent.fabric.owning import Phase
from nova_gpu_filter.host.links import fabric

LOG = logging.getLogger(__name__)


class PartitionLister:
    """Lists the partitions of Fabric Manager; for one thread at a time."""

    def __init__(
        self,
        ledger: ledger_lib.Ledger,
        client: client_lib.Client,
        is_resilient: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._is_resilient = is_resilient
        self._informed: int | None = None
        """Which connection knows what is active."""

    def list_partitions(self) -> tuple[fabric.ListedPartition, ...]:
        """List the partitions, and say to a new Fabric Manager what is active.

        :raises FabricError: it does not answer.
        """
        listed = None
        try:
            listed = self._client.list_partitions()
        except client_lib.NotReady:
            if self._client.connections == self._informed:
                raise
            if not self._is_resilient():
                raise
        connection = self._client.connections
        if connection == self._informed and listed is not None:
            return listed
        if self._is_resilient():
            active = [
                row.id
                for row in self._ledger.partitions().values()
                if row.phase is not Phase.ACTIVATING
            ]
            try:
                self._client.set_activated(active)
                LOG.info("Fabric Manager is told what is active: %s", active)
            except client_lib.NotReady:
                raise
            except client_lib.FabricError as error:
                # It was not restarted, and knows.
                LOG.info("The list of active partitions: %s", error)
            listed = self._client.list_partitions()
        self._informed = connection
        assert listed is not None
        return listed
