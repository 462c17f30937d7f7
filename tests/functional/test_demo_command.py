# SPDX-License-Identifier: Apache-2.0

"""What ``python -m demo`` prints, and its exit status."""

import json
import pathlib
import subprocess
import sys

import pytest

from demo import __main__ as command
from demo import record
from demo import report
from demo import story

ROOT = pathlib.Path(__file__).parents[2]


def _play_without_cloud(*, held):
    def play(chapters, listener, log_handler):
        told = record.Story({"nova": "34.0.0"}, listener)
        with (
            told.chapter(1, "A title"),
            told.step("A step") as step,
        ):
            step.table("Rows", ("host", "free"), [("k2-host", 1)])
            step.quote("Log", ["line one", "line two"])
            step.expect("hosts", {"k2-host"}, {"k2-host"})
            step.expect("free", 1, 1 if held else 0)
        return told

    return play


@pytest.fixture
def failing_story(monkeypatch):
    monkeypatch.setattr(story, "play", _play_without_cloud(held=False))


@pytest.fixture
def good_story(monkeypatch):
    monkeypatch.setattr(story, "play", _play_without_cloud(held=True))


def test_the_exit_status_is_0_if_every_expectation_held(good_story, capsys):
    assert command.main([]) == 0
    assert "All 2 expectations held." in capsys.readouterr().out


def test_the_exit_status_is_1_if_one_did_not_and_it_is_named(
    failing_story, capsys
):
    assert command.main([]) == 1
    out = capsys.readouterr().out
    assert "free: expected 1, actual 0" in out
    assert "1 of 2 expectations did not hold." in out


def test_a_story_without_expectations_does_not_count_as_held():
    assert not record.Story({}, record.Listener()).held


@pytest.mark.parametrize(
    "arguments", [["--chapter", "0"], ["--chapter", "x"], ["--colour"]]
)
def test_the_exit_status_is_2_for_a_usage_error(arguments):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2


def test_text_that_is_not_for_a_terminal_has_no_colour(good_story, capsys):
    command.main([])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "| k2-host |    1 |" in out
    assert "    line two" in out


def test_text_for_a_terminal_has_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    class Terminal:
        encoding = "utf-8"

        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return True

    terminal = Terminal()
    reporter = report.Reporter(terminal)
    reporter.story_ends(_play_without_cloud(held=True)([1], reporter, None))
    assert "\x1b[" in terminal.text


def test_a_step_that_raises_is_a_failure_and_ends_its_chapter_only():
    told = record.Story({}, record.Listener())
    with told.chapter(1, "Goes wrong"):
        with told.step("Breaks"):
            raise RuntimeError("no cloud")
        with told.step("Never told"):
            pass
    with told.chapter(2, "Goes well"), told.step("Works") as step:
        step.expect("one", 1, 1)

    assert [len(chapter.steps) for chapter in told.chapters] == [1, 1]
    [failure] = told.failures
    assert "chapter 1, Breaks" in failure
    assert "RuntimeError('no cloud')" in failure


def test_json_is_the_whole_story_and_nothing_else_on_stdout():
    # In a process of its own, as what prints to the file descriptor counts.
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--json", "--chapter", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = json.loads(done.stdout)

    assert (done.returncode, told["held"]) == (0, True), done.stderr
    [chapter] = told["chapters"]
    boot = chapter["steps"][1]
    assert boot["title"] == "Boot gpu-1 with one GPU"
    assert {table["title"] for table in boot["tables"]} >= {
        "Servers",
        "Devices in Nova's PCI tracker",
    }
    assert any("<hostdev" in quote["text"] for quote in boot["quotes"])
    assert all(e["held"] for e in boot["expectations"])
    # Progress, and nothing that a library warns of.
    assert done.stderr.splitlines() == [
        f"1.{number} {step['title']}"
        for number, step in enumerate(chapter["steps"], start=1)
    ]
