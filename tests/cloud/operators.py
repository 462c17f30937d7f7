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
from tests.cloud import user as users
from tests.cloud import views
from tests.cloud import waiting

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


def free_what_nova_forgets(
    cloud: control.Cloud, user: users.User
) -> list[str]:
    """Do what an operator does where Nova alone would not free a device.

    nova-compute frees a device in memory and in the database. Where one of
    them was lost with a message, it stays so until the service is started
    again. Placement keeps an allocation whose server never reached the
    database of a cell, or whose removal failed: drift says what to type.

    :returns: what was done, a line each.
    """

    def is_forgotten() -> bool:
        view = views.look(cloud)
        return bool(view.nova) or view.pools != len(view.states)

    done: list[str] = []
    waiting.until(lambda: not is_forgotten(), patience_seconds=45)
    # A guest that a failed build left ends with nova-compute's periodic task
    # (running_deleted_instance_poll_interval).
    assert waiting.until(lambda: not views.look(cloud).libvirt)
    if is_forgotten():
        done.append(restart_compute_hosts(cloud))
    if not waiting.until(lambda: not views.look(cloud).placement, 20):
        done += follow_drift(user, "allocation without server")
    return done


def restart_compute_hosts(cloud: control.Cloud) -> str:
    """Start nova-compute of all hosts anew; say what was done."""
    hosts = sorted({host for host, _ in views.look(cloud).states})
    cloud.restart(*(f"nova-compute@{host}" for host in hosts))
    return f"nova-compute restarted on {', '.join(hosts)}"


def follow_drift(user: users.User, kind: str) -> list[str]:
    """Type the commands that ``openstack gpu drift`` names for what it finds.

    :param kind: of the findings.
    :returns: the commands.
    """
    commands: list[str] = [
        command
        for row in user.openstack("gpu", "drift", "-f", "json")
        if row["Kind"] == kind
        for command in re.findall(r"'openstack (.+?)'", row["Finding"])
    ]
    for command in commands:
        user.openstack(*command.split())
    return commands


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
