# SPDX-License-Identifier: Apache-2.0

"""VFs and vGPU types, as they are declared and as they become."""

import hypothesis
from hypothesis import strategies
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.host.vgpu import applying
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import planning
from nova_gpu_filter.host.vgpu import state
from nova_gpu_filter.host.vgpu import types
from tests.fake_sriov import A40
from tests.fake_sriov import A40_2
from tests.fake_sriov import NIC
from tests.fake_sriov import NVME
from tests.fake_sriov import FakeHost
from tests.fake_sriov import fail


@pytest.fixture
def fake(tmp_path):
    return FakeHost(tmp_path)


def rows(*entries):
    text = "physical_functions:\n" + "".join(
        f"- {{{entry}}}\n" for entry in entries
    )
    return declaration.parse("vgpu.yaml", text)


def plan(fake, *entries, modes=None):
    host = state.read(tree.Tree(str(fake.host.root)))
    return planning.plan(rows(*entries), host, modes)


def apply(fake, *entries):
    """Apply what is declared; gives the problems."""
    now = [0.0]

    def pause(seconds):
        now[0] += seconds

    found = applying.apply(
        lambda: plan(fake, *entries), fake, pause, lambda: now[0]
    )
    return [one.problem for one in found if one.problem]


def refusal(fake, *entries, modes=None):
    (one,) = plan(fake, *entries, modes=modes)
    assert one.steps == ()
    return one.refusal


OF_8Q = f"address: {A40}, vfs: 4, type: NVIDIA A40-8Q"


# What is made


@pytest.mark.parametrize("with_names", [True, False])
def test_vfs_get_their_type(tmp_path, with_names):
    fake = FakeHost(tmp_path, with_names)
    assert apply(fake, OF_8Q) == []
    assert fake.steps[0] == f"{state.SRIOV_MANAGE} -e {A40}"
    assert fake.given(A40) == [563] * 4 + [0] * 28
    assert fake.vfs(A40_2) == []


@pytest.mark.parametrize("name", ["NVIDIA A40-8Q", "a40-8q", "563"])
def test_a_type_has_its_name_or_its_number(fake, name):
    assert apply(fake, f"address: {A40}, vfs: 1, type: {name}") == []
    assert fake.given(A40)[0] == 563


def test_plain_vfs_are_made_by_the_kernel(fake):
    assert (
        apply(fake, f"address: {NIC}, vfs: 8", "id: 1b36:0010, vfs: 2") == []
    )
    assert len(fake.vfs(NIC)) == 8
    assert len(fake.vfs(NVME)) == 2
    assert fake.steps == [
        f"{address_lib.DEVICES}/{NIC}/sriov_numvfs 8",
        f"{address_lib.DEVICES}/{NVME}/sriov_numvfs 2",
    ]


def test_another_number_goes_through_0(fake):
    apply(fake, f"address: {NIC}, vfs: 8")
    assert apply(fake, f"address: {NIC}, vfs: 3") == []
    assert [one[-1] for one in fake.steps] == ["8", "0", "3"]


def test_new_vfs_are_left_without_a_driver(fake):
    assert apply(fake, f"address: {NIC}, vfs: 2, autoprobe: false") == []
    host = state.read(tree.Tree(str(fake.host.root)))
    nic = next(one for one in host.pfs if str(one.address) == NIC)
    assert [vf.driver for vf in nic.vfs] == [None, None]


def test_a_row_of_an_address_goes_before_one_of_ids(fake):
    assert (
        apply(
            fake,
            "id: 10de:2235, vfs: 12, type: A40-4Q",
            f"address: {A40_2}, vfs: 1, type: A40-48Q",
        )
        == []
    )
    assert fake.given(A40).count(562) == 12
    assert fake.given(A40_2).count(566) == 1


def test_a_slot_names_its_device(fake):
    assert apply(fake, "slot: 8, vfs: 2, type: A40-8Q") == []
    assert fake.given(A40_2).count(563) == 2


def test_another_type_takes_the_place_of_the_first(fake):
    apply(fake, OF_8Q)
    assert apply(fake, f"address: {A40}, vfs: 12, type: A40-4Q") == []
    assert fake.given(A40) == [562] * 12 + [0] * 20


def test_vfs_can_be_taken_away(fake):
    apply(fake, OF_8Q)
    assert apply(fake, f"address: {A40}, vfs: 0") == []
    assert fake.vfs(A40) == []


def test_what_is_as_declared_is_left_alone(fake):
    apply(fake, OF_8Q)
    for vf in fake.vfs(A40)[:4]:
        fake.hold(vf)
    fake.steps.clear()
    assert apply(fake, OF_8Q) == []
    assert fake.steps == []
    (one,) = plan(fake, OF_8Q)
    assert one.is_done


def test_less_is_taken_from_what_is_free(fake):
    apply(fake, OF_8Q)
    first, *_, last = fake.vfs(A40)[:4]
    fake.hold(first)
    fake.hold(last)
    assert apply(fake, f"address: {A40}, vfs: 2, type: A40-8Q") == []
    assert fake.given(A40)[:4] == [563, 0, 0, 563]


# What is refused


def test_a_guest_keeps_its_type(fake):
    apply(fake, OF_8Q)
    vf = fake.vfs(A40)[1]
    fake.hold(vf)
    reason = refusal(fake, f"address: {A40}, vfs: 12, type: A40-4Q")
    assert vf in reason
    assert "qemu-system-x86 (4711)" in reason
    fake.steps.clear()
    assert apply(fake, f"address: {A40}, vfs: 12, type: A40-4Q") == [reason]
    assert fake.steps == []


@pytest.mark.parametrize("vfs", [0, 3])
def test_a_guest_keeps_its_vf(fake, vfs):
    apply(fake, f"address: {NIC}, vfs: 8")
    fake.hold(fake.vfs(NIC)[7])
    assert fake.vfs(NIC)[7] in refusal(fake, f"address: {NIC}, vfs: {vfs}")


def test_guests_keep_more_than_are_declared(fake):
    apply(fake, OF_8Q)
    for vf in fake.vfs(A40)[:3]:
        fake.hold(vf)
    assert "in use" in refusal(fake, f"address: {A40}, vfs: 2, type: A40-8Q")


def test_the_network_of_the_host_is_not_taken_away(fake):
    apply(fake, f"address: {NIC}, vfs: 2")
    vf = fake.vfs(NIC)[0]
    place = fake.host.path(f"{address_lib.DEVICES}/{vf}").resolve()
    net = f"/{place.relative_to(fake.host.root)}/net/ens9v0"
    fake.host.mkdir(f"{net}/upper_bond0")
    fake.host.link(f"{net}/master", "/sys/class/net/bond0")
    fake.host.write(f"{net}/flags", "0x1003")
    fake.host.link("/sys/class/net/ens9v0", net)
    fake.host.link(f"{net}/device", f"/{place.relative_to(fake.host.root)}")
    assert "ens9v0" in refusal(fake, f"address: {NIC}, vfs: 4")


def test_a_vf_with_a_mediated_device_is_in_use(fake):
    apply(fake, f"address: {NIC}, vfs: 2")
    vf = fake.vfs(NIC)[0]
    place = fake.host.path(f"{address_lib.DEVICES}/{vf}").resolve()
    name = "a2c3c2f6-5f34-4ee5-8b1c-5a3b0a5f1f0d"
    fake.host.link(
        f"{state.MDEVS}/{name}", f"/{place.relative_to(fake.host.root)}/{name}"
    )
    assert name in refusal(fake, f"address: {NIC}, vfs: 4")


def test_a_pf_of_a_guest_gets_no_vfs(fake):
    fake.hold(A40)
    assert "the device itself is in use" in refusal(fake, OF_8Q)


def test_what_cannot_be_seen_may_be_in_use(fake):
    apply(fake, f"address: {NIC}, vfs: 2")
    host = state.read(tree.Tree(str(fake.host.root)))
    unseen = state.Host(host.pfs, host.known_types, unseen=True)
    (one,) = planning.plan(rows(f"address: {NIC}, vfs: 3"), unseen)
    assert "run this as root" in one.refusal


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (f"address: {NIC}, vfs: 9", "can have 8 VFs"),
        (f"address: {A40}, vfs: 1, type: A16-8Q", "knows no type A16-8Q"),
        (f"address: {A40}, vfs: 1, type: 9999", "knows no type 9999"),
        (f"address: {NIC}, vfs: 1, type: A40-8Q", "its driver is mlx5_core"),
        ("address: 0000:99:00.0, vfs: 1", "there are: 0000:41:00.0"),
        ("slot: 77, vfs: 1", "has this slot"),
        ("id: 10de:2330, vfs: 1", "has this id"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    fake, entry, reason
):
    assert reason in refusal(fake, entry)


def test_what_another_gpu_offers_says_nothing_of_a_gpu(tmp_path):
    """Without a list of the driver, one of A40 beside an A16 without VFs."""
    fake = FakeHost(tmp_path, with_names=False)
    fake.devices[A40_2].types = ((700, "NVIDIA A16-4Q", 4),)
    assert apply(fake, OF_8Q) == []
    assert apply(fake, f"address: {A40_2}, vfs: 2, type: A16-4Q") == []
    assert fake.given(A40_2)[:3] == [700, 700, 0]


def test_two_rows_of_one_device_are_refused(fake):
    found = plan(fake, "slot: c, vfs: 1", f"address: {NIC}, vfs: 2")
    assert ["too" in (one.refusal or "") for one in found] == [True, False]


def test_more_than_fit_are_refused_when_they_do_not(fake):
    (problem,) = apply(fake, f"address: {A40}, vfs: 7, type: A40-8Q")
    assert "does not offer the type A40-8Q" in problem
    assert "6 VFs have it" in problem


def test_a_driver_that_refuses_stops_one_device(fake):
    def write(path, text, stock=fake.write):
        if NIC in path:
            raise fail(5)
        stock(path, text)

    fake.write = write
    assert apply(fake, f"address: {NIC}, vfs: 2", "id: 1b36:0010, vfs: 2") == [
        "Input/output error"
    ]
    assert len(fake.vfs(NVME)) == 2


def test_a_driver_that_gives_less_is_not_asked_for_ever(fake):
    stock = fake._set_number
    fake._set_number = lambda pf, number: stock(pf, min(number, 3))
    (problem,) = apply(fake, f"address: {NIC}, vfs: 8")
    assert "no effect" in problem


def test_without_the_script_of_nvidia_no_vfs_are_made(fake):
    fake.host.remove(state.SRIOV_MANAGE)
    assert "install the vGPU host driver" in refusal(fake, OF_8Q)


def test_without_a_driver_no_vfs_are_made(fake):
    fake.host.remove(f"{address_lib.DEVICES}/{NIC}/driver")
    assert "no driver is bound" in refusal(fake, f"address: {NIC}, vfs: 1")


# MIG


@pytest.mark.parametrize(
    ("mode", "wanted", "reason", "cure"),
    [
        (True, "false", "is in MIG mode", f"'nvidia-smi -i {A40} -mig 0'"),
        (
            False,
            "true",
            "is not in MIG mode",
            f"'nvidia-smi -i {A40} -mig 1' and make its GPU instances",
        ),
        # Nothing can switch on what it does not have.
        (None, "true", "has no MIG mode", "take mig out"),
    ],
)
def test_the_mode_of_the_gpu_has_to_be_that_declared(
    fake, mode, wanted, reason, cure
):
    (pf,) = [
        one.address
        for one in state.read(tree.Tree(str(fake.host.root))).pfs
        if str(one.address) == A40
    ]
    found = refusal(fake, f"{OF_8Q}, mig: {wanted}", modes={pf: mode})
    assert reason in found
    assert found.endswith(cure)


@pytest.mark.parametrize(
    ("name", "is_of_mig"),
    [
        ("NVIDIA A100-1-5C", True),
        ("NVIDIA H200X-1-18C", True),
        ("NVIDIA A100-1-5CME", True),
        ("NVIDIA A100-5C", False),
        ("NVIDIA A40-8Q", False),
        ("NVIDIA RTXA6000-48Q", False),
        ("NVIDIA H200X-141C", False),
    ],
)
def test_types_of_mig_are_known_by_their_names(name, is_of_mig):
    assert types.VgpuType(1, name).is_of_mig is is_of_mig


def test_the_modes_are_read():
    text = "00000000:41:00.0, Enabled\n00000000:42:00.0, [N/A]\nrubbish\n"
    assert {
        str(key): value for key, value in state.parse_mig_modes(text).items()
    } == {
        A40: True,
        "0000:42:00.0": None,
    }


# The file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no YAML in line"),
        ("- 1", "give one key"),
        ("other: []", "give one key"),
        ("physical_functions: 1", "has to be a list"),
        ("physical_functions: [1]", "has to be a map"),
        ("physical_functions: [{vfs: 1}]", "one of address, slot and id"),
        (
            "physical_functions: [{slot: 1, id: '10de:2235', vfs: 1}]",
            "one of address, slot and id",
        ),
        ("physical_functions: [{slot: 1}]", "vfs is missing"),
        ("physical_functions: [{slot: 1, vfs: -1}]", "no number of VFs"),
        ("physical_functions: [{slot: 1, vfs: 70000}]", "no number of VFs"),
        ("physical_functions: [{slot: 1, vfs: []}]", "one value"),
        ("physical_functions: [{slot: 1, vfs: 1, typ: x}]", "unknown key"),
        ("physical_functions: [{address: 4, vfs: 1}]", "no PCI address"),
        ("physical_functions: [{id: 10de, vfs: 1}]", "no vendor and product"),
        ("physical_functions: [{slot: 1, vfs: 1, mig: true}]", "name a type"),
        (
            "physical_functions: [{slot: 1, vfs: 1, type: x, mig: 2}]",
            "neither true nor false",
        ),
        (
            "physical_functions: [{slot: 1, vfs: 1, type: x, autoprobe: no}]",
            "keeps the driver away",
        ),
        (
            "physical_functions: [{slot: 1, vfs: 1}, {slot: 1, vfs: 2}]",
            "named twice",
        ),
        (
            "physical_functions:\n- slot: 1\n  vfs: 1\n  vfs: 2",
            "line 4: the key vfs is there twice",
        ),
        (
            "physical_functions: [{slot: 1, vfs: 1}]\n"
            "physical_functions: [{slot: 2, vfs: 1}]",
            "line 2: the key physical_functions is there twice",
        ),
        ("physical_functions: [\0]", "unacceptable character"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(text, reason):
    with pytest.raises(exception.BadInput, match=r"vgpu\.yaml") as caught:
        declaration.parse("vgpu.yaml", text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_need_no_quotes():
    (row,) = declaration.parse(
        "f", "physical_functions:\n- address: 0000:41:00.0\n  vfs: 08\n"
    )
    assert (str(row.address), row.vfs) == (A40, 8)


def test_an_empty_list_wants_nothing():
    assert declaration.parse("f", "physical_functions:\n") == ()


# Whatever there was, what is declared comes of it, and stays

_ROWS = strategies.tuples(
    strategies.sampled_from([0, 1, 2, 5]),
    strategies.sampled_from([557, 562, 563, None]),
    strategies.integers(0, 4),
)


@hypothesis.settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    strategies.lists(_ROWS, min_size=1, max_size=3),
    strategies.lists(strategies.integers(0, 31), max_size=2),
)
def test_applying_twice_changes_nothing_more(tmp_path_factory, declared, held):
    fake = FakeHost(tmp_path_factory.mktemp("host"))
    for place, (vfs, number, of_nic) in enumerate(declared):
        typed = f", type: {number}" if number else ""
        entries = (
            f"address: {A40}, vfs: {vfs}{typed}",
            f"address: {NIC}, vfs: {of_nic}",
        )
        last = place == len(declared) - 1
        if last and fake.vfs(A40):
            for index in held:
                fake.hold(fake.vfs(A40)[index])
        before = {
            vf: fake.read(vf, "nvidia/current_vgpu_type") for vf in fake.busy
        }
        problems = apply(fake, *entries)
        # A guest's device is as it was.
        assert before == {
            vf: fake.read(vf, "nvidia/current_vgpu_type") for vf in before
        }
        if not problems:
            assert all(one.is_done for one in plan(fake, *entries))
            assert len(fake.vfs(NIC)) == of_nic
            if number and vfs:
                assert fake.given(A40).count(number) == vfs
        else:
            assert fake.busy
        fake.steps.clear()
        assert apply(fake, *entries) == problems
        assert fake.steps == []
