# SPDX-License-Identifier: Apache-2.0

"""nova-gpu-host starts soon, since it imports little."""

import json
import subprocess
import sys

MOST = 300
"""Modules, of the standard library and of ours: 256 take 0.2 s of processor
time."""

_CODE = """
import json, sys
code = 0
if sys.argv[1:]:
    from nova_gpu_filter.cmd.host import app
    code = app.main(sys.argv[1:])
json.dump([code, sorted(sys.modules)], sys.stderr)
"""


def _import(*arguments):
    """Return the modules that are there when the command has ended."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CODE, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr)
    assert not code
    return set(modules)


def test_help_imports_no_package_of_others_and_few_modules():
    # What the environment of the tests imports at each start does not count.
    imported = _import("--help") - _import()
    ours_or_python = {"nova_gpu_filter", *sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in imported} <= ours_or_python
    assert "nova_gpu_filter.cmd.host.check" in imported
    assert len(imported) <= MOST
