# SPDX-License-Identifier: Apache-2.0

"""What the commands share: where to read."""

import argparse
import os
import shlex
import subprocess
import sys
from typing import Any
from typing import NamedTuple

from nova_gpu_filter import exception
from nova_gpu_filter import files
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.links import vendor_tools
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.host.saved import outputs
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib

_SMI_SECONDS = 60


class _Output(NamedTuple):
    """An output of a program, from which links are known."""

    key: str
    """Of :class:`linking.Sources`, or of a vendor's tool."""
    option: str
    help: str
    captured: str
    """The file of a capture that has it."""

    def add(self, group: Any) -> None:
        """Add the option that takes a file with it."""
        group.add_argument(
            self.option, dest=self.key, metavar="FILE", help=self.help
        )


_OUTPUTS = (
    _Output(
        "topo",
        "--nvidia-smi-topo",
        "output of 'nvidia-smi topo -m'",
        outputs.TOPO,
    ),
    _Output(
        "query",
        "--nvidia-smi-q",
        "output of 'nvidia-smi -q': which GPUs nvidia-smi saw, and their"
        " Module Ids",
        outputs.QUERY,
    ),
    _Output(
        "fabric",
        "--fabric",
        "output of 'fmpm -l': the partitions of Fabric Manager",
        outputs.FABRIC,
    ),
)
_TOOL_OUTPUTS = tuple(
    _Output(
        tool.key,
        tool.option,
        f"output of '{tool.commands}': {tool.links}",
        outputs.name_path(tool),
    )
    for tool in vendor_tools.TOOLS
)


def read_file(path: str, limit: int = files.OUTPUT_BYTES) -> str:
    """Read a file named on the command line; ``-`` is standard input.

    :param limit: bytes that it may have; default is of a program's output.
    :raises FileUnreadable: it is not there, no file, too large, or not ours
        to read.
    """
    return printed.decode(_read(path, limit))


def _read(path: str, limit: int) -> bytes:
    try:
        if path == "-":
            return files.read_stream(sys.stdin.buffer, "-", limit)
        return files.read_bytes(path, limit)
    except OSError as error:
        raise exception.FileUnreadable(
            path=path, error=error.strerror or error
        ) from None


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add ``--sysfs-root`` also after the name of the command."""
    parser.add_argument(
        "--sysfs-root",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="read the host's files (/sys, /proc, /etc ...) below DIR, for"
        " example where a capture was unpacked; default /",
    )


def add_links(parser: argparse.ArgumentParser) -> None:
    """Add where links are known from that sysfs does not show."""
    group = parser.add_argument_group(
        "links that sysfs does not show",
        "NVLinks, fabric partitions, and the links of other vendors. FILE may"
        " be - for standard input.",
    )
    for one in _OUTPUTS:
        one.add(group)
    group.add_argument(
        "--baseboard",
        metavar="NAME",
        help="a board whose NVLinks are known, if the host matches it: "
        + ", ".join(sorted(baseboards.BASEBOARDS)),
    )
    for one in _TOOL_OUTPUTS:
        one.add(group)
    group.add_argument(
        "--run-nvidia-smi",
        action="store_true",
        help="run 'nvidia-smi topo -m' and 'nvidia-smi -q' now, on this host",
    )


def add_cc_mode(parser: argparse.ArgumentParser) -> None:
    """Add where the confidential computing modes of GPUs are known from."""
    parser.add_argument(
        "--nvidia-cc",
        metavar="FILE",
        help="output of 'nvidia_gpu_tools.py --devices gpus --query-cc-mode'"
        " (NVIDIA's gpu-admin-tools) or of 'nvidia-smi conf-compute -q': the"
        " confidential computing mode of GPUs, which sysfs does not show",
    )


def read_cc_modes(
    place: tree_lib.Tree, parsed_args: argparse.Namespace
) -> cc_mode.Modes | None:
    """Read the modes that were given or captured; None: there are none.

    :raises GpuFilterError: the file cannot be read, or names no mode.
    """
    found = _read_output(place, parsed_args.nvidia_cc, cc_mode.CAPTURED)
    return cc_mode.parse(*found) if found else None


def write_flags(parsed_args: argparse.Namespace) -> tuple[str, ...]:
    """Write the options that name a host and its links, as they were given."""
    root = parsed_args.sysfs_root
    given = {
        "--sysfs-root": root if root != "/" else None,
        "--pci-ids": parsed_args.pci_ids,
        **{one.option: getattr(parsed_args, one.key) for one in _OUTPUTS},
        "--baseboard": parsed_args.baseboard,
        **{one.option: getattr(parsed_args, one.key) for one in _TOOL_OUTPUTS},
    }
    return (
        *(
            f"{name} {shlex.quote(value)}"
            for name, value in given.items()
            if value is not None and value != "-"
        ),
        *(["--run-nvidia-smi"] if parsed_args.run_nvidia_smi else []),
    )


def add_host(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`read_host` reads."""
    add_root(parser)
    parser.add_argument(
        "--pci-ids",
        metavar="FILE",
        help="take names of devices from FILE, a pci.ids; default is the"
        " database that the distribution installed (package hwdata or"
        " pci.ids), then udev's",
    )
    add_links(parser)


def open_tree(parsed_args: argparse.Namespace) -> tree_lib.Tree:
    """Open the root directory that was asked for.

    :raises FileUnreadable: there is no such directory, or no sys in it.
    """
    root = parsed_args.sysfs_root
    for needed, problem in (
        (root, "no such directory"),
        (os.path.join(root, "sys"), "no directory sys in it"),
    ):
        if not os.path.isdir(needed):
            raise exception.FileUnreadable(
                path=root,
                error=f"{problem}; --sysfs-root takes the directory that"
                " holds sys, proc and etc",
            )
    return tree_lib.Tree(root)


def read_host(
    parsed_args: argparse.Namespace,
) -> tuple[tree_lib.Tree, inventory.Inventory, HostLinks]:
    """Read a host and its links, as the options say.

    :raises GpuFilterError: something cannot be read, or does not fit.
    """
    place = open_tree(parsed_args)
    host = reader.read(place, _read_names(parsed_args))
    host_links = linking.join(host, read_sources(place, parsed_args))
    return place, host, host_links


def _read_names(parsed_args: argparse.Namespace) -> pci_ids.Names | None:
    path = parsed_args.pci_ids
    if path is None:
        return None
    names = pci_ids.parse(path, _read(path, files.DOCUMENT_BYTES))
    if names is None:
        raise exception.BadInput(
            source=path, reason="this is no pci.ids: it names no vendor"
        )
    return names


def read_sources(
    place: tree_lib.Tree, parsed_args: argparse.Namespace
) -> linking.Sources:
    """Read what was given of links: files, programs, or a capture.

    :raises GpuFilterError: a file cannot be read, or a program failed.
    """
    found: dict[str, tuple[str, str]] = {}
    if parsed_args.run_nvidia_smi:
        if not place.is_live:
            raise exception.BadInput(
                source="--run-nvidia-smi",
                reason="asks the machine that we run on, so it cannot be"
                " given with --sysfs-root",
            )
        for key, arguments in (("topo", ["topo", "-m"]), ("query", ["-q"])):
            found[key] = run_nvidia_smi(arguments)
    for one in (*_OUTPUTS, *_TOOL_OUTPUTS):
        path = getattr(parsed_args, one.key)
        if path is not None or one.key not in found:
            output = _read_output(place, path, one.captured)
            if output is not None:
                found[one.key] = output
    of_tools = {
        one.key: found.pop(one.key)
        for one in _TOOL_OUTPUTS
        if one.key in found
    }
    return linking.Sources(
        baseboard=parsed_args.baseboard, vendor_tools=of_tools, **found
    )


def _read_output(
    place: tree_lib.Tree, path: str | None, captured: str
) -> tuple[str, str] | None:
    """Read an output that was given or captured: (its path, the text)."""
    if path is not None:
        return path, read_file(path)
    text = None if place.is_live else place.read(captured)
    return (captured, text) if text else None


def parse_address(text: str, source: str) -> PciAddress:
    """Read a PCI address that was typed.

    :param source: what it was typed for.
    :raises BadInput: it is none.
    """
    address = address_lib.find(text)
    if address is None:
        raise exception.BadInput(
            source=source,
            reason="this is no PCI address, such as 0000:85:00.0",
        )
    return address


def run_nvidia_smi(arguments: list[str]) -> tuple[str, str]:
    """Run nvidia-smi.

    :returns: (the command line, its output).
    :raises BadInput: it is not installed, fails, or does not answer.
    """
    command = ["nvidia-smi", *arguments]
    line = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SMI_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        problem = "nvidia-smi is not installed"
    except OSError as error:
        problem = error.strerror or str(error)
    except subprocess.TimeoutExpired:
        problem = f"no answer within {_SMI_SECONDS} seconds"
    else:
        if not done.returncode:
            return line, done.stdout
        said = (done.stderr or done.stdout).strip().splitlines()
        problem = (
            f"exit code {done.returncode}: {said[0] if said else 'no message'}"
        )
    raise exception.BadInput(source=line, reason=problem)
