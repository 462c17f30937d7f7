# SPDX-License-Identifier: Apache-2.0

"""The connections to SQLite, for what only the connection itself knows."""

import sqlite3


def keep_connections(monkeypatch):
    """List the connections that are made from now on, the newest last."""
    made = []
    connect = sqlite3.connect

    def keep(*arguments, **options):
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", keep)
    return made
