# SPDX-License-Identifier: Apache-2.0

"""Makes a test of a machine from its capture.

``python -m tests.unit.host.add_case CAPTURE NAME`` writes what is in an
archive of ``nova-gpu-host capture``, and what ``check`` and ``config`` say of
it now, below ``tests/unit/host/cases/NAME``. Read check.txt and config.txt:
they are what the test expects from then on. ``--update`` writes them anew for
every machine that is there.
"""

import argparse
from collections.abc import Sequence
import contextlib
import io
import json
import os
import pathlib
import re
import sys
import tarfile
import tempfile

from nova_gpu_filter.cmd.host import app

CASES = pathlib.Path(__file__).parent / "cases"
FILES = "host.json"
CONF = "nova.conf"
OUTPUTS = ("check.txt", "config.txt")
_ROOT = "HOST"
# Whether the initramfs is older than the settings is told by their dates.
_DATED = ("/boot/", "/etc/modprobe.d/")


class CaseError(Exception):
    """The case cannot be made; the message says why."""


def describe(archive: pathlib.Path) -> dict[str, dict[str, str] | list[str]]:
    """Read a capture: its files, links and directories by their paths."""
    files, binary, links = {}, {}, {}
    modified = {}
    directories = []
    try:
        with tarfile.open(archive) as capture:
            for member in capture:
                path = "/" + member.name.partition("/")[2]
                if member.issym():
                    links[path] = member.linkname
                elif member.isdir():
                    directories.append(path)
                else:
                    data = capture.extractfile(member)
                    assert data is not None
                    content = data.read()
                    if path.startswith(_DATED):
                        modified[path] = str(int(member.mtime))
                    try:
                        files[path] = content.decode("ascii")
                    except UnicodeDecodeError:
                        binary[path] = content.hex()
    except (OSError, tarfile.TarError) as error:
        raise CaseError(f"{archive}: {error}") from None
    if "/sys/bus/pci/devices" not in directories:
        raise CaseError(f"{archive}: this is no capture of nova-gpu-host")
    return {
        "directories": sorted(directories),
        "links": dict(sorted(links.items())),
        "files": dict(sorted(files.items())),
        "binary": dict(sorted(binary.items())),
        "modified": dict(sorted(modified.items())),
    }


def build(case: pathlib.Path, root: pathlib.Path) -> None:
    """Make the files of a case below a directory."""
    data = json.loads((case / FILES).read_text())
    root.mkdir(parents=True)

    def place(path: str) -> pathlib.Path:
        found = root / path.lstrip("/")
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    for path in data["directories"]:
        place(path).mkdir(parents=True, exist_ok=True)
    for path, text in data["files"].items():
        place(path).write_text(text)
    for path, digits in data["binary"].items():
        place(path).write_bytes(bytes.fromhex(digits))
    for path, seconds in data["modified"].items():
        os.utime(place(path), (int(seconds), int(seconds)))
    for path, target in data["links"].items():
        place(path).symlink_to(target)


def ask(case: pathlib.Path, root: pathlib.Path) -> dict[str, str]:
    """Give what ``check`` and ``config`` say, by the names of the files."""
    conf = case / CONF
    options = ["--nova-conf", str(conf)] if conf.exists() else []
    code, text = _run(
        ["check", "--sysfs-root", str(root), *options, "-f", "json"]
    )
    rows = json.loads(text[text.index("[") :])
    lines = [f"exit code {code}"]
    for row in rows:
        lines += [
            "",
            f"{row['Severity']} {row['Check']} {row['Device'] or '-'}",
            f"  {row['Finding']}",
            *(f"  seen: {one}" for one in row["Evidence"]),
            *(f"  cure: {one}" for one in row["Cure"]),
        ]
    code, config = _run(["config", "--sysfs-root", str(root)])
    found = ("\n".join(lines) + "\n", f"# exit code {code}\n{config}")
    names = {str(root): _ROOT, str(conf): CONF}
    pattern = re.compile("|".join(map(re.escape, names)))
    return {
        name: pattern.sub(lambda match: names[match[0]], output)
        for name, output in zip(OUTPUTS, found, strict=True)
    }


def _run(arguments: list[str]) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = app.main(arguments)
    return code, output.getvalue()


def write_expected(case: pathlib.Path) -> None:
    """Write what is said of a case now as what is expected of it."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "host"
        build(case, root)
        for name, text in ask(case, root).items():
            (case / name).write_text(text)


def add(
    archive: pathlib.Path,
    name: str,
    conf: pathlib.Path | None = None,
    cases: pathlib.Path = CASES,
) -> pathlib.Path:
    """Make a case.

    :param conf: a nova.conf of the host, without passwords.
    :returns: the directory of the case.
    :raises CaseError: it is there, or the archive is no capture.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise CaseError(f"{name}: use lower-case letters, digits and -")
    case = cases / name
    if case.exists():
        raise CaseError(f"{case} is there already")
    data = describe(archive)
    case.mkdir(parents=True)
    (case / FILES).write_text(json.dumps(data, indent=1) + "\n")
    if conf is not None:
        (case / CONF).write_text(conf.read_text())
    write_expected(case)
    return case


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a case, or write anew what is expected of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", nargs="?", type=pathlib.Path)
    parser.add_argument("name", nargs="?", help="gb200-tray-of-a-customer")
    parser.add_argument("--nova-conf", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--update", action="store_true")
    given = parser.parse_args(arguments)
    if given.update:
        for case in sorted(CASES.iterdir()):
            write_expected(case)
        return 0
    if given.capture is None or given.name is None:
        parser.error("give CAPTURE and NAME, or --update")
    try:
        case = add(given.capture, given.name, given.nova_conf)
    except (CaseError, OSError) as error:
        sys.stderr.write(f"add_case: {error}\n")
        return 1
    sys.stdout.write(
        "".join((case / name).read_text() for name in OUTPUTS)
        + f"Read {case}: the test expects this from now on.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
