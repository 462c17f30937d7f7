# SPDX-License-Identifier: Apache-2.0

"""The schedulers that are compared: filters, weighers and candidates."""

import abc
import collections
from collections.abc import Sequence
import dataclasses
import random
from typing import Any
from typing import Final
import uuid

from nova import objects
from nova.scheduler import filters
from nova.scheduler import weights
from nova.scheduler.filters import pci_passthrough_filter
from nova.scheduler.weights import pci as pci_weigher
from oslo_config import cfg

from nova_gpu_filter import conf
from nova_gpu_filter.nova_rules import device_types
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.scheduler import weights as gpu_weights
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import placement_model
from nova_gpu_filter.simulate import workload

MAX_PLACEMENT_RESULTS: Final = 1000
"""Default of Nova's ``[scheduler]max_placement_results``: that many sets the
extension divides between the hosts."""

WEIGHERS: Final = ("pci", "all")
"""Which of Nova's weighers stand beside ours: PCIWeigher, or all that Nova
enables."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """Where a server goes."""

    host: clouds.Host
    mask: int


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Why a server goes nowhere."""

    cause: str
    example: str | None = None
    """What the filter says of one host."""
    hosts: tuple[tuple[str, int], ...] = ()
    """(words of the cause, hosts that were refused for it)."""


NOT_ENOUGH: Final = "fewer free GPUs in the cloud than asked for"
SCATTERED: Final = "no host has as many free GPUs, though the cloud has"


class Scheduler(abc.ABC):
    """Chooses a host and its GPUs for a server."""

    name: str
    """What reports call it."""

    @abc.abstractmethod
    def choose(
        self, flavor: workload.Flavor, cloud: clouds.Cloud
    ) -> Placed | Refused:
        """Choose for one server; nothing is taken yet."""


def explain_no_candidates(
    flavor: workload.Flavor, cloud: clouds.Cloud
) -> Refused:
    """Say why no host has enough free GPUs."""
    if cloud.count_free(flavor.model) < flavor.gpus:
        return Refused(NOT_ENOUGH)
    return Refused(SCATTERED)


class _NovaScheduler(Scheduler):
    """Runs real filters and weighers on real host states.

    As nova-scheduler does it, one request at a time.
    """

    def __init__(
        self,
        filter_: filters.BaseHostFilter,
        weighers: Sequence[weights.BaseHostWeigher],
        seed: int,
    ) -> None:
        self._filters = [filter_]
        self._filter_handler = filters.HostFilterHandler()
        self._weight_handler = weights.HostWeightHandler()
        self._weighers = weighers
        self._chance = random.Random(seed)  # noqa: S311 (no secret)
        self._spec_by_flavor: dict[workload.Flavor, Any] = {}

    def choose(
        self, flavor: workload.Flavor, cloud: clouds.Cloud
    ) -> Placed | Refused:
        distinct_hosts = cloud.list_distinct_hosts(flavor.model, flavor.gpus)
        if not distinct_hosts:
            return explain_no_candidates(flavor, cloud)
        spec_obj = self._make_spec(flavor)
        request_id = spec_obj.pci_requests.requests[0].request_id
        seed = self._chance.getrandbits(32)
        host_by_uuid = {host.state.uuid: host for host, _ in distinct_hosts}
        for host in host_by_uuid.values():
            masks = self._choose_sets(
                host, flavor.gpus, seed, len(cloud.hosts)
            )
            host.state.allocation_candidates = placement_model.offer(
                host, masks, request_id
            )
        passed = self._filter_handler.get_filtered_objects(
            self._filters,
            [host.state for host in host_by_uuid.values()],
            spec_obj,
        )
        if not passed:
            return self._explain(distinct_hosts)
        # The scheduler takes the first, and claims its first candidate:
        # _get_sorted_hosts and _schedule of nova/scheduler/manager.py.
        best = self._weight_handler.get_weighed_objects(
            self._weighers, passed, spec_obj
        )[0].obj
        host = host_by_uuid[best.uuid]
        claimed = best.allocation_candidates[0]["mappings"]
        providers = [found[0] for suffix, found in claimed.items() if suffix]
        return Placed(host, host.make_mask(providers))

    def _make_spec(self, flavor: workload.Flavor) -> "objects.RequestSpec":
        """Make the request spec of the next server of a flavor."""
        spec_obj = self._spec_by_flavor.get(flavor)
        if spec_obj is None:
            spec_obj = self._spec_by_flavor[flavor] = make_request_spec(flavor)
        spec_obj.instance_uuid = str(
            uuid.UUID(int=self._chance.getrandbits(128))
        )
        return spec_obj

    @abc.abstractmethod
    def _choose_sets(
        self, host: clouds.Host, k: int, seed: int, hosts: int
    ) -> list[int]:
        """Choose the device sets of the candidates of a host.

        :param hosts: how many hosts the cloud has.
        """

    def _explain(
        self, distinct_hosts: list[tuple[clouds.Host, int]]
    ) -> Refused:
        """Say why all hosts were refused."""
        cause = refusal.Cause.UNEXPLAINED.value
        hosts = sum(count for _, count in distinct_hosts)
        return Refused(cause, hosts=((cause, hosts),))


class StockScheduler(_NovaScheduler):
    """Nova as it is."""

    name = "stock"

    def __init__(self, weighers: str = "pci", seed: int = 0) -> None:
        """Load Nova's filter and weighers.

        :param weighers: one of :data:`WEIGHERS`.
        :param seed: of Placement's order.
        """
        super().__init__(
            pci_passthrough_filter.PciPassthroughFilter(),
            _load_nova_weighers(weighers),
            seed,
        )

    def _choose_sets(
        self, host: clouds.Host, k: int, seed: int, hosts: int
    ) -> list[int]:
        return placement_model.choose_stock(host, k, seed)


class GpuScheduler(_NovaScheduler):
    """Nova with our filter, weighers and Placement extension."""

    name = "gpu"

    def __init__(
        self,
        weighers: str = "pci",
        seed: int = 0,
        max_sets_per_tree: int = 16,
    ) -> None:
        """Load our filter, and our weighers beside Nova's.

        :param weighers: one of :data:`WEIGHERS`: which of Nova's.
        :param seed: of instance UUIDs and request ids.
        :param max_sets_per_tree: as the option of the extension.
        """
        self._filter = _ExplainingFilter()
        self._max_sets = max_sets_per_tree
        self._mix = conf.request_mix(cfg.CONF)
        super().__init__(
            self._filter,
            _load_nova_weighers(weighers)
            + [cls() for cls in gpu_weights.all_weighers()],
            seed,
        )

    def _choose_sets(
        self, host: clouds.Host, k: int, seed: int, hosts: int
    ) -> list[int]:
        most = None
        if self._max_sets > 0:
            most = min(self._max_sets, max(1, MAX_PLACEMENT_RESULTS // hosts))
        return placement_model.choose_composed(host, k, seed, most, self._mix)

    def _explain(
        self, distinct_hosts: list[tuple[clouds.Host, int]]
    ) -> Refused:
        tally: collections.Counter[str] = collections.Counter()
        for (_, count), refused in zip(
            distinct_hosts, self._filter.refusals, strict=True
        ):
            tally[refused.cause.value] += count
        hosts = tuple(
            sorted(tally.items(), key=lambda item: (-item[1], item[0]))
        )
        cause = hosts[0][0]
        example = next(
            refused
            for refused in self._filter.refusals
            if refused.cause.value == cause
        )
        return Refused(cause, refusal.describe(example), hosts)


class _ExplainingFilter(gpu_pci_passthrough.GpuPciPassthroughFilter):
    """Our filter; it keeps why the hosts of the last request were refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[refusal.Refusal] = []

    def filter_all(self, filter_obj_list, spec_obj):
        self.refusals = []
        return super().filter_all(filter_obj_list, spec_obj)

    def _refuse(self, host_state, question):
        refused = super()._refuse(host_state, question)
        if refused is not None:
            self.refusals.append(refused)
        return refused


def _load_nova_weighers(which: str) -> list[weights.BaseHostWeigher]:
    if which == "pci":
        return [pci_weigher.PCIWeigher()]
    return [cls() for cls in weights.all_weighers()]


def make_request_spec(flavor: workload.Flavor) -> "objects.RequestSpec":
    """Make the request spec that nova-api makes of a flavor with an alias.

    The instance has no UUID yet.
    """
    resource_class = f"CUSTOM_GPU_{flavor.model or 'ANY'}"
    gpus = flavor.gpus
    return objects.RequestSpec(
        num_instances=1,
        # Nova's weighers ask for these; a plain server has none of them.
        instance_group=None,
        numa_topology=None,
        scheduler_hints={},
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        flavor=objects.Flavor(
            name=f"g{gpus}",
            vcpus=clouds.VCPUS_A_GPU * gpus,
            memory_mb=clouds.RAM_MB_A_GPU * gpus,
            root_gb=clouds.DISK_GB_A_GPU * gpus,
            ephemeral_gb=0,
            swap=0,
            extra_specs=flavor.extra_specs,
        ),
        pci_requests=objects.InstancePCIRequests(
            requests=[
                objects.InstancePCIRequest(
                    request_id=str(
                        uuid.uuid5(uuid.NAMESPACE_OID, repr(flavor))
                    ),
                    alias_name=flavor.model or "gpu",
                    count=gpus,
                    # As nova/pci/request.py reads the alias; Placement alone
                    # looks at the resource class.
                    spec=[
                        {
                            "dev_type": device_types.PCI,
                            "resource_class": resource_class,
                        }
                    ],
                    numa_policy="legacy",
                )
            ]
        ),
    )
