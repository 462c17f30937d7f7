# SPDX-License-Identifier: Apache-2.0

"""Writes of allocations through the Placement extension and to stock.

Many claims at once, one for each host, so that none has a reason to be tried
again: what is left is what the extension costs those that it only hands on.
Beside it as many claims for a single host, where most lose a race at first.
"""

from collections.abc import Callable
from concurrent import futures
import gc
import logging
import os
import threading
import time
from typing import Any
import uuid

from bench import placement
from bench import report

OPTIONS = ("database",)

CLAIMS = 50
"""At once, each with a host and a device of it."""
_ROUNDS = 5
_ALL_ROUNDS = 15


def run(full: bool, database: str | None = None) -> report.Report:
    """Measure claims of as many hosts as there are claims, and of one.

    :param full: three times as many rounds.
    :param database: URL of an empty MariaDB database that may be emptied.
        Without it nothing is measured: SQLite has one writer at a time, and
        refuses most of so many.
    """
    result = report.Report(
        f"Placement, {CLAIMS} writes of allocations at once: milliseconds of"
        " processor time of each",
        {
            "hosts": "hosts",
            "claims": "writes",
            "ours_ms": "ours",
            "stock_ms": "stock",
            "ratio": "ours / stock",
            "ours_granted": "granted",
            "stock_granted": "granted, stock",
        },
        notes=(
            "Each takes CPU of a host and one device of its own. Of the"
            " rounds the least; granted: in the worst round.",
            "Database: MariaDB, whose own time is not in it."
            if database
            else "Needs --database, as SQLite has one writer at a time.",
        ),
    )
    if database is None:
        return result
    # As a service does it: at INFO, to a file.
    with open(os.devnull, "w") as output:
        logging.basicConfig(
            handlers=[logging.StreamHandler(output)],
            level=logging.INFO,
            force=True,
        )
        _measure(database, _ALL_ROUNDS if full else _ROUNDS, result)
    return result


def _measure(database: str, rounds: int, result: report.Report) -> None:
    from tests.functional.placement import service

    with (
        service.Placement(database=database) as running,
        futures.ThreadPoolExecutor(CLAIMS) as threads,
    ):
        for hosts in (CLAIMS, 1):
            running.replace_providers(
                _providers(hosts, devices=CLAIMS // hosts)
            )
            ms: dict[str, list[float]] = {"ours": [], "stock": []}
            granted: dict[str, list[int]] = {"ours": [], "stock": []}
            for _ in range(rounds):
                for name, ask in (
                    ("ours", running.ours),
                    ("stock", running.stock),
                ):
                    spent, consumers = _claim(ask, threads, hosts)
                    ms[name].append(spent / CLAIMS)
                    granted[name].append(len(consumers))
                    for consumer in consumers:
                        running.free(consumer)
            result.rows.append(
                {
                    "hosts": hosts,
                    "claims": CLAIMS,
                    "ours_ms": min(ms["ours"]),
                    "stock_ms": min(ms["stock"]),
                    "ratio": min(ms["ours"]) / min(ms["stock"]),
                    "ours_granted": min(granted["ours"]),
                    "stock_granted": min(granted["stock"]),
                }
            )
            if min(granted["ours"]) < min(granted["stock"]):
                result.errors.append(f"{hosts} hosts: stock grants more")


def _claim(
    ask: Callable[..., Any], threads: futures.Executor, hosts: int
) -> tuple[float, list[str]]:
    """Send all claims at once: (milliseconds, the consumers that have it)."""
    from tests.functional.placement import service

    together = threading.Barrier(CLAIMS)

    def claim(number: int) -> str | None:
        host, device = number % hosts, number // hosts
        allocations = {
            service.provider_uuid(f"host{host}"): {"VCPU": 1},
            service.provider_uuid(f"host{host}-{device}"): {
                placement.RESOURCE_CLASS: 1
            },
        }
        consumer = str(uuid.uuid4())
        together.wait()
        status: int = ask(
            f"/allocations/{consumer}",
            method="PUT",
            body={
                "allocations": {
                    provider: {"resources": resources}
                    for provider, resources in allocations.items()
                },
                "project_id": "project",
                "user_id": "user",
                "consumer_generation": None,
                "consumer_type": "INSTANCE",
            },
        ).status
        return consumer if status == 204 else None

    gc.collect()
    start = time.process_time()
    consumers = list(threads.map(claim, range(CLAIMS)))
    spent = (time.process_time() - start) * 1000
    return spent, [one for one in consumers if one]


def _providers(hosts: int, devices: int) -> Any:
    from tests.functional.placement import service

    for host in range(hosts):
        root = f"host{host}"
        yield service.Provider(
            root, inventories={"VCPU": service.Inventory(2 * CLAIMS)}
        )
        for device in range(devices):
            yield service.Provider(
                f"{root}-{device}",
                root,
                {placement.RESOURCE_CLASS: service.Inventory(1)},
            )
