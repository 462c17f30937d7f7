# SPDX-License-Identifier: Apache-2.0

"""The ledger is on disk, or it says that it is not."""

import contextlib
import os
import sqlite3
import subprocess
import sys

import pytest

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.fabric import owning
from nova_gpu_filter.agent.states import State
from tests.unit.agent import connections

GPU = "0000:85:00.0"


@pytest.fixture(name="made")
def made_connections(monkeypatch):
    return connections.keep_connections(monkeypatch)


def record(state=State.FREE, address=GPU, since=1.0, **values):
    return states.Record(address, state, "why", since, "test", **values)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "deep" / "ledger.sqlite")


def execute(path, *statements):
    """Change the file as another program would."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_what_was_written_is_there_after_a_restart(path):
    ledger = ledger_lib.Ledger(path)
    assert ledger.is_new
    one = record(State.IN_USE, owner="server", baseline="x16")
    ledger.change(record())
    ledger.change(one)
    ledger.change(record(State.QUARANTINED, "0000:86:00.0"))
    ledger.close()
    again = ledger_lib.Ledger(path)
    assert not again.is_new
    assert again.get(GPU) == one
    assert list(again.read_records()) == [GPU, "0000:86:00.0"]


def test_the_file_is_for_root_alone(path):
    ledger_lib.Ledger(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


def test_each_write_waits_for_the_disk(path, made):
    ledger_lib.Ledger(path)
    (db,) = made
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_history_is_kept_last_first_and_bounded(path, monkeypatch):
    monkeypatch.setattr(ledger_lib, "KEPT", 3)
    ledger = ledger_lib.Ledger(path)
    for since in range(5):
        ledger.change(record(since=float(since)))
    assert [one.since for one in ledger.read_history(GPU)] == [4.0, 3.0, 2.0]


@pytest.mark.parametrize(
    "damage",
    [b"this is no database at all, but text", os.urandom(9000)],
    ids=["text", "noise"],
)
def test_a_damaged_file_is_kept_aside_and_a_new_one_made(path, damage):
    ledger = ledger_lib.Ledger(path)
    ledger.change(record())
    ledger.close()
    with open(path, "wb") as file:
        file.write(damage)
    again = ledger_lib.Ledger(path)
    assert again.is_new
    assert again.read_records() == {}
    with open(f"{path}.damaged", "rb") as file:
        assert file.read() == damage


def test_a_page_that_was_overwritten_is_found_when_the_file_is_opened(path):
    ledger = ledger_lib.Ledger(path)
    for number in range(400):
        ledger.change(
            record(address=f"0000:{number // 8:02x}:00.{number % 8}")
        )
    # This moves all from the log into the file.
    ledger.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(os.stat(path).st_size - 4096))
    assert ledger_lib.Ledger(path).is_new


def test_a_state_that_no_release_knows_is_damage(path):
    ledger = ledger_lib.Ledger(path)
    ledger.change(record())
    ledger.close()
    execute(path, "UPDATE devices SET state = 'happy'")
    assert ledger_lib.Ledger(path).is_new


def test_a_row_that_is_damaged_later_is_named(path):
    ledger = ledger_lib.Ledger(path)
    ledger.change(record())
    execute(path, "UPDATE devices SET state = 'happy'")
    with pytest.raises(errors.LedgerUnusable, match=f"{GPU}: 'happy'"):
        ledger.read_records()
    execute(
        path,
        "INSERT INTO partitions VALUES (7, 'happy', '', '', '', '', 0)",
    )
    with pytest.raises(errors.LedgerUnusable, match="partition 7: 'happy'"):
        ledger.read_partitions()


def test_a_file_of_a_newer_release_is_left_alone(path):
    ledger = ledger_lib.Ledger(path)
    ledger.change(record())
    ledger.close()
    execute(path, "PRAGMA user_version = 7")
    with pytest.raises(errors.LedgerUnusable) as raised:
        ledger_lib.Ledger(path)
    assert "version 7" in str(raised.value)
    assert sqlite3.connect(path).execute(
        "SELECT count(*) FROM devices"
    ).fetchone() == (1,)


def test_a_path_that_cannot_be_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.LedgerUnusable) as raised:
        ledger_lib.Ledger(str(tmp_path / "file" / "ledger"))
    assert "[gpu_agent]ledger" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_change_that_fails_half_way_leaves_nothing_behind(path):
    ledger = ledger_lib.Ledger(path)
    ledger.change(record())
    execute(path, "DROP TABLE history")
    with pytest.raises(errors.LedgerUnusable):
        ledger.change(record(State.QUARANTINED))
    assert ledger.get(GPU).state is State.FREE


KILLED = """
import os, sqlite3, sys
from nova_gpu_filter.agent import ledger, states
connect = sqlite3.connect
def keep(*arguments, **options):
    global db
    db = connect(*arguments, **options)
    return db
sqlite3.connect = keep
book = ledger.Ledger(sys.argv[1])
place = int(sys.argv[2])
steps = 0
def trace(statement):
    global steps
    steps += 1
    if steps > place:
        os._exit(9)
db.set_trace_callback(trace)
for state in (states.State.RELEASED, states.State.QUARANTINED):
    book.change(states.Record("0000:85:00.0", state, "why", 1.0, "test"))
    print(state, flush=True)
"""


@pytest.mark.parametrize("place", range(11))
def test_a_process_killed_at_any_statement_loses_nothing_that_it_wrote(
    path, place
):
    ledger_lib.Ledger(path).change(record())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    # Two changes of five statements: the last run is not killed.
    assert done.returncode == (9 if place < 10 else 0), done.stderr
    written = [State.FREE, *map(State, done.stdout.split())]
    found = ledger_lib.Ledger(path)
    state = found.get(GPU).state
    assert state is written[-1]
    assert [one.state for one in found.read_history(GPU)] == written[::-1]


def test_a_ledger_of_the_first_version_gets_tables_of_partitions(path):
    ledger = ledger_lib.Ledger(path)
    ledger.change(record())
    ledger.close()
    execute(
        path,
        "DROP TABLE partitions",
        "DROP TABLE suspects",
        "PRAGMA user_version = 1",
    )
    again = ledger_lib.Ledger(path)
    assert not again.is_new
    assert again.get(GPU) == record()
    assert again.read_partitions() == {}


def test_partitions_and_suspects_are_there_after_a_restart(path):
    ledger = ledger_lib.Ledger(path)
    row = owning.Ownership(
        3, owning.Phase.ACTIVE, "server", frozenset({GPU}), (), "boot", 1.0
    )
    ledger.write_owner(row)
    ledger.suspect([GPU, "0000:86:00.0"], "it failed")
    ledger.close()
    again = ledger_lib.Ledger(path)
    assert again.read_partitions() == {3: row}
    again.disown(3)
    again.clear_suspect(GPU)
    assert again.read_partitions() == {}
    assert again.read_suspects() == {"0000:86:00.0": "it failed"}
