# SPDX-License-Identifier: Apache-2.0

"""Mistakes in the configuration are named in the log of who meets them."""

import pytest

from cloud import bootstrap
from cloud import control
from cloud import errors
from tests.cloud import views


class _Log:
    """What a process has written since this was made."""

    def __init__(self, cloud, name):
        self._path = cloud.processes.log(name)
        self._start = self._path.stat().st_size

    def lines(self, *parts):
        """Return the lines that hold all parts."""
        with open(self._path, errors="replace") as file:
            file.seek(self._start)
            return [
                line
                for line in file.read().splitlines()
                if all(part in line for part in parts)
            ]


def _is_said_once_by_each(lines):
    """Whether there is a line, and none twice of one worker."""
    pids = [line.split()[2] for line in lines]
    return 0 < len(pids) == len(set(pids))


def test_a_matcher_that_is_not_there_stops_the_scheduler_with_one_line(
    cloud, user, note
):
    log = _Log(cloud, "nova-scheduler")
    cloud.files.write(
        "nova/nova.conf", {"gpu_filter": {"pool_matcher": "fastest"}}
    )
    try:
        with pytest.raises(errors.CloudError, match="ended while"):
            cloud.restart("nova-scheduler")
    finally:
        cloud.files.write("nova/nova.conf")
        cloud.restart("nova-scheduler")
    # Nova writes a traceback below the line, which ends with it again.
    said = log.lines(
        *("CRITICAL", "[gpu_filter]pool_matcher = fastest"),
        "Installed: nova, topology",
    )
    note(f"nova-scheduler: {len(said)} line(s): {said[-1]}")
    assert len(said) == 1
    assert user.boot("later", bootstrap.flavor(1))["status"] == "ACTIVE"


def test_a_malformed_tag_on_one_host_is_named_and_the_host_serves_on(
    cloud, user, note
):
    pci = cloud.files.path("nova/hgx-1.pci.conf")
    good = pci.read_text()
    assert '"nv18:0,' in good
    log = _Log(cloud, "nova-scheduler")
    cloud.write_host(
        "hgx-1",
        control.HGX_H100,
        device_specs=good.replace('"nv18:0,', '"nv18,', 1),
    )
    try:
        cloud.restart("nova-compute@hgx-1")
        servers = [
            user.boot(f"two-{host}", bootstrap.flavor(2), host)
            for host in ("hgx-1", "hgx-2")
        ]
        assert [server["status"] for server in servers] == ["ACTIVE"] * 2
        assert views.look(cloud).disagreements() == []
    finally:
        cloud.write_host("hgx-1", control.HGX_H100)
        cloud.restart("nova-compute@hgx-1")
    said = log.lines("WARNING", "gpu_links", "nv18")
    note(f"nova-scheduler: {len(said)} line(s): {said[-1]}")
    assert _is_said_once_by_each(said)


def test_an_option_of_the_extension_out_of_range_is_named_by_placement(
    cloud, user, note
):
    log = _Log(cloud, "placement")
    cloud.files.write(
        "placement/placement.conf", {"gpu_filter": {"max_sets_per_tree": -2}}
    )
    try:
        cloud.restart("placement")
        server = user.boot("one", bootstrap.flavor(1))
    finally:
        cloud.files.write("placement/placement.conf")
        cloud.restart("placement")
    said = log.lines("max_sets_per_tree", "-2")
    note(f"placement: {len(said)} line(s): {said[-1]}")
    assert _is_said_once_by_each(said)
    assert server["status"] == "ACTIVE"
