# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
import sys
import tarfile

import pytest

from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import outputs
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import captures
from tests import sysfs_trees
from tests.unit.host import test_linking

NAMES = pci_ids.parse("pci.ids", sysfs_trees.PCI_IDS.encode())


def examine(root):
    files = tree.Tree(str(root))
    host = reader.read(files, NAMES)
    context = Context(files, host)
    # The command line has lost values, so evidence may differ.
    told = [
        (one.severity, one.check, one.device, one.summary, one.cures)
        for one in readiness.check(context)
    ]
    return host, told


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
def test_a_capture_says_what_the_host_says(build, tmp_path, machine):
    host = build(machine)
    assert examine(captures.take(host.root, tmp_path)) == examine(host.root)


def test_the_real_machine_can_be_captured(tmp_path):
    top = captures.take("/", tmp_path)
    host, _ = examine(top)
    assert host.functions == reader.read(tree.Tree(), NAMES).functions


def test_outputs_of_programs_are_kept_where_they_are_looked_for(
    build, tmp_path
):
    sources = linking.Sources(
        topo=("topo.txt", test_linking.NV18),
        query=test_linking.QUERY,
        fabric=test_linking.FABRIC,
    )
    host = build("hgx_h100")
    top = captures.take(host.root, tmp_path, sources)
    files = tree.Tree(str(top))
    again = linking.Sources(
        topo=("t", files.read(outputs.TOPO)),
        query=("q", files.read(outputs.QUERY)),
        fabric=("f", files.read(outputs.FABRIC)),
    )
    inventory = reader.read(files, NAMES)
    joined = linking.join(inventory, again)
    assert joined.matrix == linking.join(inventory, sources).matrix
    assert len(joined.partitions) == 15
    assert dict(joined.module_ids)


@pytest.mark.parametrize(
    ("hostname", "top"),
    [
        ("gpu-1.example.org", "gpu-1.example.org"),
        ("../../etc", "_.._etc"),
        ("", "host"),
        ("a b", "a_b"),
    ],
)
def test_the_top_directory_is_a_plain_name(build, tmp_path, hostname, top):
    host = build("k2_host")
    host.write("/proc/sys/kernel/hostname", hostname)
    assert captures.take(host.root, tmp_path).name == top


def test_captures_of_a_host_are_in_the_same_order(build, tmp_path):
    host = build("many_vfs", vfs=8)
    seen = set()
    for seed in "123":
        path = tmp_path / f"{seed}.tar.gz"
        subprocess.run(
            [
                *(sys.executable, "-m", "nova_gpu_filter.cmd.host"),
                *("--sysfs-root", str(host.root), "capture", str(path)),
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        with tarfile.open(path) as archive:
            seen.add(tuple(archive.getnames()))
    assert len(seen) == 1


def test_a_packed_capture_is_smaller(build):
    host = build("hgx_h100")
    sizes = [
        len(captures.write(host.root, is_packed=is_packed))
        for is_packed in (False, True)
    ]
    assert sizes[1] * 10 < sizes[0]
