# SPDX-License-Identifier: Apache-2.0

"""Which hosts ``make cloud`` is asked for."""

import pytest

from cloud import __main__ as command
from cloud import emulated


def _read(*arguments):
    args = command.read_arguments(["up", *arguments])
    return command.list_emulated_hosts(args.emulated)


def test_there_are_no_emulated_hosts_unless_they_are_asked_for():
    assert _read() == {}


def test_without_names_there_are_two():
    assert _read("--emulated") == emulated.USUAL
    assert len(emulated.USUAL) == 2


def test_each_host_is_a_machine_of_a_kind():
    asked = [f"host-{kind}={kind}" for kind in emulated.KINDS]
    assert _read(*(word for one in asked for word in ("--emulated", one))) == {
        f"host-{kind}": kind for kind in emulated.KINDS
    }


@pytest.mark.parametrize("text", ["k2", "=k2-node", "k2=", "k2=k3-node"])
def test_what_is_no_host_is_refused(text, capsys):
    with pytest.raises(SystemExit) as stop:
        _read("--emulated", text)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert text in said
    assert all(kind in said for kind in emulated.KINDS)
