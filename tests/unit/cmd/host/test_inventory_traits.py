# SPDX-License-Identifier: Apache-2.0

"""The traits of a host as a whole, for a bare metal node."""

import subprocess
import sys

import pytest

from nova_gpu_filter.cmd.host import app
from tests import sysfs_trees


def read_traits(capsys, root, *arguments):
    code = app.main(["--sysfs-root", str(root), "inventory", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out.splitlines()


@pytest.mark.parametrize(
    ("machine", "count", "model"),
    [
        ("hgx_h100", 8, "CUSTOM_GPU_MODEL_H100_SXM5_80GB"),
        ("k2_host", 2, "CUSTOM_GPU_MODEL_GRID_K2"),
    ],
)
def test_a_host_has_the_traits_of_its_gpus_and_their_number(
    capsys, tmp_path, machine, count, model
):
    root = sysfs_trees.MACHINES[machine](tmp_path).root
    found = read_traits(capsys, root, "--traits")
    assert found == sorted(set(found))
    assert {model, f"CUSTOM_GPU_COUNT_{count}"} <= set(found)
    # By these, "openstack gpu host list" finds the node.
    assert all(one.startswith(("CUSTOM_GPU_", "HW_GPU_")) for one in found)
    # Nothing of which GPU is where: a node is given away whole.
    assert not any("_LINK_" in one or "_FABRIC_" in one for one in found)


def test_graphics_of_the_processor_do_not_count_beside_gpus(capsys, tmp_path):
    host = sysfs_trees.MACHINES["k2_host"](tmp_path)
    # Raphael, without a driver as in a ramdisk.
    host.add(
        sysfs_trees.Pci("0000:90:00.0", "pci0000:90", "1002:164e", 0x030000)
    )
    assert "CUSTOM_GPU_COUNT_2" in read_traits(capsys, host.root, "--traits")


def test_a_host_without_gpus_has_none(capsys, tmp_path):
    for name in ("sys/bus/pci/devices", "proc"):
        (tmp_path / name).mkdir(parents=True)
    assert read_traits(capsys, tmp_path, "--traits") == []


_IN_A_RAMDISK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'nova', 'placement', 'openstack',
                                      'cliff', 'rich', 'libvirt'}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from nova_gpu_filter.cmd.host import app
sys.exit(app.main(sys.argv[1:]))
"""


def test_a_ramdisk_needs_neither_nova_nor_programs(tmp_path):
    """As inspection runs it: no service, no program, a bare environment."""
    root = sysfs_trees.MACHINES["hgx_h100"](tmp_path).root
    for arguments in (("--traits",), ("-f", "json")):
        done = subprocess.run(
            [
                *(sys.executable, "-c", _IN_A_RAMDISK),
                *("--sysfs-root", str(root), "inventory", *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/nowhere", "PYTHONPATH": ":".join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
        assert "H100" in done.stdout
