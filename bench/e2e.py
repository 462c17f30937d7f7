# SPDX-License-Identifier: Apache-2.0

"""``select_destinations`` end to end: the scheduler's manager and Placement.

Hosts are read from Nova's database with their NUMA topologies and PCI pools,
Placement runs in a process of its own and answers over HTTP, and the claim is
made: what a request costs the control plane, in processor seconds of both.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import statistics

from bench import hgx_hosts
from bench import report
from bench import scheduler_process
from bench.scheduler_process import Outcome

KS = (1, 2, 4, 8)
LIMITS = (1000, 200)
"""``[scheduler]max_placement_results``: the default, and a smaller one."""
REQUESTS = 3
"""Of each kind are measured, after one that is not; the best counts."""
MEMORY_REQUESTS = 500
OPTIONS = ("hosts",)

OURS = scheduler_process.Way("ours", True, "GpuPciPassthroughFilter")
STOCK = scheduler_process.Way("stock", False, "PciPassthroughFilter")
BOUND = scheduler_process.Way("bound", False, None)
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
            f"{hgx_hosts.USED:.0%} of the GPUs are used. stock tuned:"
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
    outcomes: dict[tuple[str, int, int], list[Outcome]] = {}
    with contextlib.ExitStack() as stack:
        schedulers = {
            way: stack.enter_context(scheduler_process.Scheduler(way, hosts))
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
    with scheduler_process.Scheduler(OURS, 100) as scheduler:
        before, after = scheduler.grow(MEMORY_REQUESTS)
    result.notes = (
        *result.notes,
        f"Memory of nova-scheduler after {MEMORY_REQUESTS} requests of four"
        f" GPUs, 100 hosts: {after - before:+.1f} MB from {before:.0f} MB.",
    )


def _summarize(outcomes: Sequence[Outcome]) -> Outcome:
    """Take the least time, and the mean of what was chosen."""
    return dataclasses.replace(
        min(outcomes, key=lambda outcome: outcome.seconds),
        damage=statistics.fmean(o.damage for o in outcomes),
        linked_percent=statistics.fmean(o.linked_percent for o in outcomes),
        refused=next((o.refused for o in outcomes if o.refused), ""),
    )
