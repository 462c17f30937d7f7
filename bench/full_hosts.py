# SPDX-License-Identifier: Apache-2.0

"""The Placement extension where hosts with free devices are otherwise full.

Servers with GPUs and two bound ports, which can be served in more ways than
the extension reads. So it has to find out which hosts its answer lacks, and
why. Beside it stock Placement, limited and tuned as its help texts advise.
"""

from collections.abc import Iterator
import gc
import logging
import time
from typing import Any

from bench import placement
from bench import report

PORT = "CUSTOM_PORT"
GPUS = 8
PORTS = 4
ASKED = 4
"""GPUs of the server."""
ROUNDS = 3


def run(full: bool) -> report.Report:
    """Measure clouds with none, one, a tenth and half of the hosts full.

    :param full: 1,000 hosts in the place of 100.
    """
    result = report.Report(
        f"Placement, {ASKED} GPUs and two bound ports, hosts without VCPU:"
        " milliseconds of processor time",
        {
            "hosts": "hosts",
            "full": "full",
            "one_ms": "one device",
            "ours_ms": "ours",
            "stock_ms": "stock",
            "ratio": "ours / stock",
            "ours_hosts": "hosts in it",
            "stock_hosts": "hosts, stock",
        },
        notes=(
            f"Each host has {GPUS} GPUs, all free, and {PORTS} ports. one"
            " device: stock Placement asked for one GPU without",
            "ports. stock: tuned for wide provider trees, as many candidates"
            " as hosts, breadth-first; ours has the same",
            "options.",
        ),
    )
    # Of fewer hosts all ways to serve the rest are read.
    hosts = 1000 if full else 100
    options = placement.TUNED | {
        ("placement", "max_allocation_candidates"): hosts
    }
    logging.disable(logging.WARNING)
    try:
        _measure(hosts, options, result)
    finally:
        logging.disable(logging.NOTSET)
    return result


def _measure(
    hosts: int, options: dict[Any, Any], result: report.Report
) -> None:
    from tests.functional.placement import service

    with service.Placement(options) as running:
        for full in (0, 1, hosts // 10, hosts // 2):
            running.replace_providers(_providers(hosts, full))
            one_ms, _ = _time(running.stock, _query(1, ports=0))
            ours_ms, ours = _time(running.ours, _query(ASKED))
            stock_ms, stock = _time(running.stock, _query(ASKED))
            if not ours.is_composed:
                result.errors.append(f"{full} full hosts: not composed")
            result.rows.append(
                {
                    "hosts": hosts,
                    "full": full,
                    "one_ms": one_ms,
                    "ours_ms": ours_ms,
                    "stock_ms": stock_ms,
                    "ratio": ours_ms / stock_ms,
                    "ours_hosts": _count_hosts(ours),
                    "stock_hosts": _count_hosts(stock),
                }
            )
            if _count_hosts(ours) != hosts - full:
                result.errors.append(f"{full} full hosts: some are lost")


def _time(ask: Any, query: str) -> tuple[float, Any]:
    """Return (milliseconds, the answer), the least of several rounds."""
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.thread_time()
        answer = ask(f"/allocation_candidates?{query}")
        times.append((time.thread_time() - start) * 1000)
    return min(times), answer


def _count_hosts(answer: Any) -> int:
    return len(
        {
            candidate["mappings"][""][0]
            for candidate in answer.json["allocation_requests"]
        }
    )


def _query(gpus: int, ports: int = 2) -> str:
    return placement.Case(0, GPUS, gpus).query + "".join(
        f"&resources_p{i}={PORT}:{1 + i}&same_subtree=_p{i}"
        for i in range(ports)
    )


def _providers(hosts: int, full: int) -> Iterator[Any]:
    from tests.functional.placement import service

    for host in range(hosts):
        root = f"host{host}"
        yield service.Provider(
            root,
            inventories={
                "VCPU": service.Inventory(224, used=224 * (host < full)),
                "MEMORY_MB": service.Inventory(2 << 20),
                "DISK_GB": service.Inventory(20000),
            },
        )
        for kind, number, resource_class, total in (
            ("gpu", GPUS, placement.RESOURCE_CLASS, 1),
            ("port", PORTS, PORT, 16),
        ):
            for i in range(number):
                yield service.Provider(
                    f"{root}-{kind}{i}",
                    root,
                    {resource_class: service.Inventory(total)},
                )
