# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.sysfs import chips


@pytest.mark.parametrize(
    ("name", "code", "architecture", "capability"),
    [
        ("GK104GL [GRID K2]", "GK104", "Kepler", "3.0"),
        ("GK110BGL [Tesla K40m]", "GK110", "Kepler", "3.5"),
        ("GP102GL [Tesla P40]", "GP102", "Pascal", "6.1"),
        ("GV100GL [Tesla V100 SXM2 16GB]", "GV100", "Volta", "7.0"),
        ("TU104GL [Tesla T4]", "TU104", "Turing", "7.5"),
        ("GA100 [A100 SXM4 80GB]", "GA100", "Ampere", "8.0"),
        ("GA102GL [A40]", "GA102", "Ampere", "8.6"),
        ("AD102GL [L40]", "AD102", "Ada", "8.9"),
        ("GH100[H100 SXM5 80GB]", "GH100", "Hopper", "9.0"),
        ("GB100 [B200]", "GB100", "Blackwell", "10.0"),
        ("GB102 [B100]", "GB102", "Blackwell", "10.0"),
        ("GB20B [GB10]", "GB20B", "Blackwell", "12.1"),
        ("GR100 [PCIe Faber]", "GR100", "Rubin", None),
        ("GB112", "GB112", None, None),
        ("GB202 [GeForce RTX 5090]", "GB202", "Blackwell", "12.0"),
        ("GZ999 [Something New]", "GZ999", None, None),
    ],
)
def test_a_chip_of_nvidia_has_architecture_and_compute_capability(
    name, code, architecture, capability
):
    assert chips.find_chip(chips.NVIDIA, name) == chips.Chip(
        code, architecture, capability
    )


@pytest.mark.parametrize(
    ("vendor", "name", "architecture", "isa"),
    [
        (chips.AMD, "Aqua Vanjaram [Instinct MI300X]", "CDNA3", "gfx942"),
        (chips.AMD, "Aldebaran/MI200 [Instinct MI210]", "CDNA2", "gfx90a"),
        (chips.AMD, "Vega 10 [Instinct MI25]", "GCN5", "gfx900"),
        (chips.AMD, "Tonga XTV GL [FirePro S7150V]", "GCN3", "gfx802"),
        (chips.AMD, "Ellesmere [Radeon Pro WX 7100]", "GCN4", "gfx803"),
        (chips.AMD, "Navi 31 [Radeon RX 7900 XTX]", "RDNA3", "gfx1100"),
        (chips.INTEL, "DG2 [Arc A770]", "Xe-HPG", None),
        (chips.INTEL, "Ponte Vecchio XT (2 Tile) [Max 1550]", "Xe-HPC", None),
    ],
)
def test_chips_of_others_have_an_architecture(vendor, name, architecture, isa):
    chip = chips.find_chip(vendor, name)
    assert (chip.architecture, chip.isa) == (architecture, isa)
    assert chip.compute_capability is None


@pytest.mark.parametrize(
    ("vendor", "name"),
    [
        (chips.NVIDIA, "GN21-X11 [GeForce RTX 4090 Laptop GPU]"),
        (chips.NVIDIA, "Device"),
        (chips.AMD, "Vega 100 [no such chip]"),
        (chips.INTEL, "UHD Graphics 630"),
        (0x1234, "GK104GL [GRID K2]"),
    ],
)
def test_a_chip_that_is_not_named_is_not_guessed(vendor, name):
    assert chips.find_chip(vendor, name) is None


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("GK104GL [GRID K2]", "GRID K2"),
        ("GH100[H100 SXM5 80GB]", "H100 SXM5 80GB"),
        ("Data Center GPU Flex 170", "Data Center GPU Flex 170"),
    ],
)
def test_the_product_is_what_stands_in_brackets(name, product):
    assert chips.extract_product(name) == product


@pytest.mark.parametrize(
    ("vendor", "product", "name", "architecture"),
    [
        (chips.AMD, 0x74A1, "Aqua Vanjaram [Instinct MI300X]", "CDNA3"),
        (chips.AMD, 0x74B5, "Aqua Vanjaram [Instinct MI300X VF]", "CDNA3"),
        (chips.AMD, 0x75A0, "Aqua Vanjaram [Instinct MI350X]", "CDNA4"),
        (chips.AMD, 0x75A3, "Aqua Vanjaram [Instinct MI355X]", "CDNA4"),
        (chips.AMD, 0x75B0, None, "CDNA4"),
        (chips.NVIDIA, 0x3182, None, "Blackwell"),
        (chips.NVIDIA, 0x233B, None, "Hopper"),
        (chips.NVIDIA, 0x1B38, "GP102GL [Tesla P40]", "Pascal"),
    ],
)
def test_ids_tell_what_names_do_not(vendor, product, name, architecture):
    assert chips.find(vendor, product, name).architecture == architecture


def test_ids_that_are_not_listed_are_not_guessed():
    assert chips.find(chips.NVIDIA, 0xFFFE, None) is None


@pytest.mark.parametrize(
    ("product_id", "name", "code", "architecture"),
    [
        # Newer than the database.
        (0x2B8F, None, "GB202", "Blackwell"),
        (0x26FA, None, "AD102", "Ada"),
        (0x233F, None, "GH100", "Hopper"),
        (0x20FF, "Device", "GA100", "Ampere"),
        # What the database says of a product comes first.
        (0x2205, "GA104 [an odd one]", "GA104", "Ampere"),
    ],
)
def test_a_product_without_a_name_has_the_chip_of_its_block(
    product_id, name, code, architecture
):
    chip = chips.find(chips.NVIDIA, product_id, name)
    assert (chip.code_name, chip.architecture) == (code, architecture)


@pytest.mark.parametrize("product_id", [0xFFFF, 0x0001, 0x3FFF, 0x2280])
def test_an_id_of_no_known_block_is_not_guessed(product_id):
    assert chips.find(chips.NVIDIA, product_id, None) is None
