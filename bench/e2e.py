# SPDX-License-Identifier: Apache-2.0

"""``select_destinations`` end to end: the scheduler's manager and Placement.

Hosts are read from Nova's database with their NUMA topologies and PCI pools,
Placement runs in a process of its own and answers over HTTP, and the claim is
made: what a request costs the control plane, in processor seconds of both.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import gc
import inspect
import itertools
import json
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import random
import statistics
import threading
import time
from typing import Any
import uuid

from bench import report

GPUS = 8
RESOURCE_CLASS = "CUSTOM_GPU_H100"
USED = 0.4
"""Part of the GPUs that belongs to servers."""
KS = (1, 2, 4, 8)
VCPUS_A_GPU, RAM_MB_A_GPU = 8, 65536
LIMITS = (1000, 200)
"""``[scheduler]max_placement_results``: the default, and a smaller one."""
REQUESTS = 3
"""Of each kind are measured, after one that is not; the best counts."""
MEMORY_REQUESTS = 500
OPTIONS = ("hosts",)
_FOREVER_S = 10 * 365 * 86400
_NATIVE_THREADS = {
    "OS_NOVA_DISABLE_EVENTLET_PATCHING": "true",
    "OS_TEST_TIMEOUT": "0",
}
"""Both processes wait for pipes, which eventlet's hub does not see."""


@dataclasses.dataclass(frozen=True)
class _Way:
    """How a cloud is asked."""

    name: str
    extends_placement: bool
    filter: str | None
    """In place of PciPassthroughFilter; None for no filter of PCI devices."""


OURS = _Way("ours", True, "GpuPciPassthroughFilter")
STOCK = _Way("stock", False, "PciPassthroughFilter")
BOUND = _Way("bound", False, None)
"""What nobody who schedules by Placement can get below: one GPU, and nobody
looks at it."""


def run(full: bool, hosts: list[int] | None = None) -> report.Report:
    """Measure 100 and 1,000 hosts.

    :param full: 4,000 and 10,000 hosts as well, and the memory of 500
        requests.
    :param hosts: these numbers of hosts instead.
    """
    result = report.Report(
        "select_destinations end to end, processor seconds of nova-scheduler"
        " and Placement for one server",
        {
            "hosts": "hosts",
            "limit": "max results",
            "k": "k",
            "ours_s": "ours",
            "ours_placement_s": "of it Placement",
            "stock_s": "stock tuned",
            "bound_s": "one GPU",
            "ratio": "ours / one",
            "stock_ratio": "ours / stock",
            "covered": "hosts in the answer",
            "stock_covered": "stock's",
            "damage": "damage",
            "best_damage": "best",
            "best_linked_damage": "best linked",
            "linked_percent": "linked %",
            "stock_damage": "of stock",
        },
        notes=(
            f"{USED:.0%} of the GPUs are used. stock tuned:"
            " PciPassthroughFilter and Placement with"
            " optimize_for_wide_provider_trees;",
            "max_allocation_candidates is 1,000 and breadth-first for all.",
            "one GPU: stock, one GPU asked for, without a filter of PCI"
            " devices. damage: GPUs that become useless to later",
            "requests (F), on the chosen host, and the least of all hosts: of"
            " any GPUs, and of whole fabric partitions (linked);",
            f"mean of {REQUESTS}. Processor time: best of {REQUESTS}.",
        ),
    )
    for size in hosts or ((100, 1000, 4000, 10000) if full else (100, 1000)):
        _measure_cloud(size, result)
    if full:
        _measure_memory(result)
    return result


def _measure_cloud(hosts: int, result: report.Report) -> None:
    asked = [
        (way, limit, k)
        for way, limits, ks in (
            (OURS, LIMITS, KS),
            (STOCK, LIMITS[:1], KS),
            (BOUND, LIMITS[:1], (1,)),
        )
        for limit in limits
        for k in ks
    ]
    outcomes: dict[tuple[str, int, int], list[_Outcome]] = {}
    with contextlib.ExitStack() as stack:
        schedulers = {
            way: stack.enter_context(_Scheduler(way, hosts))
            for way in (OURS, STOCK, BOUND)
        }
        # In turn, so that what else the machine does strikes all alike.
        for _ in range(REQUESTS + 1):
            for way, limit, k in asked:
                outcomes.setdefault((way.name, limit, k), []).append(
                    schedulers[way].ask(limit, k)
                )
    # The first of each finds what it needs neither imported nor cached.
    found = {key: _summarize(every[1:]) for key, every in outcomes.items()}
    for limit in LIMITS:
        for k in KS:
            ours = found[OURS.name, limit, k]
            stock = found[STOCK.name, LIMITS[0], k]
            bound = found[BOUND.name, LIMITS[0], 1]
            if ours.refused:
                result.errors.append(f"{hosts} hosts, k={k}: {ours.refused}")
            result.rows.append(
                {
                    "hosts": hosts,
                    "limit": limit,
                    "k": k,
                    "ours_s": round(ours.seconds, 3),
                    "ours_placement_s": round(ours.placement_s, 3),
                    "stock_s": round(stock.seconds, 3),
                    "bound_s": round(bound.seconds, 3),
                    "ratio": round(ours.seconds / bound.seconds, 2),
                    "stock_ratio": round(ours.seconds / stock.seconds, 2),
                    "covered": ours.covered,
                    "stock_covered": stock.covered,
                    "damage": round(ours.damage, 3),
                    "best_damage": round(ours.best_damage, 3),
                    "best_linked_damage": round(ours.best_linked_damage, 3),
                    "linked_percent": ours.linked_percent,
                    "stock_damage": round(stock.damage, 3),
                }
            )


def _measure_memory(result: report.Report) -> None:
    with _Scheduler(OURS, 100) as scheduler:
        before, after = scheduler.grow(MEMORY_REQUESTS)
    result.notes = (
        *result.notes,
        f"Memory of nova-scheduler after {MEMORY_REQUESTS} requests of four"
        f" GPUs, 100 hosts: {after - before:+.1f} MB from {before:.0f} MB.",
    )


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """How requests of one kind went."""

    seconds: float
    placement_s: float
    """Of them in Placement."""
    covered: int
    """Hosts in Placement's answer."""
    damage: float
    best_damage: float
    """The least that any set of GPUs of any host does."""
    best_linked_damage: float
    """The least of those that are a whole fabric partition."""
    linked_percent: float
    """Servers that got one."""
    refused: str = ""
    """Why one of them was refused; all of them can be served."""


def _summarize(outcomes: Sequence[_Outcome]) -> _Outcome:
    """Take the least time, and the mean of what was chosen."""
    return dataclasses.replace(
        min(outcomes, key=lambda outcome: outcome.seconds),
        damage=statistics.fmean(o.damage for o in outcomes),
        linked_percent=statistics.fmean(o.linked_percent for o in outcomes),
        refused=next((o.refused for o in outcomes if o.refused), ""),
    )


# The cloud: which GPUs of which host are used.


@functools.lru_cache(maxsize=1)
def _topology() -> Any:
    from tests import machines

    return machines.hgx_h100_partitions()


@functools.lru_cache(maxsize=4)
def _free_masks(hosts: int) -> tuple[int, ...]:
    """Place servers of 1, 2 and 4 GPUs on whole partitions of any hosts."""
    chance = random.Random(hosts)
    topology = _topology()
    free = [topology.everything] * hosts
    left = int(hosts * GPUS * USED)
    # Some stay empty, or nothing of eight GPUs could be served.
    hosts_with_servers = range(max(hosts // 8, 1), hosts)
    while left > 0:
        host = chance.choice(hosts_with_servers)
        size = chance.choice((1, 1, 2, 4))
        whole = list(topology.whole_partitions(size, free[host]))
        if whole:
            free[host] ^= chance.choice(whole)
            left -= size
    return tuple(free)


def _host_name(number: int) -> str:
    return f"hgx-{number:05}"


def _device_name(number: int, gpu: int) -> str:
    return f"{_host_name(number)}_0000:{0x10 + gpu:02X}:00.0"


# Placement, in a process of its own.


def _serve_placement(
    pipe: connection.Connection, way: _Way, hosts: int
) -> None:
    """Answer over HTTP; on the pipe, say how much time was used so far."""
    os.environ |= _NATIVE_THREADS
    from wsgiref import simple_server

    from bench import placement as tuned
    from demo import threads  # noqa: F401
    from tests.functional.placement import service

    # Requests for one GPU are Placement's own in both.
    options = tuned.FAIR if way.extends_placement else tuned.TUNED

    class Quiet(simple_server.WSGIRequestHandler):
        def log_message(self, *_args: Any) -> None:
            pass

    def tell() -> None:
        with contextlib.suppress(EOFError):
            while True:
                pipe.recv()
                pipe.send(time.process_time())

    with service.Placement(options) as placement:
        placement.replace_providers(_providers(hosts))
        name = "ours" if way.extends_placement else "stock"
        server = simple_server.make_server(
            "127.0.0.1", 0, placement.applications[name], handler_class=Quiet
        )
        pipe.send(server.server_port)
        threading.Thread(target=tell, daemon=True).start()
        server.serve_forever()


def _providers(hosts: int) -> Iterator[Any]:
    import os_traits

    from nova_gpu_filter.topology import codec
    from nova_gpu_filter.topology import groups
    from tests.functional.placement import service

    links = groups.decompose(_topology())
    # About as many as the libvirt driver reports; Nova 34 wants the owner.
    traits = tuple(
        name
        for name in sorted(os_traits.get_traits("COMPUTE_"))
        if name != os_traits.COMPUTE_STATUS_DISABLED
    )[:60]
    owned = (os_traits.OWNER_NOVA, os_traits.COMPUTE_MANAGED_PCI_DEVICE)
    for number, free in enumerate(_free_masks(hosts)):
        name, used = _host_name(number), GPUS - free.bit_count()
        yield service.Provider(
            name,
            inventories={
                "VCPU": service.Inventory(224, used=used * VCPUS_A_GPU),
                "MEMORY_MB": service.Inventory(
                    2 << 20, used=used * RAM_MB_A_GPU
                ),
                "DISK_GB": service.Inventory(20000),
            },
            traits=(*traits, os_traits.OWNER_NOVA),
        )
        for gpu in range(GPUS):
            yield service.Provider(
                _device_name(number, gpu),
                name,
                {
                    RESOURCE_CLASS: service.Inventory(
                        1, used=0 if free >> gpu & 1 else 1
                    )
                },
                (*codec.format_traits(links[gpu]), *owned),
            )


# nova-scheduler, in another.


class _Scheduler:
    """A scheduler and its Placement, in processes of their own."""

    def __init__(self, way: _Way, hosts: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run_scheduler, args=(theirs, way, hosts)
        )

    def __enter__(self) -> "_Scheduler":
        self._process.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._pipe.close()
        self._process.join(60)
        self._process.kill()

    def ask(self, limit: int, k: int) -> _Outcome:
        """Schedule a server of k GPUs."""
        self._pipe.send(("ask", limit, k))
        outcome: _Outcome = self._pipe.recv()
        return outcome

    def grow(self, requests: int) -> tuple[float, float]:
        """Return the memory in MB before and after many requests."""
        self._pipe.send(("grow", requests))
        before, after = self._pipe.recv()
        return before, after


def _run_scheduler(pipe: connection.Connection, way: _Way, hosts: int) -> None:
    os.environ |= _NATIVE_THREADS
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    placement = context.Process(
        target=_serve_placement, args=(theirs, way, hosts), daemon=True
    )
    placement.start()
    cloud = _Cloud(way, hosts, ours)
    try:
        with contextlib.suppress(EOFError):
            while True:
                what, *arguments = pipe.recv()
                pipe.send(getattr(cloud, what)(*arguments))
    finally:
        placement.kill()


class _Cloud:
    """Nova's database with hosts, and a scheduler that reads it."""

    def __init__(
        self, way: _Way, hosts: int, placement: connection.Connection
    ) -> None:
        from demo import threads  # noqa: F401

        # isort: split

        from nova import test

        class Base(test.TestCase):
            def runTest(self) -> None:
                """Do nothing: unittest wants a test to have a method."""

        self._hosts, self._placement = hosts, placement
        self._base = Base("runTest")
        self._base.setUp()
        self._configure(way, placement.recv())
        self._make_hosts()
        from nova.scheduler import manager

        self._manager = manager.SchedulerManager()
        # Without what oslo.messaging makes of exceptions.
        self._select_destinations = functools.partial(
            inspect.unwrap(manager.SchedulerManager.select_destinations),
            self._manager,
        )
        self._free_by_uuid = {
            _uuid(_host_name(number)): free
            for number, free in enumerate(_free_masks(hosts))
        }

    def _configure(self, way: _Way, port: int) -> None:
        from nova import conf as nova_conf
        from oslo_config import cfg

        self._url = f"http://127.0.0.1:{port}"
        conf = nova_conf.CONF
        self._set = self._base.flags
        from keystoneauth1 import loading

        loading.register_auth_conf_options(conf, "placement")
        conf.register_opts(
            loading.get_auth_plugin_conf_options("admin_token"),
            group="placement",
        )
        self._set(
            group="placement",
            auth_type="admin_token",
            endpoint=self._url,
            token="admin",  # noqa: S106
            endpoint_override=self._url,
        )
        filters = [
            name
            for name in cfg.CONF.filter_scheduler.enabled_filters
            if not name.endswith("PciPassthroughFilter")
        ]
        self._set(
            group="filter_scheduler",
            pci_in_placement=True,
            track_instance_changes=False,
            available_filters=["nova.scheduler.filters.all_filters"]
            + (
                ["nova_gpu_filter.scheduler.filters.all_filters"]
                if way.extends_placement
                else []
            ),
            enabled_filters=[
                *filters,
                "NUMATopologyFilter",
                *([way.filter] if way.filter else []),
            ],
            weight_classes=["nova.scheduler.weights.all_weighers"]
            + (
                ["nova_gpu_filter.scheduler.weights.all_weighers"]
                if way.extends_placement
                else []
            ),
        )
        self._set(service_down_time=_FOREVER_S)
        alias = {"name": "h100", "resource_class": RESOURCE_CLASS}
        self._set(group="pci", alias=[json.dumps(alias)])

    def _make_hosts(self) -> None:
        """Write services and compute nodes as nova-compute reports them.

        The first through Nova's objects; rows of the others are copies with
        what differs, as ten thousand would take Nova many minutes.
        """
        from nova import context as nova_context
        from nova import objects
        from nova.db.api import api as api_database
        from nova.db.api import models as api_models
        from nova.db.main import api as main_database
        from nova.db.main import models as main_models

        self._context = nova_context.get_admin_context()
        cell = next(
            found
            for found in objects.CellMappingList.get_all(self._context)
            if not found.is_cell0()
        )
        masks = dict(enumerate(_free_masks(self._hosts)))
        with nova_context.target_cell(self._context, cell) as cell_context:
            _make_host(cell_context, masks.pop(0))
            objects.HostMapping(
                self._context, cell_mapping=cell, host=_host_name(0)
            ).create()
            engine = main_database.get_engine(context=cell_context)
        _copy_row(
            engine,
            main_models.Service,
            [
                {"id": 1 + n, "uuid": _uuid(f"service-{n}")} | _host(n)
                for n in masks
            ],
        )
        _copy_row(
            engine,
            main_models.ComputeNode,
            [
                {
                    "id": 1 + n,
                    "service_id": 1 + n,
                    "uuid": _uuid(_host_name(n)),
                    "hypervisor_hostname": _host_name(n),
                    "pci_stats": json.dumps(
                        _pools(n, free).obj_to_primitive()
                    ),
                }
                | _host(n)
                | _used(free)
                for n, free in masks.items()
            ],
        )
        _copy_row(
            api_database.get_engine(),
            api_models.HostMapping,
            [{"id": 1 + n} | _host(n) for n in masks],
        )

    def ask(self, limit: int, k: int) -> _Outcome:
        """Schedule a server of k GPUs, and take it back."""
        self._set(group="scheduler", max_placement_results=limit)
        return self._schedule(k)

    def grow(self, requests: int) -> tuple[float, float]:
        """Return the memory in MB after a tenth of the requests, when all
        that is cached is there, and after all."""
        for number in range(requests):
            self._schedule(4)
            if number == requests // 10:
                before = _memory_mb()
        return before, _memory_mb()

    def _placement_s(self) -> float:
        self._placement.send("how much?")
        seconds: float = self._placement.recv()
        return seconds

    def _schedule(self, k: int) -> _Outcome:
        from nova import exception

        spec_obj, uuid_ = self._request(k)
        covered: list[int] = []
        ask = self._manager.placement_client.get_allocation_candidates

        def count(*args: Any, **kwargs: Any) -> Any:
            answer = ask(*args, **kwargs)
            covered.append(
                len(
                    {
                        summary["root_provider_uuid"]
                        for summary in answer[1].values()
                    }
                )
            )
            return answer

        gc.collect()
        self._manager.placement_client.get_allocation_candidates = count
        placement_s, start = self._placement_s(), time.process_time()
        try:
            ((selection, *_),) = self._select_destinations(
                self._context,
                spec_obj=spec_obj,
                instance_uuids=[uuid_],
                return_objects=True,
                return_alternates=True,
            )
        except exception.NoValidHost as exc:
            return _Outcome(
                0.0, 0.0, covered[-1], 0.0, 0.0, 0.0, 0.0, str(exc)
            )
        finally:
            seconds = time.process_time() - start
            placement_s = self._placement_s() - placement_s
            self._manager.placement_client.get_allocation_candidates = ask
        self._take_back(uuid_)
        free, mask = self._chosen(selection)
        masks = set(_free_masks(self._hosts))
        return _Outcome(
            seconds + placement_s,
            placement_s,
            covered[-1],
            _damage(free, mask),
            min(_least_damage(k, found, False) for found in masks),
            min(_least_damage(k, found, True) for found in masks),
            100.0 * _is_linked(mask),
        )

    def _request(self, k: int) -> tuple[Any, str]:
        """Make what nova-api and nova-conductor make of a flavor."""
        from nova import objects
        from nova.pci import request as pci_request

        flavor = objects.Flavor(
            id=k,
            flavorid=str(k),
            name=f"h100.{k}",
            vcpus=VCPUS_A_GPU * k,
            memory_mb=RAM_MB_A_GPU * k,
            root_gb=10,
            ephemeral_gb=0,
            swap=0,
            vcpu_weight=0,
            rxtx_factor=1.0,
            disabled=False,
            is_public=True,
            description=None,
            extra_specs={"pci_passthrough:alias": f"h100:{k}"},
        )
        uuid_ = str(uuid.uuid4())
        return objects.RequestSpec.from_components(
            self._context,
            uuid_,
            objects.ImageMeta(properties=objects.ImageMetaProps()),
            flavor,
            None,
            pci_request.get_pci_requests_from_flavor(flavor),
            {},
            None,
            None,
            project_id="project",
            user_id="user",
        ), uuid_

    def _take_back(self, consumer: str) -> None:
        client = self._manager.placement_client
        client.delete_allocation_for_instance(
            self._context, consumer, force=True
        )

    def _chosen(self, selection: Any) -> tuple[int, int]:
        """Return which GPUs of the chosen host were free, and are claimed."""
        number = int(selection.nodename.rpartition("-")[2])
        claimed = json.loads(selection.allocation_request)["allocations"]
        mask = sum(
            1 << gpu
            for gpu in range(GPUS)
            if _uuid(_device_name(number, gpu)) in claimed
        )
        return _free_masks(self._hosts)[number], mask


def _damage(free: int, mask: int) -> float:
    from nova_gpu_filter.topology import fragmentation

    measure = fragmentation.build_measure(
        _topology(), fragmentation.DEFAULT_MIX
    )
    return measure.increase(free, mask)


def _is_linked(mask: int) -> bool:
    return any(part.mask == mask for part in _topology().partitions)


@functools.lru_cache(maxsize=4096)
def _least_damage(k: int, free: int, only_linked: bool) -> float:
    """Return the least damage that k of the free GPUs of a host do."""
    bits = [gpu for gpu in range(GPUS) if free >> gpu & 1]
    masks = (
        sum(1 << gpu for gpu in chosen)
        for chosen in itertools.combinations(bits, k)
    )
    return min(
        (
            _damage(free, mask)
            for mask in masks
            if _is_linked(mask) or not only_linked
        ),
        default=float("inf"),
    )


def _host(number: int) -> dict[str, str]:
    return {"host": _host_name(number)}


def _used(free: int) -> dict[str, int]:
    """Say what of a host is used, as its compute node has it."""
    used = GPUS - free.bit_count()
    return {
        "vcpus_used": used * VCPUS_A_GPU,
        "memory_mb_used": used * RAM_MB_A_GPU,
        "free_ram_mb": (2 << 20) - used * RAM_MB_A_GPU,
        "running_vms": used,
    }


def _make_host(context: Any, free: int) -> None:
    """Write the service and the compute node of the first host."""
    from nova import objects
    from oslo_utils import timeutils

    name = _host_name(0)
    service = objects.Service(
        context,
        host=name,
        binary="nova-compute",
        topic="compute",
        report_count=1,
        last_seen_up=timeutils.utcnow(),
        disabled=False,
        forced_down=False,
    )
    service.create()
    node = objects.ComputeNode(
        context,
        uuid=_uuid(name),
        service_id=service.id,
        host=name,
        hypervisor_hostname=name,
        hypervisor_type="QEMU",
        hypervisor_version=8000000,
        cpu_info="{}",
        vcpus=224,
        memory_mb=2 << 20,
        local_gb=20000,
        local_gb_used=0,
        free_disk_gb=20000,
        disk_available_least=20000,
        current_workload=0,
        cpu_allocation_ratio=1.0,
        ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
        mapped=1,
        numa_topology=_numa_topology()._to_json(),
        pci_device_pools=_pools(0, free),
        supported_hv_specs=[
            objects.HVSpec.from_list(["x86_64", "kvm", "hvm"])
        ],
        stats={},
        **_used(free),
    )
    node.create()


def _copy_row(engine: Any, model: Any, changes: list[dict[str, Any]]) -> None:
    """Write the only row of a table again, with some of its values changed."""
    import sqlalchemy as sa

    with engine.begin() as connection:
        (row,) = connection.execute(sa.select(model.__table__)).mappings()
        connection.execute(
            sa.insert(model.__table__),
            [dict(row) | change for change in changes],
        )


def _pools(number: int, free: int) -> Any:
    from nova import objects

    from nova_gpu_filter.topology import codec
    from nova_gpu_filter.topology import groups

    links = groups.decompose(_topology())
    return objects.PciDevicePoolList(
        objects=[
            objects.PciDevicePool(
                vendor_id="10de",
                product_id="2330",
                numa_node=gpu // 4,
                count=1,
                tags={
                    "dev_type": "type-PCI",
                    "address": f"0000:{0x10 + gpu:02x}:00.0",
                    "rp_uuid": _uuid(_device_name(number, gpu)),
                    "gpu_links": codec.format_text(links[gpu]),
                },
            )
            for gpu in range(GPUS)
            if free >> gpu & 1
        ]
    )


def _numa_topology() -> Any:
    """Make two NUMA nodes with 56 cores of two threads each."""
    from nova import objects

    cells = []
    for cell in range(2):
        cpus = set(range(cell * 112, cell * 112 + 112))
        cells.append(
            objects.NUMACell(
                id=cell,
                socket=cell,
                cpuset=cpus,
                pcpuset=set(),
                memory=1 << 20,
                cpu_usage=0,
                memory_usage=0,
                pinned_cpus=set(),
                siblings=[{cpu, cpu + 56} for cpu in sorted(cpus)[:56]],
                mempages=[
                    objects.NUMAPagesTopology(
                        size_kb=size, total=total, used=0, reserved=0
                    )
                    for size, total in ((4, 1 << 28), (2048, 0), (1 << 20, 0))
                ],
                network_metadata=objects.NetworkMetadata(
                    physnets=set(), tunneled=False
                ),
            )
        )
    return objects.NUMATopology(cells=cells)


def _uuid(name: str) -> str:
    from tests.functional.placement import service

    return service.provider_uuid(name)


def _memory_mb() -> float:
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
