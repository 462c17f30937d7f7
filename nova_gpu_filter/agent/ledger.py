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

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import sqlite3
import threading
from typing import Final

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.fabric import owning

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
    """The records of all devices; safe to use from several threads."""

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
            os.makedirs(
                os.path.dirname(path) or ".", mode=0o700, exist_ok=True
            )
            self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            raise errors.LedgerUnusable(path=path, error=error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
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
            self.path, isolation_level=None, check_same_thread=False
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
            list(_read(db))
            list(_read_partitions(db))
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def read_records(self) -> dict[str, states.Record]:
        """Read all records, by address.

        :raises LedgerUnusable: it cannot be read.
        """
        with self._open_for_reading() as db:
            return {record.address: record for record in _read(db)}

    def get(self, address: str) -> states.Record | None:
        """Read the record of a device.

        :raises LedgerUnusable: it cannot be read.
        """
        return self.read_records().get(address)

    def change(self, record: states.Record) -> None:
        """Write the record of a device, and its history.

        :raises LedgerUnusable: nothing was written.
        """
        with self._lock, self._begin_transaction() as db:
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
        """Read the changes of a device, the last one first.

        :raises LedgerUnusable: it cannot be read.
        """
        with self._open_for_reading() as db:
            rows = db.execute(
                "SELECT address, state, reason, since, by, owner FROM history"
                " WHERE address = ? ORDER BY number DESC",
                (address,),
            ).fetchall()
        return tuple(_build_record((*row, "")) for row in rows)

    def read_partitions(self) -> dict[int, owning.Ownership]:
        """Read which partitions guests own, by their ids.

        :raises LedgerUnusable: it cannot be read.
        """
        with self._open_for_reading() as db:
            return {row.id: row for row in _read_partitions(db)}

    def write_owner(self, row: owning.Ownership) -> None:
        """Write who owns a partition.

        :raises LedgerUnusable: nothing was written.
        """
        with self._lock, self._begin_transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO partitions"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row.dump(),
            )

    def disown(self, id_: int) -> None:
        """Remove a partition that nobody owns any more.

        :raises LedgerUnusable: nothing was written.
        """
        with self._lock, self._begin_transaction() as db:
            db.execute("DELETE FROM partitions WHERE id = ?", (id_,))

    def read_suspects(self) -> dict[str, str]:
        """Read devices that are to be quarantined: address -> why.

        :raises LedgerUnusable: it cannot be read.
        """
        with self._open_for_reading() as db:
            rows = db.execute("SELECT address, reason FROM suspects")
            return dict(rows.fetchall())

    def suspect(self, addresses: Iterable[str], reason: str) -> None:
        """Note that devices are to be quarantined.

        :raises LedgerUnusable: nothing was written.
        """
        with self._lock, self._begin_transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO suspects VALUES (?, ?)",
                [(one, reason) for one in addresses],
            )

    def clear_suspect(self, address: str) -> None:
        """Note that a device was quarantined.

        :raises LedgerUnusable: nothing was written.
        """
        with self._lock, self._begin_transaction() as db:
            db.execute("DELETE FROM suspects WHERE address = ?", (address,))

    @contextlib.contextmanager
    def _open_for_reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise errors.LedgerUnusable(
                    path=self.path, error=error
                ) from error

    @contextlib.contextmanager
    def _begin_transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                # SQLite has ended it itself where the disk is full.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise errors.LedgerUnusable(path=self.path, error=error) from error


def _read(db: sqlite3.Connection) -> Iterator[states.Record]:
    rows = db.execute(
        "SELECT address, state, reason, since, by, owner, baseline"
        " FROM devices ORDER BY address"
    ).fetchall()
    for row in rows:
        yield _build_record(row)


def _build_record(
    row: tuple[str, str, str, float, str, str | None, str],
) -> states.Record:
    address, state, reason, since, by, owner, baseline = row
    try:
        return states.Record(
            address, states.State(state), reason, since, by, owner, baseline
        )
    except ValueError as error:
        raise sqlite3.DatabaseError(f"{address}: {error}") from error


def _read_partitions(db: sqlite3.Connection) -> Iterator[owning.Ownership]:
    rows = db.execute(
        "SELECT id, state, owner, devices, vfs, boot, since FROM partitions"
        " ORDER BY id"
    ).fetchall()
    for row in rows:
        try:
            yield owning.Ownership.load(row)
        except ValueError as error:
            raise sqlite3.DatabaseError(
                f"partition {row[0]}: {error}"
            ) from error
