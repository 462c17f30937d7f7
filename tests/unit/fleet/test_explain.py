# SPDX-License-Identifier: Apache-2.0

"""Why a server fits on a host or not, and what would change it."""

import dataclasses
import itertools
import random

import os_traits
import pytest

from nova_gpu_filter.fleet import explain
from nova_gpu_filter.fleet import giving_back
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict as verdicts_
from tests import machines
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import wanted

HGX = machines.hgx_h100_partitions()
PAIRS = machines.bridge_pairs_h100_nvl()
UNKNOWN = giving_back.Holding("used", None, giving_back.NO_WAY, {})


def _holding(host, name, bits, **amounts):
    return giving_back.Holding(
        name,
        f"without {name}",
        giving_back.REMOVE,
        {host.devices[bit].uuid: 1 for bit in bits},
        amounts,
    )


def _explain(host, asked, owner_by_bit=(), gates=()):
    bits_by_name = {}
    for bit, name in dict(owner_by_bit).items():
        bits_by_name.setdefault(name, []).append(bit)
    held = [_holding(host, *item) for item in bits_by_name.items()]
    return explain.explain_host(host, asked, held, gates)


def _cures(verdict):
    return [cure.text for cure in verdict.cures]


def test_a_server_that_fits_needs_no_reason():
    verdict = _explain(builders.machine("a"), wanted("h100:4"))
    assert verdict == verdicts_.Verdict("a", 2)


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
    # Each of them alone is enough.
    assert verdict.blockers == ("one: 1 device", "two: 1 device")
    assert _cures(verdict) == [
        "with gpu:link=nvlink",
        "without one",
        "with h100:2",
    ]


@pytest.mark.parametrize(
    ("topology", "used", "asked", "owners", "cures", "blockers"),
    [
        # One server has to go, the smaller one; others would do as well.
        (
            HGX,
            range(8),
            {"devices": "h100:2"},
            {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c"},
            ["without b"],
            ("b: 2 devices", "a: 3 devices"),
        ),
        # Two of them; c has nothing of the one partition that they have.
        (
            HGX,
            range(8),
            {"devices": "h100:4", "gpu__link": "fabric"},
            {0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 6: "c"},
            ["without a and b"],
            ("a: 2 devices", "b: 2 devices"),
        ),
        # Four of them, more than all sets are tried of.
        (
            HGX,
            range(8),
            {"devices": "h100:8"},
            {bit: "abcd"[bit // 2] for bit in range(8)},
            ["without a and b and c and d"],
            tuple(f"{name}: 2 devices" for name in "dcba"[::-1]),
        ),
        # Nobody knows who has them.
        (HGX, range(8), {"devices": "h100:1"}, {}, [], ()),
        # No link can be had at all.
        (
            machines.uneven_numa(),
            (0, 1, 2, 3, 4, 6),
            {"devices": "h100:2", "gpu__link": "node"},
            {},
            ["without gpu:link", "with h100:1"],
            (),
        ),
        (
            PAIRS,
            (0, 2, 4, 6),
            {"devices": "h100:2", "gpu__link": "nvlink"},
            {2: "x", 4: "y"},
            ["with gpu:link=node", "without x", "with h100:1"],
            ("x: 1 device", "y: 1 device"),
        ),
    ],
)
def test_what_would_fit(topology, used, asked, owners, cures, blockers):
    host = builders.machine("a", topology, used)
    verdict = _explain(host, wanted(**asked), owners)
    assert _cures(verdict) == cures
    assert verdict.blockers == blockers


def test_a_gpu_that_is_used_is_no_cause_where_the_cause_is_elsewhere():
    """Each of these alone keeps the server out; 4 GPUs are free all along."""
    host = builders.machine("a", used=range(4))
    owners = dict.fromkeys(range(4), "train")
    down = model.ComputeService("a", "nova", (model.Obstacle.DOWN,))
    disabled = {"traits": frozenset({os_traits.COMPUTE_STATUS_DISABLED})}
    gate = verdicts_.Gate("quota", "with more quota")
    for changed, asked, gates, reason, cure in (
        (host.with_service(down), {}, (), "nova-compute is down",
         "with nova-compute up"),
        (dataclasses.replace(host, **disabled), {}, (),
         "nova-compute is disabled", "with nova-compute enabled"),
        (host, {"trait__CUSTOM_A": "required"}, (),
         "trait CUSTOM_A is required", "with trait CUSTOM_A"),
        (host, {}, (gate,), "quota", "with more quota"),
    ):  # fmt: skip
        verdict = _explain(changed, wanted("h100:2", **asked), owners, gates)
        assert verdict.reasons == (reason,)
        assert verdict.blockers == ()
        assert _cures(verdict) == [cure]


def test_who_has_the_memory_is_named_and_not_who_has_the_gpus():
    amounts = {"MEMORY_MB": model.Amount(1000, 1000)}
    host = builders.machine("a", used=range(4), **amounts)
    held = [
        _holding(host, "train", range(4), MEMORY_MB=0),
        _holding(host, "hog", (), MEMORY_MB=900),
        _holding(host, "tiny", (), MEMORY_MB=100),
    ]
    verdict = explain.explain_host(host, wanted("h100:2", ram_mb=500), held)
    assert verdict.reasons == ("too little MEMORY_MB: f asks for 500; 0 free",)
    assert verdict.blockers == ("hog: 900 MEMORY_MB",)
    assert _cures(verdict) == ["without hog"]


def test_all_that_has_to_change_stands_together():
    host = builders.machine("a", used=range(8))
    host = host.with_service(
        model.ComputeService("a", "nova", (model.Obstacle.FORCED_DOWN,))
    )
    verdict = _explain(host, wanted("h100:2"), dict.fromkeys(range(8), "x"))
    assert verdict.reasons == (
        "nova-compute is forced down",
        "too few free devices: h100 asks for 2"
        " (resource_class=CUSTOM_GPU_H100); 0 free; 0 left",
    )
    assert _cures(verdict) == [
        "with nova-compute no longer forced down and without x"
    ]


def test_confirming_a_resize_comes_before_removing_a_server():
    host = builders.machine("a", used=range(8))
    source = giving_back.Holding(
        "infer (resize, source)",
        "with the resize of infer confirmed",
        giving_back.CONFIRM,
        {host.devices[bit].uuid: 1 for bit in range(4)},
    )
    verdict = explain.explain_host(
        host,
        wanted("h100:4"),
        [_holding(host, "train", range(4, 8)), source],
    )
    assert verdict.blockers == (
        "infer (resize, source): 4 devices",
        "train: 4 devices",
    )
    assert _cures(verdict) == ["with the resize of infer confirmed"]


@pytest.mark.parametrize(
    ("asked", "amounts", "reasons"),
    [
        (
            {"vcpus": 8},
            {"VCPU": model.Amount(8, 4)},
            ("too little VCPU: f asks for 8; 4 free",),
        ),
        (
            {"vcpus": 8},
            {"VCPU": model.Amount(4, 4)},
            ("can never fit: too little VCPU: f asks for 8; 4 there",),
        ),
        (
            {"resources__CUSTOM_X": "1"},
            {},
            ("can never fit: too little CUSTOM_X: f asks for 1; 0 there",),
        ),
        (
            {"trait__CUSTOM_A": "required"},
            {},
            ("trait CUSTOM_A is required",),
        ),
        (
            {"trait__CUSTOM_B": "forbidden"},
            {},
            ("trait CUSTOM_B is forbidden",),
        ),
    ],
)
def test_what_else_may_be_missing(asked, amounts, reasons):
    host = builders.machine("a", **amounts)
    host = dataclasses.replace(host, traits=frozenset({"CUSTOM_B"}))
    assert _explain(host, wanted(**asked)).reasons == reasons


@pytest.mark.parametrize(
    ("asked", "reason", "cures"),
    [
        (
            wanted("h100:5", gpu__link="fabric"),
            "can never fit: h100:5 with gpu:link=fabric is asked for, and"
            " fabric partitions have 1, 2, 4, 8 devices",
            ["with gpu:link=nvlink", "with h100:4", "with h100:8"],
        ),
        (
            wanted("h100:9"),
            "can never fit: h100:9 is asked for, and 8 are there",
            ["with h100:8"],
        ),
        (
            wanted("fast:1"),
            "can never fit: it has no fast"
            " (resource_class=CUSTOM_GPU_H100 traits=CUSTOM_FAST)",
            [],
        ),
        (
            wanted("h100:5,h100:5"),
            "can never fit: its aliases together ask for more than is there",
            ["with h100:3"],
        ),
    ],
)
def test_what_an_empty_host_could_not_give_can_never_fit(asked, reason, cures):
    verdict = _explain(builders.machine("a"), asked)
    assert verdict.reasons == (reason,)
    assert not verdict.can_fit
    assert _cures(verdict) == cures


def test_who_has_what_is_no_matter_where_nothing_ever_fits():
    host = builders.machine("a", used=range(8))
    verdict = _explain(host, wanted("h100:9"), dict.fromkeys(range(8), "x"))
    assert verdict.blockers == ()


def test_aliases_may_be_too_much_together_only():
    host = builders.machine("a", used=range(4))
    verdict = _explain(host, wanted("h100:3,h100:3"))
    assert verdict.reasons == (
        "its aliases together ask for more than is free",
    )
    assert _cures(verdict) == ["with h100:1"]


def _builders_held(host):
    return [
        *(_holding(host, f"s{bit}", (bit,)) for bit in range(7)),
        giving_back.Holding(
            "reserved",
            "with 1 reserved device released",
            giving_back.RELEASE,
            {host.devices[7].uuid: 1},
        ),
    ]


def test_reserved_devices_can_be_released():
    host = builders.machine("a", used=range(7), reserved=(7,))
    held = _builders_held(host)
    verdict = explain.explain_host(host, wanted("h100:1"), held)
    assert verdict.blockers[-1] == "reserved: 1 device"
    verdict = explain.explain_host(host, wanted("h100:8"), held)
    assert set(verdict.blockers) == {
        *(f"s{bit}: 1 device" for bit in range(7)),
        "reserved: 1 device",
    }
    [cure] = _cures(verdict)
    assert cure.startswith("with 1 reserved device released and without s0")


@pytest.mark.parametrize("seed", range(40))
def test_every_cause_and_every_cure_holds_in_a_copy_of_the_host(seed):
    """Without those of a cure it fits; who blocks is in a way that works, and
    nobody of that way can stay."""
    chance = random.Random(seed)
    used = chance.sample(range(8), chance.randint(3, 8))
    host = builders.machine("a", HGX, used)
    owners = {bit: f"s{chance.randint(0, 4)}" for bit in used}
    asked = wanted(
        f"h100:{chance.choice((1, 2, 4, 8))}",
        **chance.choice(({}, {"gpu__link": "fabric"})),
    )
    verdict = _explain(host, asked, owners)
    if verdict.servers:
        return
    names = sorted(set(owners.values()))

    def fits(gone):
        left = [bit for bit in used if owners[bit] not in gone]
        return (
            host_fit.count_fitting(builders.machine("a", HGX, left), asked) > 0
        )

    for cure in _cures(verdict):
        if cure.startswith("without s"):
            assert fits(cure.removeprefix("without ").split(" and "))
    blockers = {line.partition(":")[0] for line in verdict.blockers}
    least = next(
        number
        for number in range(1, len(names) + 1)
        if any(fits(gone) for gone in itertools.combinations(names, number))
    )
    ways = [
        gone for gone in itertools.combinations(names, least) if fits(gone)
    ]
    if least <= 3:
        assert blockers == {name for way in ways for name in way}
    else:
        assert fits(blockers)
        assert not any(fits(blockers - {name}) for name in blockers)


def _verdict(host, servers=0, *cures, can_fit=True):
    return verdicts_.Verdict(
        host,
        servers,
        cures=tuple(verdicts_.Cure(*cure) for cure in cures),
        can_fit=can_fit,
    )


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        (
            [_verdict("a", 2), _verdict("b", 1), _verdict("c")],
            "3 fit on 2 of 3 hosts; where none starts all the same, see",
        ),
        (
            [
                _verdict("a", 0, (4, 2, "with h100:2"), (3, 1, "without x")),
                _verdict("b", 0, (1, 0, "with gpu:link=pix")),
                _verdict("c", 0, (1, 0, "with gpu:link=pix")),
            ],
            "fits on none of 3 hosts; first to change: it would fit on b (and"
            " on 1 more) with gpu:link=pix",
        ),
        # The nearest anywhere, not the first.
        (
            [
                _verdict("a", 0, (4, 3, "with h100:2"), can_fit=False),
                _verdict("b", 0, (4, 1, "with h100:4"), can_fit=False),
            ],
            "can never fit on any of 2 hosts; nearest: it would fit on b with"
            " h100:4",
        ),
        (
            [
                _verdict(
                    "a",
                    0,
                    (1, 0, "with gpu:link=nvlink"),
                    (4, 3, "with h100:2"),
                    can_fit=False,
                ),
                _verdict("b", 0, (4, 1, "with h100:4"), can_fit=False),
            ],
            "can never fit on any of 2 hosts; nearest: it would fit on a with"
            " gpu:link=nvlink, or on b with h100:4",
        ),
        ([_verdict("a")], "fits on none of 1 host; no single change helps"),
    ],
)
def test_the_summary_says_what_to_change_first(verdicts, line):
    summary = verdicts_.summarize(verdicts)
    assert summary.startswith(line)
