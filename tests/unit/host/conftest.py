# SPDX-License-Identifier: Apache-2.0

"""Hosts of tests.sysfs_trees, by their names."""

import pytest

from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees


@pytest.fixture
def build(tmp_path):
    """Build a named machine; gives its files."""

    def build_machine(name, **options):
        machines = {
            **sysfs_trees.MACHINES,
            "many_vfs": sysfs_trees.many_vfs,
        }
        return machines[name](tmp_path / name, **options)

    return build_machine


@pytest.fixture
def read():
    """Read the inventory of a machine's files."""

    def read_machine(host):
        return reader.read(tree.Tree(str(host.root)))

    return read_machine


@pytest.fixture
def read_links(read):
    """Read inventory and links, with the sources given."""

    def read_machine(host, **sources):
        inventory = read(host)
        return linking.join(inventory, linking.Sources(**sources))

    return read_machine
