# SPDX-License-Identifier: Apache-2.0

"""Our scheduler filter against Nova's, on the same host states.

Both are asked as the scheduler asks them, through ``filter_all``, and their
answers are compared candidate by candidate. A candidate is what Placement
gives for one server: for each requested device a suffixed request group with
one provider.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import gc
import itertools
import logging
import math
import os
import sys
import time
from typing import Any
import uuid

from nova import config
from nova import objects
from nova.pci import stats
from nova.scheduler import host_manager
from nova.scheduler.filters import pci_passthrough_filter
from oslo_config import cfg

from bench import report
from nova_gpu_filter import conf
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough

GPUS = 8
RESOURCE_CLASS = "CUSTOM_H100"
ROUNDS = 5
"""Each side is measured so often, in turn; the best round counts."""
LEAST_S = 0.005
"""A round asks again and again until it lasts so long."""
STOCK_CANDIDATES = 150
"""Nova's filter is measured on so many candidates: it is slow, and its time
per candidate does not depend on the number of hosts."""
COMPARED_CANDIDATES = 3000
"""So many answers are compared, host by host, before anything is measured."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: a number of equal hosts and one request."""

    hosts: int
    pools: int
    """8: GPUs. 16: also eight NICs."""
    candidates: int
    """Allocation candidates a host."""
    devices: int
    """GPUs that the server asks for."""
    numa: bool = False
    """Whether host states bear their NUMA topology, as libvirt hosts do."""

    @property
    def goal(self) -> float:
        """How many times faster we want to be."""
        return 20.0 if self.candidates >= 8 else 8.0


def _cases(full: bool) -> Iterator[Case]:
    per_host = [
        (candidates, devices)
        for candidates in (1, 8, 70)
        for devices in (1, 2, 4, 8)
        # What Placement can offer: the groups of one server in any order.
        if candidates <= math.perm(GPUS, devices)
    ]
    for pools, (candidates, devices) in itertools.product((8, 16), per_host):
        yield Case(100, pools, candidates, devices)
    for candidates, devices in ((1, 1), (8, 4)):
        yield Case(100, 8, candidates, devices, numa=True)
    if full:
        for hosts, pools, (candidates, devices) in itertools.product(
            (1000, 10000), (8, 16), per_host
        ):
            yield Case(hosts, pools, candidates, devices)
    else:
        yield Case(1000, 16, 70, 4)
        yield Case(10000, 8, 1, 1)
        yield Case(10000, 8, 8, 4)


def run(full: bool) -> report.Report:
    """Measure every case.

    :param full: all sizes up to 10,000 hosts, instead of a choice of them.
    """
    _start_like_a_scheduler()
    ours = gpu_pci_passthrough.GpuPciPassthroughFilter()
    stock = pci_passthrough_filter.PciPassthroughFilter()
    result = report.Report(
        "GpuPciPassthroughFilter (pool matcher nova) and Nova's"
        " PciPassthroughFilter, microseconds a candidate",
        {
            "hosts": "hosts",
            "pools": "pools",
            "candidates": "candidates",
            "devices": "devices",
            "numa": "NUMA",
            "accepted_percent": "accepted %",
            "compared": "compared",
            "stock_us": "stock",
            "ours_us": "ours",
            "ratio": "ratio",
            "goal": "goal",
            "goal_met": "met",
        },
        notes=(
            "hosts, pools and candidates of each host; NUMA: the host states"
            " bear a NUMA topology,",
            "which Nova copies along; compared: candidates on which both"
            " gave their answer, all alike.",
            f"Best of {ROUNDS} rounds in turn. Nova is measured on the first"
            f" {STOCK_CANDIDATES} candidates of a case, we on all of them.",
        ),
    )
    for number, case in enumerate(_cases(full), start=1):
        if sys.stderr.isatty():
            print(f"\r{number}: {case}\033[K", end="", file=sys.stderr)
        _measure(case, ours, stock, result)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return result


def _start_like_a_scheduler() -> None:
    """Load objects and options; log at INFO, to nowhere."""
    objects.register_all()
    config.parse_args([], default_config_files=[], configure_db=False)
    conf.register_opts(cfg.CONF)
    cfg.CONF.set_override("pool_matcher", "nova", group="gpu_filter")
    handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


def _measure(case: Case, ours, stock, result: report.Report) -> None:
    hosts, candidates, spec_obj = _build(case)

    def sample(limit: int) -> list[host_manager.HostState]:
        return hosts[: max(3, limit // case.candidates)]

    compared = sample(COMPARED_CANDIDATES)
    answers = [
        _answers(filter_, compared, candidates, spec_obj)
        for filter_ in (ours, stock)
    ]
    if answers[0] != answers[1]:
        differ = sum(a != b for a, b in zip(*answers, strict=True))
        result.errors.append(f"{case}: other answers on {differ} hosts")
    offered = sum(len(candidates[host.nodename]) for host in compared)
    accepted = sum(map(len, answers[0]))
    if not 0 < accepted < offered:
        result.errors.append(f"{case}: accepts {accepted} of {offered}")

    of_stock = sample(STOCK_CANDIDATES)
    ours_us, stock_us = math.inf, math.inf
    for _ in range(ROUNDS):
        stock_us = min(stock_us, _time(stock, of_stock, candidates, spec_obj))
        ours_us = min(ours_us, _time(ours, hosts, candidates, spec_obj))
    ratio = stock_us / ours_us
    result.rows.append(
        dataclasses.asdict(case)
        | {
            "accepted_percent": 100 * accepted / offered,
            "compared": offered,
            "stock_us": stock_us,
            "ours_us": ours_us,
            "ratio": ratio,
            "goal": case.goal,
            "goal_met": ratio >= case.goal,
        }
    )


Candidates = dict[str, list[dict[str, Any]]]
"""Node name -> its allocation candidates."""


def _offer(hosts: Iterable[host_manager.HostState], candidates) -> None:
    """Give each host its candidates again; a filter leaves fewer."""
    for host in hosts:
        host.allocation_candidates = candidates[host.nodename]


def _answers(filter_, hosts, candidates, spec_obj) -> list[list[dict]]:
    """Candidates left of each host; none if the host was refused."""
    _offer(hosts, candidates)
    passed = {id(host) for host in filter_.filter_all(hosts, spec_obj)}
    return [
        host.allocation_candidates if id(host) in passed else []
        for host in hosts
    ]


def _time(filter_, hosts, candidates, spec_obj) -> float:
    """Time one round, in microseconds a candidate."""
    spent, runs = 0.0, 0
    gc.collect()
    # As timeit does. Nova's copies would pay for it more than we.
    gc.disable()
    # Processor time: neither side waits for anything, and others may be at
    # work on the machine.
    try:
        while spent < LEAST_S:
            _offer(hosts, candidates)
            start = time.thread_time()
            list(filter_.filter_all(hosts, spec_obj))
            spent += time.thread_time() - start
            runs += 1
    finally:
        gc.enable()
    asked = sum(len(candidates[host.nodename]) for host in hosts)
    return spent / runs / asked * 1e6


def _build(
    case: Case,
) -> tuple[list[host_manager.HostState], Candidates, "objects.RequestSpec"]:
    """Make the hosts of a case, their candidates and the request."""
    request_id = str(uuid.UUID(int=1))
    spec_obj = objects.RequestSpec(
        instance_uuid=str(uuid.UUID(int=2)),
        pci_requests=objects.InstancePCIRequests(
            requests=[
                objects.InstancePCIRequest(
                    request_id=request_id,
                    alias_name="h100",
                    count=case.devices,
                    # As nova/pci/request.py reads the alias.
                    spec=[
                        {
                            "vendor_id": "10de",
                            "product_id": "2330",
                            "dev_type": "type-PCI",
                            "resource_class": RESOURCE_CLASS,
                        }
                    ],
                    numa_policy="legacy",
                )
            ]
        ),
    )
    suffixes = [f"{request_id}-{number}" for number in range(case.devices)]
    everything = list(itertools.permutations(range(GPUS), case.devices))
    choices = everything[:: len(everything) // case.candidates]
    choices = choices[: case.candidates]
    hosts, candidates = [], {}
    for number in range(case.hosts):
        host = host_manager.HostState(f"host{number}", f"node{number}", None)
        providers = [_uuid(number, gpu) for gpu in range(GPUS)]
        # On every third host Nova has a GPU in use that Placement offers: the
        # first candidate is refused there, and whatever else contains it.
        missing = choices[0][0] if number % 3 == 2 else None
        if case.numa:
            host.numa_topology = _numa_topology()
        host.pci_stats = stats.PciDeviceStats(
            host.numa_topology, _pools(case, number, providers, missing)
        )
        host.uuid = _uuid(number, 99)
        hosts.append(host)
        candidates[host.nodename] = [
            _candidate(f"root{number}", suffixes, [providers[g] for g in gpus])
            for gpus in choices
        ]
    return hosts, candidates, spec_obj


def _uuid(host: int, device: int) -> str:
    """Name the resource provider of a device."""
    return str(uuid.UUID(int=(host + 1) << 64 | device))


def _pools(
    case: Case, number: int, providers: list[str], missing: int | None
) -> "objects.PciDevicePoolList":
    """One pool a device, as a host with PCI in Placement reports them."""
    pools = [
        objects.PciDevicePool(
            vendor_id="10de",
            product_id="2330",
            numa_node=gpu // 4,
            count=1,
            tags={
                "dev_type": "type-PCI",
                "address": f"0000:{0x10 + gpu:02x}:00.0",
                "rp_uuid": rp_uuid,
                "gpu_links": f"nv18:0,node:{gpu // 4}",
            },
        )
        for gpu, rp_uuid in enumerate(providers)
        if gpu != missing
    ]
    pools += [
        objects.PciDevicePool(
            vendor_id="15b3",
            product_id="1021",
            numa_node=nic // 4,
            count=1,
            tags={
                "dev_type": "type-PF",
                "address": f"0000:{0x50 + nic:02x}:00.0",
                "rp_uuid": _uuid(number, GPUS + nic),
                "remote_managed": "false",
            },
        )
        for nic in range(case.pools - GPUS)
    ]
    return objects.PciDevicePoolList(objects=pools)


def _numa_topology() -> "objects.NUMATopology":
    """Two sockets of 56 cores with two threads each."""
    return objects.NUMATopology(
        cells=[
            objects.NUMACell(
                id=cell,
                socket=cell,
                cpuset=set(range(cell * 112, cell * 112 + 112)),
                pcpuset=set(),
                pinned_cpus=set(),
                siblings=[
                    {core, core + 56}
                    for core in range(cell * 112, cell * 112 + 56)
                ],
                memory=1031000,
                memory_usage=0,
                cpu_usage=0,
                mempages=[
                    objects.NUMAPagesTopology(size_kb=4, total=1, used=0)
                ],
            )
            for cell in (0, 1)
        ]
    )


_HOST_RESOURCES = {"resources": {"VCPU": 8, "MEMORY_MB": 65536}}
_GPU_RESOURCES = {"resources": {RESOURCE_CLASS: 1}}


def _candidate(
    root: str, suffixes: list[str], rp_uuids: list[str]
) -> dict[str, Any]:
    """One allocation request of Placement's answer."""
    return {
        "allocations": {root: _HOST_RESOURCES}
        | dict.fromkeys(rp_uuids, _GPU_RESOURCES),
        "mappings": {"": [root]}
        | {
            suffix: [rp_uuid]
            for suffix, rp_uuid in zip(suffixes, rp_uuids, strict=True)
        },
    }
