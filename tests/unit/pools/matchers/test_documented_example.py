# SPDX-License-Identifier: Apache-2.0

import importlib.util
import pathlib

import pytest

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request

EXAMPLE = (
    pathlib.Path(__file__).parents[4]
    / "doc"
    / "source"
    / "contributor"
    / "pack_vfs.py"
)


@pytest.fixture
def pack_vfs():
    """The example of a pool matcher that the contributor guide gives."""
    spec = importlib.util.spec_from_file_location("pack_vfs", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PackVFsMatcher()


def one_vf():
    return request.DeviceRequests(
        (
            request.DeviceRequest(
                request_id="req",
                alias_name="vf",
                count=1,
                specs=((("vendor_id", "10de"),),),
                numa_policy="legacy",
                rp_uuids=(),
                wants_pf=False,
                wants_vdpa=False,
                wants_remote_managed=False,
                live_migratable=None,
            ),
        )
    )


def vfs_of(*free_by_pf):
    return matcher.HostPools(
        [
            {
                "vendor_id": "10de",
                "product_id": "2330",
                "dev_type": "type-VF",
                "numa_node": 0,
                "rp_uuid": f"pf{index}",
                "count": count,
            }
            for index, count in enumerate(free_by_pf)
        ]
    )


def candidates(*pfs):
    return [{"req-0": [pf]} for pf in pfs]


@pytest.mark.parametrize(
    ("free_by_pf", "accepted"),
    [
        pytest.param((4, 1, 2), [1, 2, 0], id="the fullest GPU comes first"),
        pytest.param((2, 2, 2), [0, 1, 2], id="equals keep nova's order"),
        pytest.param((4, 0, 2), [2, 0], id="a GPU without VFs is refused"),
    ],
)
def test_the_example_packs_vfs(pack_vfs, free_by_pf, accepted):
    match = pack_vfs.match(
        vfs_of(*free_by_pf), one_vf(), candidates("pf0", "pf1", "pf2")
    )
    assert match.accepted == accepted
    assert match.refusal is None


def test_the_example_keeps_novas_reason(pack_vfs):
    match = pack_vfs.match(vfs_of(4), one_vf(), candidates("elsewhere"))
    assert match.accepted == []
    assert match.refusal.cause is refusal.Cause.NOT_ALLOCATED
