# SPDX-License-Identifier: Apache-2.0

"""The files of a compute node, or of a capture that somebody sent."""

import contextlib
import functools
import json
import os
import pathlib
import shutil
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from tests import sysfs_trees
from tests.fuzz import hostile

MACHINES = ("k2_host", "hgx_h100", "flex_with_vfs", "rtx_with_audio_and_usb")
COMMANDS = (
    ("inventory", "--long", "--vfs"),
    ("inventory", "-f", "json"),
    ("inventory", "--topology"),
    ("inventory", "--svg", "-"),
    ("check", "--all"),
    ("check", "--all", "-f", "json"),
    ("config", "--whole-cards", "--nics", "--nvswitches"),
    ("config", "--role", "controller"),
    ("config", "--modprobe"),
    ("config", "--udev"),
    ("config", "--cmdline"),
    ("capture", "{directory}/x.tar.gz"),
)
CONTENTS = (
    *(text.encode("utf-8", "surrogatepass") for text in hostile.TEXTS),
    b"\xff\xfe\x00\x80",
    b"-1",
    b"0x",
    b"A" * 2_000_000,
    b"0x" + b"f" * 400,
    "\u00b2\uff10".encode(),
)
TARGETS = (
    "/".join(["a"] * 1500),
    "a" * 200,
    "x/" * 1400 + "y",
    "../" * 900,
    ".",
    "//etc/passwd",
    "x\n[DEFAULT]\nevil = 1",
    "$(touch evil)",
    "\udcff\udcfe",
)
NAMES = ("x\ny", "\udcff", "\x1b[2J", "a" * 255, "$(id)", "0000:01:00.0")
# What modprobe's list of aliases may call a module.
ALIAS = "alias pci:v000010DEd*sv*sd*bc03sc*i* {}\n"

_KEPT: list[tempfile.TemporaryDirectory] = []


@functools.cache
def machines():
    """The files of each machine, and their paths: built once."""
    # Removed when the process ends, with the object that made it.
    _KEPT.append(tempfile.TemporaryDirectory(prefix="nova-gpu-filter-fuzz-"))
    directory = pathlib.Path(_KEPT[0].name)
    return {
        name: (
            sysfs_trees.MACHINES[name](directory / name).root,
            sorted((directory / name).rglob("*")),
        )
        for name in MACHINES
    }


@st.composite
def damages(draw):
    """A machine, and what is done to some of its files."""
    name = draw(st.sampled_from(MACHINES))
    root, paths = machines()[name]
    place = st.sampled_from(paths).map(lambda path: path.relative_to(root))
    change = (
        st.tuples(st.just("write"), st.sampled_from(CONTENTS))
        | st.tuples(st.just("link"), st.sampled_from(TARGETS))
        | st.tuples(st.just("name"), st.sampled_from(NAMES))
        | st.tuples(st.sampled_from(["fifo", "directory"]), st.none())
    )
    return name, draw(
        st.lists(st.tuples(place, change), min_size=1, max_size=6)
    )


def damage(path, how, value):
    """Do it, where there is still something."""
    is_directory = path.is_dir() and not path.is_symlink()
    if how == "name":
        path.rename(path.with_name(value))
        return
    if is_directory:
        shutil.rmtree(path)
    else:
        path.unlink()
    if how == "write":
        path.write_bytes(value)
    elif how == "link":
        path.symlink_to(value)
    elif how == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()


def write_aliases(root, text):
    """Give the kernel a module of a hostile name."""
    place = root / "lib/modules/6.8.0-60-generic"
    place.mkdir(parents=True, exist_ok=True)
    lines = ALIAS.format(text) + ALIAS.format("nouveau")
    (place / "modules.alias").write_bytes(
        lines.encode("utf-8", "surrogatepass")
    )


@given(damages(), st.sampled_from(COMMANDS), st.none() | hostile.texts)
def test_damaged_files_of_a_host_do_no_harm(damaged, command, module):
    name, changes = damaged
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory) / "host"
        shutil.copytree(machines()[name][0], root, symlinks=True)
        if module is not None:
            write_aliases(root, module)
        for place, (how, value) in changes:
            with contextlib.suppress(OSError):
                damage(root / place, how, value)
        arguments = [part.format(directory=directory) for part in command]
        result = hostile.run("--sysfs-root", root, *arguments)
        if not (root / "sys").is_dir():
            return
        hostile.check_run(result)
        if result[0] == 3:
            pass
        elif command[0] == "config" and len(command) == 2:
            hostile.check_boot_text(command[1], result[1])
        elif command[-1] == "json" and command[0] == "check":
            for finding in json.loads(result[1]):
                hostile.check_shell(finding["Cure"])
        elif command[0] == "config":
            hostile.check_nova_conf(result[1])
        left = set(os.listdir(directory)) - {"host"}
        if result[0]:
            assert not left
