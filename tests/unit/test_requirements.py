# SPDX-License-Identifier: Apache-2.0

"""What is installed with an extra has all that its code imports, also late."""

import ast
from collections.abc import Iterator
import configparser
from importlib import metadata
import pathlib
import sys

from packaging import requirements
from packaging import utils
import pytest

REPO = pathlib.Path(__file__).parents[2]
PACKAGE = "nova_gpu_filter"
STARTS = {
    "": ["cmd.host", "nova_rules"],
    "agent": ["cmd.agent", "agent"],
    "scheduler": ["scheduler", "cmd.status"],
    "placement": ["placement"],
    "osc": ["osc"],
    "exporter": ["cmd.exporter", "exporter"],
    "simulate": ["cmd.simulate", "simulate"],
}
"""The modules, and all below them, that each extra is there for."""

OPTIONAL = {
    # A picture is drawn where the extra ``plot`` is installed, too.
    "matplotlib",
    # The agent names the package of the distribution where it is missing.
    "libvirt",
}


def _name(path: pathlib.Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in (REPO / PACKAGE).rglob("*.py")}


def _imports(module: str) -> Iterator[str]:
    """List what a module imports anywhere, but for the types of linters."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else node.module


def _foreign(starts: list[str]) -> dict[str, str]:
    """Find packages of others: name -> a module of ours that imports it."""
    found: dict[str, str] = {}
    seen = set()
    pending = [
        module
        for module in MODULES
        for start in starts
        if f"{module}.".startswith(f"{PACKAGE}.{start}.")
    ]
    assert pending
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        for imported in _imports(module):
            root = imported.partition(".")[0]
            if imported in MODULES:
                pending.append(imported)
            elif root not in sys.stdlib_module_names:
                found.setdefault(root, module)
    return found


def _declared(extra: str) -> set[str]:
    lines = (REPO / "requirements.txt").read_text().splitlines()
    if extra:
        setup = configparser.ConfigParser()
        setup.read(REPO / "setup.cfg")
        lines += setup["extras"][extra].splitlines()
    texts = (line.partition("#")[0].strip() for line in lines)
    return {
        utils.canonicalize_name(requirements.Requirement(text).name)
        for text in texts
        if text
    }


@pytest.mark.parametrize("extra", STARTS, ids=lambda extra: extra or "base")
def test_what_is_imported_is_required(extra):
    known = metadata.packages_distributions()
    declared = _declared(extra)
    missing = {
        package: module
        for package, module in _foreign(STARTS[extra]).items()
        if package not in OPTIONAL
        and not declared.intersection(
            map(utils.canonicalize_name, known.get(package, ()))
        )
    }
    assert missing == {}


def test_the_heart_imports_only_the_standard_library():
    assert _foreign(["topology"]) == {}
