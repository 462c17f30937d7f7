# SPDX-License-Identifier: Apache-2.0

"""What the commands share: where to read, and how errors are shown."""

import argparse
import os
import shlex
import subprocess
import sys
import traceback
from typing import Any

from nova_gpu_filter import exception
from nova_gpu_filter import files
from nova_gpu_filter import printable
from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.links import vendor_tools
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.host.saved import outputs
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree as tree_lib

_SMI_SECONDS = 60


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


class HostCommand:
    """Mixed into a command: turns errors into one line and exit 3."""

    app: Any

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :returns: its exit code; 3 when the input could not be used.
        """
        try:
            return super().run(parsed_args)  # type: ignore[misc]
        except BrokenPipeError:
            raise
        except exception.GpuFilterError as error:
            return self._fail(str(error))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return self._fail(f"{place}{error.strerror or error}")
        except Exception as error:
            return self._fail(
                f"unexpected error: {error!r}; run with --debug for the"
                " traceback, and report it"
            )

    def _fail(self, text: str) -> int:
        if getattr(self.app.options, "debug", False):
            traceback.print_exc(file=self.app.stderr)
        name = self.app.NAME
        self.app.stderr.write(f"{name}: {printable.join_lines(text)}\n")
        return app.EXIT_BAD_INPUT

    def warn(self, text: str) -> None:
        """Tell the operator something, beside the output."""
        self.app.stderr.write(
            f"{self.app.NAME}: {printable.join_lines(text)}\n"
        )


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add ``--sysfs-root`` also after the name of the command."""
    parser.add_argument(
        "--sysfs-root",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="read the host's files (/sys, /proc, /etc ...) below DIR, for"
        " example where a capture was unpacked; default /",
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the option for the database of names."""
    parser.add_argument(
        "--pci-ids",
        metavar="FILE",
        help="take names of devices from FILE, a pci.ids; default is the"
        " database that the distribution installed (package hwdata or"
        " pci.ids), then udev's",
    )


def add_links(parser: argparse.ArgumentParser) -> None:
    """Add where links are known from that sysfs does not show."""
    group = parser.add_argument_group(
        "links that sysfs does not show",
        "NVLinks, fabric partitions, and the links of other vendors. FILE may"
        " be - for standard input.",
    )
    group.add_argument(
        "--nvidia-smi-topo",
        metavar="FILE",
        help="output of 'nvidia-smi topo -m'",
    )
    group.add_argument(
        "--nvidia-smi-q",
        metavar="FILE",
        help="output of 'nvidia-smi -q': which GPUs nvidia-smi saw, and their"
        " Module Ids",
    )
    group.add_argument(
        "--fabric",
        metavar="FILE",
        help="output of 'fmpm -l': the partitions of Fabric Manager",
    )
    group.add_argument(
        "--baseboard",
        metavar="NAME",
        help="a board whose NVLinks are known, if the host matches it: "
        + ", ".join(sorted(baseboards.BASEBOARDS)),
    )
    for tool in vendor_tools.TOOLS:
        group.add_argument(
            tool.option,
            metavar="FILE",
            help=f"output of '{tool.commands}': {tool.links}",
        )
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
    path = parsed_args.nvidia_cc
    if path is not None:
        return cc_mode.parse(path, read_file(path))
    text = None if place.is_live else place.read(cc_mode.CAPTURED)
    return cc_mode.parse(cc_mode.CAPTURED, text) if text else None


def write_flags(
    command: Any, parsed_args: argparse.Namespace
) -> tuple[str, ...]:
    """Write the options that name a host and its links, as they were given."""
    root = getattr(parsed_args, "sysfs_root", command.app.options.sysfs_root)
    given = {
        "--sysfs-root": root if root != "/" else None,
        "--pci-ids": parsed_args.pci_ids,
        "--nvidia-smi-topo": parsed_args.nvidia_smi_topo,
        "--nvidia-smi-q": parsed_args.nvidia_smi_q,
        "--fabric": parsed_args.fabric,
        "--baseboard": parsed_args.baseboard,
        **{
            tool.option: getattr(parsed_args, tool.key)
            for tool in vendor_tools.TOOLS
        },
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
    add_names(parser)
    add_links(parser)


def open_tree(command: Any, parsed_args: argparse.Namespace) -> tree_lib.Tree:
    """Open the root directory that was asked for.

    :raises FileUnreadable: there is no such directory, or no sys in it.
    """
    # Given after the command, it comes before the global one.
    root = getattr(parsed_args, "sysfs_root", command.app.options.sysfs_root)
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
    command: Any, parsed_args: argparse.Namespace
) -> tuple[tree_lib.Tree, inventory.Inventory, HostLinks]:
    """Read a host and its links, as the options say.

    :raises GpuFilterError: something cannot be read, or does not fit.
    """
    place = open_tree(command, parsed_args)
    host = reader.read(place, _read_names(parsed_args))
    host_links = linking.join(host, read_sources(place, parsed_args))
    return place, host, host_links


def _read_names(parsed_args: argparse.Namespace) -> pci_ids.Names | None:
    path = getattr(parsed_args, "pci_ids", None)
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
    given = {
        "topo": (parsed_args.nvidia_smi_topo, outputs.TOPO),
        "query": (parsed_args.nvidia_smi_q, outputs.QUERY),
        "fabric": (parsed_args.fabric, outputs.FABRIC),
    }
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
    for key, (path, captured) in given.items():
        if path is not None:
            found[key] = (path, read_file(path))
        elif key not in found and not place.is_live:
            text = place.read(captured)
            if text:
                found[key] = (captured, text)
    of_tools: dict[str, tuple[str, str]] = {}
    for tool in vendor_tools.TOOLS:
        path = getattr(parsed_args, tool.key)
        captured = outputs.name_path(tool)
        if path is not None:
            of_tools[tool.key] = (path, read_file(path))
        elif not place.is_live and (text := place.read(captured)):
            of_tools[tool.key] = (captured, text)
    return linking.Sources(
        baseboard=parsed_args.baseboard, vendor_tools=of_tools, **found
    )


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
        raise exception.BadInput(
            source=line, reason="nvidia-smi is not installed"
        ) from None
    except OSError as error:
        raise exception.BadInput(
            source=line, reason=error.strerror or str(error)
        ) from None
    except subprocess.TimeoutExpired:
        raise exception.BadInput(
            source=line, reason=f"no answer within {_SMI_SECONDS} seconds"
        ) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise exception.BadInput(
            source=line,
            reason=f"exit code {done.returncode}:"
            f" {said[0] if said else 'no message'}",
        )
    return line, done.stdout
