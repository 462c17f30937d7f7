# SPDX-License-Identifier: Apache-2.0

"""What touches Nova is tested on every series, see tox.ini."""

import configparser
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
_IMPORT = re.compile(r"^\s*(?:from|import) (?:nova|placement)[. ]", re.M)
# They check with Nova of one series what is the same in all: how options are
# read. They take longer than the other unit tests together.
_ON_THE_NEWEST_ONLY = {"tests/unit/devstack/test_traps.py"}


def _listed() -> list[str]:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    return tox["nova"]["tests"].split()


def test_every_module_that_imports_nova_is_run_on_every_series():
    listed = [ROOT / path for path in _listed()]
    left_out = {
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if path.is_relative_to(ROOT / "tests/unit")
        or path.is_relative_to(ROOT / "tests/functional")
        if _IMPORT.search(path.read_text())
        if not any(path.is_relative_to(place) for place in listed)
    }
    assert left_out == _ON_THE_NEWEST_ONLY


def test_what_is_listed_is_there():
    missing = [path for path in _listed() if not (ROOT / path).exists()]
    assert missing == []
