# SPDX-License-Identifier: Apache-2.0

"""One answer for all: threads, processes, requests, hosts of a kind."""

import collections
from concurrent import futures
import os
import subprocess
import sys
import threading

import pytest

from nova_gpu_filter.topology import choice
from tests import machines


def test_same_question_is_answered_from_memory():
    first = choice.rank_device_sets(machines.dgx1_v100(), 255, 4)
    assert choice.rank_device_sets(machines.dgx1_v100(), 255, 4) is first
    assert choice.rank_device_sets(machines.dgx1_v100(), 254, 4) is not first


def test_same_seed_gives_the_same_order():
    ranking = choice.rank_device_sets(machines.hgx_h100(), 255, 4)
    assert ranking.list_best_first(1) == ranking.list_best_first(1)
    assert ranking.list_best_first(1) != ranking.list_best_first(2)
    assert (
        ranking.list_best_first(1, limit=5) == ranking.list_best_first(1)[:5]
    )


@pytest.mark.parametrize(
    "base", [0, 1 << 64, 0x6A1F7E2C5B3D4F8091A2B3C4D5E6F708]
)
@pytest.mark.parametrize(
    ("machine", "k"), [(machines.hgx_h100, 1), (machines.dgx2_v100, 1)]
)
def test_neighboring_seeds_spread_over_equal_sets(machine, k, base):
    topology = machine()
    ranking = choice.rank_device_sets(topology, topology.everything, k)
    requests = 100 * topology.n
    firsts = collections.Counter(
        ranking.list_best_first(base + number, limit=1)[0]
        for number in range(requests)
    )
    assert len(firsts) == topology.n
    assert min(firsts.values()) > 50
    assert max(firsts.values()) < 150


def test_threads_agree_on_questions_that_nobody_asked_before():
    mix = ((1, 0.25), (2, 0.25), (3, 0.25), (5, 0.25))  # nobody else's
    topology = machines.dgx1_v100()
    barrier = threading.Barrier(8)

    def ask(number):
        barrier.wait()
        answers = []
        for free in range(256):
            ranking = choice.rank_device_sets(topology, free, 3, None, mix)
            sets = ranking.list_diverse(seed=9)
            answers.append((sets, ranking.order(sets[::-1], seed=9)))
        return answers

    with futures.ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(ask, range(8))
    assert all(answers == first for answers in others)
    assert (
        first[255][0][0]
        == choice.rank_device_sets(
            topology, 255, 3, None, mix
        ).list_best_first(seed=9, limit=1)[0]
    )


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_processes_agree():
    code = (
        "from nova_gpu_filter.topology import choice, host_topologies\n"
        "host = host_topologies.build_from_traits([(str(i), {"
        "f'CUSTOM_GPU_FABRIC_{i // 2}_2', f'CUSTOM_GPU_LINK_PIX_{i // 4}',"
        "'CUSTOM_GPU_LINK_NV4_0'}, i // 4) for i in range(8)])\n"
        "for k in range(1, 9):\n"
        "    r = choice.rank_device_sets(host, 0b11101111, k)\n"
        "    print(r.list_diverse(seed=3))\n"
    )
    one, two = (run(code, PYTHONHASHSEED=seed) for seed in "12")
    assert one == two
    assert one.count("\n") == 8


def test_nothing_of_nova_or_of_a_driver_is_imported():
    code = (
        "import importlib, pkgutil, sys\n"
        "from nova_gpu_filter import topology\n"
        "for module in pkgutil.iter_modules(topology.__path__):\n"
        "    importlib.import_module(f'{topology.__name__}.{module.name}')\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    imported = set(run(code).split())
    assert "nova_gpu_filter" in imported
    assert not imported & {
        "nova",
        "placement",
        "oslo_config",
        "oslo_log",
        "pynvml",
        "socket",
        "subprocess",
    }
