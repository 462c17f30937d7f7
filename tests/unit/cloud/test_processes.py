# SPDX-License-Identifier: Apache-2.0

"""Processes are told by pid and start time, and ended with their group."""

import os
import pathlib
import signal
import sys
import time

import pytest

from cloud import errors
from cloud import processes
from cloud import state as states

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('deaf', flush=True); time.sleep(600)",
)
PARENT = (
    sys.executable,
    "-c",
    "import subprocess, sys, time;"
    " child = subprocess.Popen([sys.executable, '-c',"
    " 'import time; time.sleep(600)']);"
    " print(child.pid, flush=True); time.sleep(600)",
)


@pytest.fixture
def running(tmp_path):
    state = states.State(tmp_path)
    state.create()
    running = processes.Processes(state)
    yield running
    for name in running.names:
        running.stop(name)


def wait_for_output(running, name):
    running.wait(name, lambda: bool(running.log(name).read_text()))
    return running.log(name).read_text()


def is_there(pid):
    path = pathlib.Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2][1] != "Z"


def test_a_process_lives_until_it_is_stopped(running):
    running.start("a", SLEEPER, {})
    assert running.is_alive("a")
    pid = running.pid("a")

    running.stop("a")

    assert not is_there(pid)
    assert running.names == []


def test_a_process_that_does_not_end_is_killed(running):
    running.start("a", STUBBORN, {})
    wait_for_output(running, "a")

    running.stop("a", patience_seconds=0.2)

    assert running.names == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_process_has_started_ends_with_it(running, number):
    running.start("a", PARENT, {})
    child = int(wait_for_output(running, "a"))
    assert is_there(child)

    running.end("a", number=number)

    deadline = time.monotonic() + 30
    while is_there(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(child)


def test_another_process_with_the_same_pid_is_left_alone(running, tmp_path):
    running.start("a", SLEEPER, {})
    ours = running.pid("a")
    state = states.State(tmp_path)
    state.data["processes"]["a"]["pid"] = os.getpid()
    again = processes.Processes(state)

    assert not again.is_alive("a")
    again.stop("a")

    os.kill(ours, signal.SIGKILL)
    os.waitpid(ours, 0)


def test_a_killed_process_can_be_started_again_from_its_record(
    running, tmp_path
):
    running.start("a", SLEEPER, {"WHO": "me"})
    running.kill("a")
    assert not running.is_alive("a")

    again = processes.Processes(states.State(tmp_path))
    again.start_again("a")

    assert again.is_alive("a")
    environment = pathlib.Path(f"/proc/{again.pid('a')}/environ").read_bytes()
    assert b"WHO=me" in environment
    again.stop("a")


def test_a_process_that_ends_while_it_starts_is_reported_with_its_log(running):
    running.start("a", (sys.executable, "-c", "print('no such key')"), {})
    with pytest.raises(errors.CloudError) as caught:
        running.wait("a", lambda: False)
    assert "a ended while it was starting" in str(caught.value)
    assert "no such key" in str(caught.value)


def test_a_service_that_never_gets_ready_is_reported(running):
    running.start("a", SLEEPER, {})
    with pytest.raises(errors.CloudError, match="not ready after 0 s"):
        running.wait("a", lambda: False, patience_seconds=0.1)


def test_two_commands_do_not_work_on_one_cloud_at_once(tmp_path):
    one, other = states.State(tmp_path), states.State(tmp_path)
    with (
        one.exclusive(),
        pytest.raises(errors.CloudError, match="another command"),
        other.exclusive(),
    ):
        pass
