# SPDX-License-Identifier: Apache-2.0

"""Numbers on the command line."""

import pytest

from nova_gpu_filter.cmd import agent
from nova_gpu_filter.cmd import exporter
from nova_gpu_filter.cmd.host import app

BAD = [
    (exporter, ("--port", "-5")),
    (exporter, ("--port", "65536")),
    (exporter, ("--interval", "nan")),
    (exporter, ("--interval", "-1")),
    (exporter, ("--timeout", "inf")),
    (exporter, ("--timeout", "soon")),
    (exporter, ("--projects-at-once", "-1")),
    (exporter, ("--owner-requests", "1.5")),
    (exporter, ("--owner-requests", "9" * 5000)),
    (agent, ("show", "0000:19:00.0", "--limit", "0")),
    (agent, ("show", "0000:19:00.0", "--limit", "-3")),
    (app, ("inventory", "--max-width", "-3")),
    (app, ("inventory", "--max-width", "\x1b[2J")),
]


@pytest.mark.parametrize(("command", "words"), BAD, ids=str)
def test_a_number_that_is_none_ends_in_one_line(command, words, capsys):
    try:
        code = command.main([*words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code == 3
    assert said.count("\n") == 1
    assert words[-2] in said
    assert "\x1b" not in said
    assert len(said) < 250


def test_numbers_within_the_bounds_are_taken():
    found = exporter.build_parser().parse_args(
        ["--port", "65535", "--interval", "0", "--owner-requests", "0"]
    )
    assert (found.port, found.interval, found.owner_requests) == (65535, 0, 0)
