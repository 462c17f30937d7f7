# SPDX-License-Identifier: Apache-2.0

"""What ``nova-gpu-agent`` needs to ask the daemon something."""

import subprocess
import sys

_CODE = """
import sys
from nova_gpu_filter.cmd import agent
code = agent.main(["--socket", sys.argv[1], "list"])
loaded = {"nova_gpu_filter.agent.daemon", "keystoneauth1"} & {*sys.modules}
print(code, sorted(loaded))
"""


def test_a_command_that_asks_the_daemon_imports_nothing_of_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=True,
    )
    # Nobody listens there.
    assert done.stdout == "3 []\n"
    assert "is the service nova-gpu-agent running?" in done.stderr
