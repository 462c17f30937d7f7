# SPDX-License-Identifier: Apache-2.0

"""Lists partitions, and says to a new Fabric Manager which are active.

One with FABRIC_MODE_RESTART waits for that list, also where it is empty
(fmSetActivatedFabricPartitions of nv_fm_agent.h).
"""

from collections.abc import Callable
import logging

from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent.fabric import fabric_manager as fabric_manager_lib
from nova_gpu_filter.agent.fabric.owning import Phase
from nova_gpu_filter.host.links import fabric_output

LOG = logging.getLogger(__name__)


class PartitionLister:
    """Lists the partitions of Fabric Manager; for one thread at a time."""

    def __init__(
        self,
        ledger: ledger_lib.Ledger,
        client: fabric_manager_lib.Client,
        is_resilient: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._is_resilient = is_resilient
        self._informed: int | None = None
        """Which connection knows what is active."""

    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        """List the partitions, and say to a new Fabric Manager what is active.

        :raises FabricError: it does not answer.
        """
        listed = None
        try:
            listed = self._client.list_partitions()
        except fabric_manager_lib.NotReady:
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
                for row in self._ledger.read_partitions().values()
                if row.phase is not Phase.ACTIVATING
            ]
            try:
                self._client.set_activated(active)
                LOG.info(
                    "Active partitions reported to Fabric Manager: %s", active
                )
            except fabric_manager_lib.NotReady:
                raise
            except fabric_manager_lib.FabricError as error:
                # It was not restarted, and knows.
                LOG.info(
                    "Active partitions not reported to Fabric Manager: %s",
                    error,
                )
            listed = self._client.list_partitions()
        self._informed = connection
        assert listed is not None
        return listed
