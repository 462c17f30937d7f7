# SPDX-License-Identifier: Apache-2.0

"""A Fabric Manager for the tests: a library that is built, and its state."""

import fcntl
import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from nova_gpu_filter.agent.fabric import library

HGX_H100 = {
    0: (1, 2, 3, 4, 5, 6, 7, 8),
    1: (1, 2, 3, 4),
    2: (5, 6, 7, 8),
    3: (1, 3),
    4: (2, 4),
    5: (5, 7),
    6: (6, 8),
    **{6 + module: (module,) for module in range(1, 9)},
}
"""Partition -> Module Ids: the table of HGX H100 in NVIDIA's WP-12736-002
(HGX Shared NVSwitch GPU Passthrough Virtualization Integration Guide)."""

ADDRESSES = {
    5: "0000:0f:00.0",
    7: "0000:10:00.0",
    6: "0000:41:00.0",
    8: "0000:44:00.0",
    1: "0000:86:00.0",
    3: "0000:87:00.0",
    2: "0000:b8:00.0",
    4: "0000:bb:00.0",
}
"""Module Id -> PCI address, from the same guide: in another order."""

HGX_4 = {
    0: (1, 2, 3, 4),
    1: (1, 2),
    2: (3, 4),
    **{2 + module: (module,) for module in range(1, 5)},
}
"""A board with four GPUs."""


@functools.cache
def build():
    """Build the library; the test is skipped where that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler 'cc' for the stand-in of libnvfm.so")
    source = pathlib.Path(__file__).with_name("fake_nvfm.c")
    path = os.path.join(tempfile.mkdtemp(), "libnvfm.so")
    subprocess.run(
        [compiler, "-Wall", "-shared", "-fPIC", "-o", path, str(source)],
        check=True,
    )
    return path


class Manager:
    """A Fabric Manager whose state is a file."""

    def __init__(self, path, partitions=HGX_H100, addresses=None):
        self.path = str(path)
        lines = ["serial 1", "away 0", "waits 0"]
        for id_, modules in partitions.items():
            text = f"partition {id_} 0 {','.join(map(str, modules))}"
            if addresses:
                text += " " + ",".join(addresses[one] for one in modules)
            lines.append(text)
        self.write(lines)

    def client(self):
        """Make a client of it."""
        return library.Library(build(), self.path, 1.0)

    def read(self):
        """Read its lines."""
        with open(self.path, encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return file.read().splitlines()

    def write(self, lines):
        """Write its lines."""
        with open(self.path, "a", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write("".join(f"{line}\n" for line in lines))

    def set(self, word, value):
        """Set a number, such as ``away``."""
        self.write(
            [
                *(one for one in self.read() if one.split()[0] != word),
                f"{word} {value}",
            ]
        )

    def inject(self, line):
        """Have calls fail or take long."""
        self.write([*self.read(), line])

    def heal(self):
        """Take what was injected away."""
        self.write(
            [
                one
                for one in self.read()
                if one.split()[0] not in ("fail", "delay")
            ]
        )

    def active(self):
        """Read which partitions are active."""
        rows = [one.split() for one in self.read()]
        return {
            int(row[1])
            for row in rows
            if row[0] == "partition" and row[2] == "1"
        }

    def vfs(self):
        """Read the VFs of active partitions, in their order."""
        rows = [one.split() for one in self.read()]
        return [row[2] for row in rows if row[0] == "vf"]

    def restart(self, is_resilient=False):
        """Restart it: it forgets; with FABRIC_MODE_RESTART it waits."""
        lines = []
        for line in self.read():
            row = line.split()
            if row[0] == "partition":
                row[2] = "0"
            elif row[0] == "serial":
                row[1] = str(int(row[1]) + 1)
            elif row[0] == "waits":
                row[1] = str(int(is_resilient))
            lines.append(" ".join(row))
        self.write(lines)
