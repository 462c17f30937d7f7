# SPDX-License-Identifier: Apache-2.0

"""The ledger: a file of SQLite with the record of each device, and with the
owner of each fabric partition.

It is the truth about what must not be given away. Each change is one
transaction, on disk when :meth:`Ledger.change` returns
(https://www.sqlite.org/pragma.html#pragma_synchronous: with WAL, FULL is what
survives a loss of power).

Who changes the world keeps to one order: what makes a device less available
is written here first and done then; what makes it available is done only
after the state that allows it stands here.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import logging
import os
import sqlite3
import threading
from typing import Any
from typing import Final

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.fabric import owning
from nova_gpu_filter.agent.states import Event
from nova_gpu_filter.agent.states import State

LOG = logging.getLogger(__name__)

_VERSION: Final = 2
"""Of the tables below (``PRAGMA user_version``)."""

_DEVICES: Final = """
CREATE TABLE devices (
    address TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    by TEXT NOT NULL,
    owner TEXT,
    baseline TEXT NOT NULL
);
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    by TEXT NOT NULL,
    owner TEXT
);
CREATE INDEX history_of_device ON history (address, number);
"""
_PARTITIONS: Final = """
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    devices TEXT NOT NULL,
    vfs TEXT NOT NULL,
    boot TEXT NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE suspects (
    address TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
"""
_SCRIPTS: Final = {0: _DEVICES + _PARTITIONS, 1: _PARTITIONS}
"""What a file of an older version lacks."""

KEPT: Final = 200
"""Changes of each device that the history keeps."""


class Ledger:
    """The records of all devices; safe to use from several threads.

    Each method raises :class:`errors.LedgerUnusable` where the file cannot be
    read or written; nothing of a change is in it then.
    """

    def __init__(self, path: str) -> None:
        """Open the file; make it where it is not there or not readable.

        A file that SQLite cannot read is kept beside the new one, with
        ``.damaged`` at the end of its name.

        :raises LedgerUnusable: there can be none at this path.
        """
        self.path = path
        self.is_new = False
        """Whether there was nothing to read."""
        self._lock = threading.RLock()
        try:
            os.makedirs(os.path.dirname(path) or ".", 0o700, exist_ok=True)
            self._db = self._connect_or_replace()
        except (OSError, sqlite3.Error) as error:
            raise errors.LedgerUnusable(path=path, error=error) from error

    def _connect_or_replace(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(error, sqlite3.OperationalError):
                # It is locked, or the disk is full: the file is good.
                raise
        os.replace(self.path, f"{self.path}.damaged")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path + suffix)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        # The umask of a service can be anything.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(
            self.path, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            [(found,)] = db.execute("PRAGMA quick_check(1)")
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            [(version,)] = db.execute("PRAGMA user_version")
            if version in _SCRIPTS:
                self.is_new = version == 0
                db.executescript(
                    f"BEGIN; {_SCRIPTS[version]}"
                    f" PRAGMA user_version = {_VERSION}; COMMIT;"
                )
            elif version != _VERSION:
                raise sqlite3.OperationalError(
                    f"it is of version {version}, and this agent knows"
                    f" {_VERSION}: it was written by another release"
                )
            # A row that makes no sense is damage, too.
            _read(db)
            _read_partitions(db)
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def read_records(self) -> dict[str, states.Record]:
        """Read all records, by address."""
        with self._open() as db:
            return {record.address: record for record in _read(db)}

    def get(self, address: str) -> states.Record | None:
        """Read the record of a device."""
        return self.read_records().get(address)

    def change(self, record: states.Record) -> None:
        """Write the record of a device, and its history."""
        with self._open() as db:
            values = dataclasses.astuple(record)
            db.execute(
                "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            db.execute(
                "INSERT INTO history"
                " (address, state, reason, since, by, owner)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                values[:6],
            )
            db.execute(
                "DELETE FROM history WHERE address = ? AND number <="
                " (SELECT max(number) FROM history WHERE address = ?) - ?",
                (record.address, record.address, KEPT),
            )

    def read_history(self, address: str) -> tuple[states.Record, ...]:
        """Read the changes of a device, the last one first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT address, state, reason, since, by, owner FROM history"
                " WHERE address = ? ORDER BY number DESC",
                (address,),
            )
            return tuple(_build_record(*row) for row in rows)

    def read_partitions(self) -> dict[int, owning.Ownership]:
        """Read which partitions guests own, by their ids."""
        with self._open() as db:
            return {row.id: row for row in _read_partitions(db)}

    def write_owner(self, row: owning.Ownership) -> None:
        """Write who owns a partition."""
        with self._open() as db:
            db.execute(
                "INSERT OR REPLACE INTO partitions"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row.dump(),
            )

    def disown(self, id_: int) -> None:
        """Remove a partition that nobody owns any more."""
        with self._open() as db:
            db.execute("DELETE FROM partitions WHERE id = ?", (id_,))

    def read_suspects(self) -> dict[str, str]:
        """Read devices that are to be quarantined: address -> why."""
        with self._open() as db:
            return dict(db.execute("SELECT address, reason FROM suspects"))

    def suspect(self, addresses: Iterable[str], reason: str) -> None:
        """Note that devices are to be quarantined."""
        with self._open() as db:
            db.executemany(
                "INSERT OR REPLACE INTO suspects VALUES (?, ?)",
                [(one, reason) for one in addresses],
            )

    def clear_suspect(self, address: str) -> None:
        """Note that a device was quarantined."""
        with self._open() as db:
            db.execute("DELETE FROM suspects WHERE address = ?", (address,))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Give the database; what is written to it is one transaction."""
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except (sqlite3.Error, ValueError) as error:
                raise errors.LedgerUnusable(
                    path=self.path, error=error
                ) from error


class Transitions:
    """Writes to the ledger what happens to devices, and counts it."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self.lock = threading.RLock()
        """Held from the reading of a state until it is changed."""
        self.counts: dict[str, int] = dict.fromkeys(Event, 0)
        """How often each event has happened since the start."""

    def write(self, record: states.Record) -> None:
        """Write the state of a device to the ledger, and log it."""
        self._ledger.change(record)
        LOG.info(
            "Device %s is %s: %s (%s)",
            record.address,
            record.state,
            record.reason,
            record.owner or "no server",
        )

    def move(self, record: states.Record, step: states.Step) -> states.Record:
        """Have an event happen to a device."""
        new = states.move(record, step, self._clock())
        self.write(new)
        self.counts[step.event] += 1
        return new

    def move_if(
        self, address: str, state: State, step: states.Step
    ) -> states.Record | None:
        """Change the state of a device, unless it has changed meanwhile."""
        with self.lock:
            record = self._ledger.get(address)
            if record is None or record.state is not state:
                return None
            return self.move(record, step)


def _read(db: sqlite3.Connection) -> list[states.Record]:
    rows = db.execute(
        "SELECT address, state, reason, since, by, owner, baseline"
        " FROM devices ORDER BY address"
    )
    return [_build_record(*row) for row in rows]


def _build_record(address: str, state: str, *values: Any) -> states.Record:
    try:
        return states.Record(address, State(state), *values)
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from None


def _read_partitions(db: sqlite3.Connection) -> list[owning.Ownership]:
    rows = db.execute(
        "SELECT id, state, owner, devices, vfs, boot, since FROM partitions"
        " ORDER BY id"
    )
    return [_build_ownership(row) for row in rows]


def _build_ownership(row: tuple[Any, ...]) -> owning.Ownership:
    try:
        return owning.Ownership.load(row)
    except ValueError as error:
        raise ValueError(f"partition {row[0]}: {error}") from None
