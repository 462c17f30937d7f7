# SPDX-License-Identifier: Apache-2.0

import gzip

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees

HWDB = """\
# This file is part of systemd
pci:v000010DE*
 ID_VENDOR_FROM_DATABASE=NVIDIA Corporation

pci:v000010DEd000011BF*
 ID_MODEL_FROM_DATABASE=GK104GL [GRID K2]

pci:v000010DEd000011BFsv000010DEsd0000100A*
 ID_MODEL_FROM_DATABASE=GK104GL [GRID K2] (GRID K2 board)

pci:v*d*sv*sd*bc03*
 ID_PCI_CLASS_FROM_DATABASE=Display controller

pci:v*d*sv*sd*bc03sc00*
 ID_PCI_SUBCLASS_FROM_DATABASE=VGA compatible controller
"""


@pytest.fixture
def names():
    return pci_ids.parse("pci.ids", sysfs_trees.PCI_IDS.encode())


def test_vendor_product_board_and_class_are_named(names):
    assert names.find_vendor(0x10DE) == "NVIDIA Corporation"
    assert names.find_product(0x10DE, 0x11BF) == "GK104GL [GRID K2]"
    assert (
        names.find_subsystem(0x10DE, 0x11BF, 0x10DE, 0x100A) == "GRID K2 board"
    )
    assert names.find_device_class(0x0300) == "VGA compatible controller"


def test_what_the_database_does_not_know_has_no_name(names):
    assert names.find_vendor(0x1234) is None
    assert names.find_product(0x10DE, 0xFFFF) is None
    assert names.find_product(0x1234, 0x11BF) is None
    assert names.find_subsystem(0x10DE, 0x1AEF, 0x10DE, 0x100A) is None
    assert names.find_device_class(0xFE00) is None


def test_an_unknown_subclass_has_the_name_of_its_class(names):
    assert names.find_device_class(0x0399) == "Display controller"


def test_a_product_is_not_taken_from_the_next_vendor(names):
    assert names.find_product(0x10DE, 0x1021) is None
    assert names.find_product(0x15B3, 0x1021) == "MT2910 Family [ConnectX-7]"


def test_a_packed_database_is_read():
    data = gzip.compress(sysfs_trees.PCI_IDS.encode())
    names = pci_ids.parse("pci.ids.gz", data)
    assert names.find_vendor(0x10DE) == "NVIDIA Corporation"


@pytest.mark.parametrize("data", [b"", b"\x1f\x8bbroken", b"<html></html>"])
def test_what_is_no_database_is_none(data):
    assert pci_ids.parse("x", data) is None


@pytest.mark.parametrize("path", pci_ids.PLACES)
def test_each_place_of_the_distributions_is_looked_at(tmp_path, path):
    place = tmp_path / path.lstrip("/")
    place.parent.mkdir(parents=True)
    data = sysfs_trees.PCI_IDS.encode()
    place.write_bytes(gzip.compress(data) if path.endswith("gz") else data)
    names = pci_ids.load(tree.Tree(str(tmp_path)))
    assert names.source == path
    assert names.find_product(0x10DE, 0x11BF) == "GK104GL [GRID K2]"


def test_the_database_of_udev_will_do(tmp_path):
    folder = tmp_path / "usr/lib/udev/hwdb.d"
    folder.mkdir(parents=True)
    (folder / "20-pci-vendor-model.hwdb").write_text(HWDB)
    names = pci_ids.load(tree.Tree(str(tmp_path)))
    assert names.source == "/usr/lib/udev/hwdb.d/20-pci-vendor-model.hwdb"
    assert names.find_vendor(0x10DE) == "NVIDIA Corporation"
    assert names.find_product(0x10DE, 0x11BF) == "GK104GL [GRID K2]"
    assert names.find_subsystem(0x10DE, 0x11BF, 0x10DE, 0x100A) == (
        "GK104GL [GRID K2] (GRID K2 board)"
    )
    assert names.find_device_class(0x0300) == "VGA compatible controller"


def test_without_a_database_nothing_has_a_name(tmp_path):
    names = pci_ids.load(tree.Tree(str(tmp_path)))
    assert names == pci_ids.EMPTY
    assert names.find_vendor(0x10DE) is None
    assert names.find_device_class(0x0300) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_a_database_or_none(data):
    names = pci_ids.parse("x", data)
    assert names is None or isinstance(
        names.find_product(0x10DE, 0x11BF), str | None
    )


@given(
    st.dictionaries(
        st.integers(0, 0xFFFF),
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
        min_size=1,
        max_size=20,
    )
)
def test_every_product_of_a_vendor_is_found(products):
    text = "0001  Vendor\n" + "".join(
        f"\t{id_:04x}  {name}\n\t\t0001 0001  board\n"
        for id_, name in products.items()
    )
    names = pci_ids.parse("x", text.encode())
    assert {id_: names.find_product(1, id_) for id_ in products} == products
