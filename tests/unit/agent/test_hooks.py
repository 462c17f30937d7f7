# SPDX-License-Identifier: Apache-2.0

"""Programs of the operator run in order, in time, and safely."""

import time

from nova_gpu_filter.agent import hooks


def _hook(directory, name, text, mode=0o755):
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def _run(directory, seconds=20.0):
    return hooks.run_all(str(directory), {"GPU_AGENT_DEVICE": "x"}, seconds)


def test_hooks_run_in_the_order_of_their_names_with_the_device(tmp_path):
    said = tmp_path / "said"
    place = tmp_path / "before.d"
    for name in ("20-b", "10-a", "30-c"):
        _hook(place, name, f'echo {name} "$GPU_AGENT_DEVICE" >> {said}')
    assert _run(place) is None
    assert said.read_text() == "10-a x\n20-b x\n30-c x\n"


def test_the_first_that_fails_ends_it_and_says_why(tmp_path):
    said = tmp_path / "said"
    place = tmp_path / "before.d"
    _hook(place, "1", "echo loading; echo the card is warm >&2; exit 7")
    _hook(place, "2", f"touch {said}")
    assert _run(place) == f"{place}/1: ended with 7: the card is warm"
    assert not said.exists()


def test_files_that_are_no_hooks_are_left_out(tmp_path):
    place = tmp_path / "before.d"
    _hook(place, ".hidden", "exit 1")
    _hook(place, "old~", "exit 1")
    _hook(place, "README", "exit 1", mode=0o644)
    (place / "more").mkdir()
    assert _run(place) is None


def test_a_directory_that_is_not_there_has_no_hooks(tmp_path):
    assert _run(tmp_path / "none") is None


def test_a_path_that_is_no_directory_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in _run(tmp_path / "file")


def test_a_hook_that_takes_too_long_is_ended_with_its_children(tmp_path):
    left = tmp_path / "left"
    place = tmp_path / "before.d"
    _hook(place, "1", f"(sleep 2; touch {left}) & sleep 60")
    began = time.monotonic()
    assert _run(place, 0.5) == f"{place}/1: not done after 0.5 seconds"
    assert time.monotonic() - began < 10
    time.sleep(2)
    assert not left.exists()


def test_what_others_can_write_is_not_run(tmp_path):
    said = tmp_path / "said"
    place = tmp_path / "before.d"
    hook = _hook(place, "1", f"touch {said}", mode=0o775)
    assert "chmod go-w" in _run(place)
    hook.chmod(0o755)
    place.chmod(0o777)
    assert "chmod go-w" in _run(place)
    assert not said.exists()
    place.chmod(0o755)
    assert _run(place) is None
    assert said.exists()


def test_what_cannot_be_started_is_a_problem(tmp_path):
    hook = _hook(tmp_path / "before.d", "1", "")
    hook.write_text("#!/no/such/shell\n")
    assert "No such file" in _run(tmp_path / "before.d")


def test_what_a_hook_leaves_running_is_not_waited_for(tmp_path):
    place = tmp_path / "before.d"
    # It has the output of the hook, and is in no group of its.
    _hook(place, "1", "setsid sleep 20 & echo done")
    began = time.monotonic()
    assert _run(place, 10.0) is None
    assert time.monotonic() - began < 5
    _hook(place, "1", "setsid sleep 20 & sleep 20")
    assert _run(place, 0.5) == f"{place}/1: not done after 0.5 seconds"
    assert time.monotonic() - began < 15


def test_a_program_that_cannot_be_killed_is_given_up(tmp_path, monkeypatch):
    # As one that waits in the kernel for a device that does not answer.
    monkeypatch.setattr("os.killpg", lambda pid, number: None)
    monkeypatch.setattr(hooks, "_DYING", 0.1)
    place = tmp_path / "before.d"
    _hook(place, "1", "exec sleep 2")
    assert " cannot be killed" in _run(place, 0.2)


def test_of_a_flood_the_end_is_kept(monkeypatch):
    monkeypatch.setattr(hooks, "_OUTPUT", 1000)
    text = "head -c 3000000 /dev/zero; echo; echo last; exit 3"
    problem, said = hooks.run(("/bin/sh", "-c", text), 20.0)
    assert problem == "/bin/sh: ended with 3: last"
    assert len(said) == 1000 - 1


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path):
    place = tmp_path / "before.d"
    _hook(place, "1", r"printf '\377\000\033[31m\200'; exit 1")
    assert _run(place).startswith(f"{place}/1: ended with 1: ")
