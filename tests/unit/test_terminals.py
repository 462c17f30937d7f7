# SPDX-License-Identifier: Apache-2.0

"""Names from outside never reach a terminal as they are."""

import argparse
import io
import sys
import types

from osc_lib import exceptions
from oslo_upgradecheck import upgradecheck
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.cmd import arguments
from nova_gpu_filter.cmd import exporter
from nova_gpu_filter.cmd import status
from nova_gpu_filter.exporter import settings
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.osc import base
from nova_gpu_filter.simulate import run_report

HOSTILE = "a\x1b[2J\x9b31m\u202eb\x07"
SHOWN = "a\\x1b[2J\\x9b31m\\u202eb\\x07"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Echo(base.GpuCommand):
    """Prints what anybody may have called a server."""

    def take_action(self, parsed_args):
        self.app.stdout.write(f"{HOSTILE}\n")
        self.app.stderr.write(f"{HOSTILE}\n")
        if parsed_args.fail:
            raise exception.BadInput(source=HOSTILE, reason="is no name")


@pytest.mark.parametrize("fails", [False, True])
def test_openstack_gpu(fails):
    streams = Terminal(), Terminal()
    app = types.SimpleNamespace(
        stdout=streams[0], stderr=streams[1], client_manager=None
    )
    command = Echo(app, None)
    parsed = argparse.Namespace(fail=fails)
    if fails:
        with pytest.raises(exceptions.CommandError) as caught:
            command.run(parsed)
        assert str(caught.value) == f"{SHOWN}: is no name"
    else:
        command.run(parsed)
    assert [one.getvalue() for one in streams] == [f"{SHOWN}\n"] * 2
    # The shell goes on with its own.
    assert (app.stdout, app.stderr) == streams


def test_nova_gpu_status(monkeypatch):
    def check(*arguments, **named):
        print(HOSTILE)
        return 0

    monkeypatch.setattr(upgradecheck, "main", check)
    monkeypatch.setattr(status.CONF, "register_cli_opts", lambda opts: None)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert status.main([]) == 0
    assert sys.stdout.getvalue() == f"{SHOWN}\n"


def test_nova_gpu_exporter(capsys):
    exporter.report_failed_start(HOSTILE)
    assert SHOWN in capsys.readouterr().err


def test_nova_gpu_simulate():
    file = Terminal()
    run_report.write_table(f"[red]{HOSTILE}", [], file, 80)
    assert file.getvalue() == f"[red]{SHOWN}\n"


def test_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        arguments.Parser(prog="x").parse_args([HOSTILE])
    assert f"arguments: {SHOWN}; see" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("PGPU", "PGPU"),
        ("CUSTOM_H100", "CUSTOM_H100"),
        ("h100", "CUSTOM_H100"),
        ("---", None),
        ("", None),
        ("\u20ac", None),
        ("A" * 248, f"CUSTOM_{'A' * 248}"),
        ("A" * 249, None),
    ],
)
def test_a_resource_class_of_nothing_is_refused(name, found):
    if found is None:
        with pytest.raises(ValueError, match=r"letter of A to Z|at most 255"):
            names.check_resource_class(name)
        with pytest.raises(exception.BadInput, match=r"^--resource-class"):
            settings.read_scope((), (), [name])
    else:
        assert names.check_resource_class(name) == found
