# SPDX-License-Identifier: Apache-2.0

"""Why a server fits on a host or not, and what would change it."""

import dataclasses

import pytest

from nova_gpu_filter.fleet import explain
from nova_gpu_filter.fleet import model
from tests import machines
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import wanted

HGX = machines.hgx_h100_partitions()
PAIRS = machines.bridge_pairs_h100_nvl()


def _explain(host, asked, owner_by_bit=()):
    owners = {
        host.devices[bit].uuid: [(name, 1)]
        for bit, name in dict(owner_by_bit).items()
    }
    return explain.of(host, asked, lambda d: owners.get(d.uuid, []))


def _cures(verdict):
    return [cure.text for cure in verdict.cures]


def test_a_server_that_fits_needs_no_reason():
    verdict = _explain(builders.machine("a"), wanted("h100:4"))
    assert verdict == explain.Verdict("a", 2)


def test_the_words_are_those_of_the_filter():
    host = builders.machine("a", HGX, used=(0, 4))
    verdict = _explain(
        host, wanted("h100:4", gpu__link="fabric"), {0: "one", 4: "two"}
    )
    assert verdict.reasons == (
        "no free set with the links asked for: h100 asks for 4 with"
        " gpu:link=fabric; 6 free, largest fabric set 2: 0000:52:00.0"
        " 0000:61:00.0; would fit with gpu:link=nvlink, gpu:link=pix,"
        " gpu:link=pxb, gpu:link=phb, gpu:link=node",
    )
    assert verdict.blockers == ("0000:1b:00.0 one", "0000:9d:00.0 two")
    assert _cures(verdict) == [
        "with gpu:link=nvlink",
        "without one",
        "with h100:2",
    ]


@pytest.mark.parametrize(
    ("topology", "used", "asked", "owners", "cures"),
    [
        # One server has to go, the smaller one.
        (
            HGX,
            range(8),
            {"devices": "h100:2"},
            {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c"},
            ["without b"],
        ),
        # Two of them.
        (
            HGX,
            range(8),
            {"devices": "h100:4", "gpu__link": "fabric"},
            {0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 6: "c"},
            ["without a and b"],
        ),
        # Nobody knows who has them.
        (HGX, range(8), {"devices": "h100:1"}, {}, []),
        # No link can be had at all.
        (
            machines.uneven_numa(),
            (0, 1, 2, 3, 4, 6),
            {"devices": "h100:2", "gpu__link": "node"},
            {},
            ["without gpu:link", "with h100:1"],
        ),
        (
            PAIRS,
            (0, 2, 4, 6),
            {"devices": "h100:2", "gpu__link": "nvlink"},
            {2: "x", 4: "y"},
            ["with gpu:link=node", "without x", "with h100:1"],
        ),
        # More of something else than the host has: no device helps.
        (HGX, (0,), {"devices": "h100:8", "vcpus": 300}, {0: "a"}, []),
    ],
)
def test_what_would_fit(topology, used, asked, owners, cures):
    host = builders.machine("a", topology, used)
    assert _cures(_explain(host, wanted(**asked), owners)) == cures


@pytest.mark.parametrize(
    ("asked", "amounts", "reason"),
    [
        (
            {"vcpus": 8},
            {"VCPU": model.Amount(8, 4)},
            "too little VCPU: f asks for 8; 4 free",
        ),
        ({"resources__CUSTOM_X": "1"}, {}, "no CUSTOM_X"),
        ({"trait__CUSTOM_A": "required"}, {}, "trait CUSTOM_A is required"),
        ({"trait__CUSTOM_B": "forbidden"}, {}, "trait CUSTOM_B is forbidden"),
    ],
)
def test_what_else_may_be_missing(asked, amounts, reason):
    host = builders.machine("a", **amounts)
    host = dataclasses.replace(host, traits=frozenset({"CUSTOM_B"}))
    assert _explain(host, wanted(**asked)).reasons == (reason,)


def test_all_reasons_are_told():
    host = builders.machine("a", used=range(8), VCPU=model.Amount(8, 8))
    assert _explain(host, wanted("h100:1")).reasons == (
        "too little VCPU: f asks for 1; 0 free",
        "too few free devices: h100 asks for 1"
        " (resource_class=CUSTOM_GPU_H100); 0 free; 0 left",
    )


def test_traits_of_the_alias_are_told():
    host = builders.machine("a")
    (reason,) = _explain(host, wanted("fast:1")).reasons
    assert "(resource_class=CUSTOM_GPU_H100 traits=CUSTOM_FAST)" in reason


def test_aliases_may_be_too_much_together_only():
    host = builders.machine("a", used=range(4))
    verdict = _explain(host, wanted("h100:3,h100:3"))
    assert verdict.reasons == (
        "its aliases together ask for more devices than are free",
    )
    assert _cures(verdict) == ["with h100:1"]


def test_a_disabled_host_has_to_be_enabled_first():
    host = builders.machine("a")
    host = dataclasses.replace(host, traits=frozenset({model.DISABLED_TRAIT}))
    verdict = _explain(host, wanted("h100:1"))
    assert verdict.reasons == ("nova-compute is disabled",)
    assert _cures(verdict) == ["with nova-compute enabled"]


def test_reserved_devices_are_blockers_without_owner():
    host = builders.machine("a", used=range(7), reserved=(7,))
    verdict = _explain(host, wanted("h100:1"), {0: "one"})
    assert verdict.blockers[0] == "0000:1b:00.0 one"
    assert verdict.blockers[1] == "0000:43:00.0 used"
    assert verdict.blockers[-1] == "0000:df:00.0 reserved"


def _verdict(host, servers=0, *cures):
    return explain.Verdict(
        host,
        servers,
        cures=tuple(explain.Cure(*cure) for cure in cures),
    )


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        (
            [_verdict("a", 2), _verdict("b", 1), _verdict("c")],
            "3 fit on 2 of 3 hosts; where none starts all the same, look at",
        ),
        (
            [
                _verdict("a", 0, (4, "with h100:2"), (3, "without x")),
                _verdict("b", 0, (1, "with gpu:link=pix")),
                _verdict("c", 0, (1, "with gpu:link=pix")),
            ],
            "fits on none of 3 hosts; first to change: it would fit on b (and"
            " on 1 more) with gpu:link=pix",
        ),
        ([_verdict("a")], "fits on none of 1 hosts; no single change helps"),
    ],
)
def test_the_summary_says_what_to_change_first(verdicts, line):
    assert explain.summarize(verdicts).startswith(line)
