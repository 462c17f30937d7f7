# SPDX-License-Identifier: Apache-2.0

"""The tables that stand for real machines are as these print them."""

import pytest

from nova_gpu_filter.host.links import smi
from tests import topo_tables


@pytest.mark.parametrize("name", topo_tables.NAMES)
def test_a_table_is_as_the_real_one(name):
    """Against itself where the outputs of real machines are not at hand."""
    table = topo_tables.TABLES[name]
    real = smi.parse_topo(name, topo_tables.read(name))
    made = smi.parse_topo(name, topo_tables.write(table))
    assert made.cells == real.cells
    assert len(made.nics) == len(real.nics) == len(table.nics)
    assert made.numa == real.numa
    if table.legend:
        assert made.nics == real.nics


def test_links_follow_from_places():
    text = topo_tables.write(
        topo_tables.TABLES["h100_nvl_pcie_8x_bridge_pairs"]
    )
    rows = [line.split("\t") for line in text.splitlines()]
    nic0 = rows[0].index("NIC0")
    assert [row[nic0] for row in rows[1:10]] == [
        *("NODE", "PHB", "NODE", "NODE"),
        *("SYS", "SYS", "SYS", "SYS"),
        " X ",
    ]
