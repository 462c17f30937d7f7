# SPDX-License-Identifier: Apache-2.0

"""What something else than nova-gpu-agent may answer on its socket."""

import contextlib
import copy
import io
import json
import sys

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter import printable
from nova_gpu_filter.agent import libvirt_hook
from nova_gpu_filter.cmd import agent
from tests.fuzz import hostile
from tests.fuzz import test_inventory_json
from tests.unit.agent import fakes

DEVICE = {
    "device": "0000:19:00.0",
    "state": "free",
    "reason": "x",
    "since": 1.0,
    "by": "agent",
    "server": None,
}
ANSWER = {
    "devices": [DEVICE],
    "history": [DEVICE],
    "blind": None,
    "partitions": [
        {
            "partition": 1,
            "active": True,
            "server": None,
            "phase": "owned",
            "since": None,
            "devices": ["0000:19:00.0"],
            "modules": [1],
        }
    ],
    "problems": [
        {"problem": "leaked", "partition": 1, "server": None, "text": "x"}
    ],
    "placement": True,
}
COMMANDS = (
    ("list",),
    ("list", "-f", "json"),
    ("list", "-f", "csv"),
    ("show", "x"),
    ("quarantine", "x"),
    ("clean", "x", "-f", "shell"),
    ("fabric", "list"),
    ("fabric", "audit", "-f", "yaml"),
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    return fakes.Daemon(tmp_path_factory.mktemp("daemon"))


@st.composite
def answers(draw):
    """Draw the line of an answer in which something is not as it should be."""
    found = copy.deepcopy(ANSWER)
    place = st.sampled_from(list(test_inventory_json.places(ANSWER)))
    for _ in range(draw(st.integers(0, 3))):
        with contextlib.suppress(KeyError, IndexError, TypeError):
            test_inventory_json.change(
                found, draw(place), draw(hostile.values)
            )
    if draw(st.booleans()):
        found.pop(draw(st.sampled_from(sorted(ANSWER))))
    line = json.dumps(found).encode()
    return line[: draw(st.sampled_from([len(line)] * 9 + [len(line) // 2]))]


LINES = (
    answers()
    | hostile.values.map(lambda found: json.dumps(found).encode())
    | hostile.values.map(lambda found: json.dumps({"error": found}).encode())
    | st.sampled_from([b"", b"\xff", b"[" * 100_000, b"1" * 5000])
)


def run(function, *arguments):
    """Call a command; gives its code and what it wrote."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = function(list(arguments))
    for text in (output.getvalue(), errors.getvalue()):
        assert text == printable.escape(text, keep="\n\t")
    return code, errors.getvalue()


@given(line=LINES, command=st.sampled_from(COMMANDS))
@example(line=b"[]", command=("list",))
@example(line=b'{"devices": []}', command=("quarantine", "x"))
@example(
    line=json.dumps(
        {"devices": [{**DEVICE, "since": 1e300}], "blind": None}
    ).encode(),
    command=("list",),
)
def test_a_command_ends_in_rows_or_one_line(daemon, line, command):
    daemon.answer = line + b"\n"
    code, errors = run(agent.main, "--socket", daemon.path, *command)
    assert code in (0, 1, 2, 3)
    if code == 3:
        assert len(errors.splitlines()) == 1, errors


@given(
    line=LINES,
    name=hostile.texts,
    operation=st.sampled_from(["prepare", "release"]),
)
@example(line=b"[]", name="guest", operation="prepare")
@example(line=b"[" * 100_000, name="guest", operation="release")
@example(line=b'{"error": "\\u001b[2J"}', name="\x1b[2J", operation="release")
def test_the_hook_does_as_an_answer_of_the_agent_says(
    daemon, line, name, operation
):
    daemon.answer = line + b"\n"
    kept = sys.stdin, libvirt_hook.SOCKET
    libvirt_hook.SOCKET = daemon.path
    sys.stdin = io.StringIO(fakes.domain_xml(DEVICE["device"]))
    part = {"prepare": "begin", "release": "end"}[operation]
    try:
        code, errors = run(libvirt_hook.main, name, operation, part, "-")
    finally:
        sys.stdin, libvirt_hook.SOCKET = kept
    assert len(errors.splitlines()) == bool(errors)
    if operation == "release":
        assert code == 0
    else:
        try:
            answer = json.loads(line)
            allows = isinstance(answer, dict) and answer.get("error") is None
        except (ValueError, RecursionError):
            allows = False
        assert code == (0 if allows else 1)
