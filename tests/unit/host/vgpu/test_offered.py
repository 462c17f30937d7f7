# SPDX-License-Identifier: Apache-2.0

"""VFs with a vGPU type: their names in Nova, and the file beside them."""

import json

import pytest

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import declared_vfs
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.configuration import common_aliases
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import inventory_json
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import state
from nova_gpu_filter.nova_rules import pci_options
from tests import captures
from tests.fake_sriov import A40
from tests.fake_sriov import A40_2
from tests.fake_sriov import FakeHost


def set_types(fake, pf, number, count):
    fake.run((state.SRIOV_MANAGE, "-e", pf))
    for vf in fake.vfs(pf)[:count]:
        fake.write(
            f"{address_lib.DEVICES}/{vf}/nvidia/current_vgpu_type",
            str(number),
        )


@pytest.fixture(params=[True, False])
def fake(tmp_path, request):
    """VFs of two types; with and without the driver's list of names."""
    found = FakeHost(tmp_path / "host", with_names=request.param)
    set_types(found, A40, 563, 2)
    set_types(found, A40_2, 562, 3)
    return found


def read(fake):
    return reader.read(tree.Tree(str(fake.host.root)))


def specs(host, **options):
    text = fragment.write(
        host, linking.join(host), fragment.Options(**options)
    )
    return [
        json.loads(line.partition(" = ")[2])
        for line in text.splitlines()
        if line.startswith("device_spec")
    ]


def test_the_class_is_that_of_the_type(fake):
    found = specs(read(fake))
    assert [one["resource_class"] for one in found] == [
        *["CUSTOM_VGPU_NVIDIA_A40_8Q"] * 2,
        *["CUSTOM_VGPU_NVIDIA_A40_4Q"] * 3,
    ]
    assert {one["managed"] for one in found} == {"no"}
    assert {one["address"][:7] for one in found} == {"0000:41", "0000:81"}


def test_each_type_has_its_alias_also_of_a_saved_inventory(fake):
    host = read(fake)
    document = json.dumps(inventory_json.write(host, linking.join(host)))
    saved = inventory_json.read("inventory.json", document)
    made, _ = common_aliases.make_aliases([saved], fragment.Options())
    assert {one["name"]: one["resource_class"] for one in made} == {
        "nvidia-a40-4q": "CUSTOM_VGPU_NVIDIA_A40_4Q",
        "nvidia-a40-8q": "CUSTOM_VGPU_NVIDIA_A40_8Q",
    }
    assert {one["device_type"] for one in made} == {"type-VF"}


def test_a_capture_keeps_the_types(fake, tmp_path):
    top = captures.take(fake.host.root, tmp_path)
    assert specs(reader.read(tree.Tree(str(top)))) == specs(read(fake))


def test_a_type_without_a_name_has_the_class_of_the_model(tmp_path):
    fake = FakeHost(tmp_path, with_names=False)
    set_types(fake, A40, 566, 1)
    one = specs(read(fake))[0]
    assert one["resource_class"] == "CUSTOM_PCI_10DE_2235"


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ((), None),
        # The types were changed, and nova.conf was not.
        (
            ("A40_4Q", "A40_8Q"),
            "CUSTOM_VGPU_NVIDIA_A40_8Q is named after another vGPU type than"
            " NVIDIA A40-4Q",
        ),
        # Names of one's own are right, as long as they keep types apart.
        (("VGPU_NVIDIA_A40_4Q", "SMALL"), None),
        (
            ("VGPU_NVIDIA_A40_4Q", "ANY", "VGPU_NVIDIA_A40_8Q", "ANY"),
            "VFs of CUSTOM_ANY have different vGPU types (NVIDIA A40-4Q,"
            " NVIDIA A40-8Q)",
        ),
    ],
    ids=str,
)
def test_classes_are_compared_with_types(fake, tmp_path, replaced, words):
    host = read(fake)
    text = fragment.write(host, linking.join(host), fragment.Options())
    for old, new in zip(replaced[::2], replaced[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "nova.conf"
    path.write_text(text)
    everything = reader.read(
        tree.Tree(str(fake.host.root)), everything=True
    ).functions
    found = [
        (one.severity, one.summary)
        for one in conf_device_specs.check(
            host, everything, pci_options.read(str(path))
        )
        if "vGPU type" in one.summary
    ]
    assert len(found) == bool(words)
    for severity, summary in found:
        assert severity is Severity.WARNING
        assert words in summary


def test_vfs_are_taken_away_by_what_makes_them(fake):
    files = tree.Tree(str(fake.host.root))
    host = reader.read(files)
    context = Context(files, host)
    found = {
        one.device: one.cures[0].partition("  #")[0]
        for one in readiness.check(context)
        if one.check == "sr-iov"
    }
    assert found == {
        pf: f"{state.SRIOV_MANAGE} -d {pf}" for pf in (A40, A40_2)
    }
    # It is a command that works, as the driver has it.
    fake.run(tuple(found[A40].split()))
    assert fake.vfs(A40) == []


def check(fake, text):
    fake.host.write(declaration.PATH, text)
    return check_files(tree.Tree(str(fake.host.root)))


def check_files(files):
    host = reader.read(files)
    context = Context(files, host)
    return [(one.severity, one.summary) for one in declared_vfs.check(context)]


@pytest.mark.parametrize(
    ("entry", "severity", "words"),
    [
        ("vfs: 2, type: A40-8Q", Severity.OK, "as declared"),
        ("vfs: 3, type: A40-8Q", Severity.WARNING, "current_vgpu_type"),
        ("vfs: 99, type: A40-8Q", Severity.ERROR, "can have 32 VFs"),
        ("vfs: x", Severity.ERROR, "nothing of this file is applied"),
    ],
)
def test_the_file_is_compared_with_the_host(fake, entry, severity, words):
    text = f"physical_functions: [{{address: '{A40}', {entry}}}]"
    (found,) = check(fake, text)
    assert found[0] is severity
    assert words in found[1]


@pytest.mark.parametrize(
    "entries",
    [
        f"{{address: '{A40}', vfs: 2, type: A40-8Q}}",
        f"{{address: '{A40}', vfs: 3, type: '563'}}, {{slot: 8, vfs: 99}}",
        "{id: '10de:2235', vfs: 0}, {slot: c, vfs: 2, autoprobe: no}",
        "{slot: c, vfs: x}",
    ],
)
def test_a_capture_is_compared_as_the_host_is(fake, tmp_path, entries):
    # Firmware names slots by numbers.
    slot = f"{state.SLOTS}/12/address"
    fake.host.write(
        slot, fake.host.path(f"{state.SLOTS}/c/address").read_text()
    )
    fake.host.remove(f"{state.SLOTS}/c/address")
    text = f"physical_functions: [{entries.replace('slot: c', 'slot: 12')}]"
    found = check(fake, text)
    assert found
    top = captures.take(fake.host.root, tmp_path)
    of_capture = check_files(tree.Tree(str(top)))
    assert [one for one, _ in of_capture] == [one for one, _ in found]
    if "x" not in entries:
        assert of_capture == found


def test_a_capture_has_no_notes_and_no_unknown_words(fake, tmp_path):
    text = (
        "physical_functions:\n"
        "- {slot: s3cret, vfs: 1}  # s3cret\n"
        "- {slot: 'x s3cret', vfs: 1}\n"
        f"- {{address: '{A40}', vfs: 1, type: s3cret}}\n"
    )
    before = check(fake, text)
    top = captures.take(fake.host.root, tmp_path)
    kept = top / declaration.PATH.lstrip("/")
    assert "s3cret" not in kept.read_text()
    after = check_files(tree.Tree(str(top)))
    assert [one for one, _ in after] == [one for one, _ in before]


def test_without_a_file_nothing_is_said(fake):
    files = tree.Tree(str(fake.host.root))
    host = reader.read(files)
    context = Context(files, host)
    assert list(declared_vfs.check(context)) == []
