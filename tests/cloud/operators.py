# SPDX-License-Identifier: Apache-2.0

"""What an operator runs beside the openstack command."""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import os
import pathlib
import re
import subprocess
import urllib.request

from prometheus_client import parser

from cloud import control
from cloud import files
from cloud import services

Values = Callable[..., Mapping[tuple[str, ...], float]]
"""(name of a metric, names of labels...) -> value by labels."""


def scrape(cloud: control.Cloud) -> Values:
    """Start the exporter, read its metrics over HTTP once, and end it."""
    command = [
        str(services.BIN / "nova-gpu-exporter"),
        *("--nova-conf", str(cloud.files.path("nova/nova.conf"))),
        *("--port", "0"),
    ]
    environment = {**os.environ, **files.environment(cloud.state)}
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                command, env=environment, stderr=subprocess.PIPE, text=True
            )
        )
        stack.callback(process.terminate)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"Listening on 127\.0\.0\.1 port (\d+)", line)
        assert found, line
        with urllib.request.urlopen(
            f"http://127.0.0.1:{found[1]}/metrics", timeout=120
        ) as reply:
            text = reply.read().decode()
    assert process.returncode == 0

    def values(name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    return values


def check_upgrade(nova_conf: pathlib.Path) -> tuple[int, dict[str, str], str]:
    """Run ``nova-gpu-status upgrade check``.

    :returns: exit status, result by name of the check, and the text.
    """
    done = subprocess.run(
        [
            str(services.BIN / "nova-gpu-status"),
            *("--config-file", str(nova_conf), "upgrade", "check"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.findall(
        r"^\| Check: (.*?) +\|\n\| Result: (\w+) ", done.stdout, re.MULTILINE
    )
    return done.returncode, dict(found), done.stdout
