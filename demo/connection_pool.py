# SPDX-License-Identifier: Apache-2.0

"""Keeps the connections to databases of SQLite that are files open.

Nova's fixtures have such databases where services run on native threads. For
these oslo.db asks for a connection to be made for each transaction
(oslo_db/sqlalchemy/engines.py), which was a fifth of all processor time.
"""

from sqlalchemy import pool


class ConnectionPool(pool.QueuePool):
    """Takes the place of :class:`sqlalchemy.pool.NullPool`."""

    def __init__(self, *args, **kwargs) -> None:
        # Nobody waits for another's connection.
        super().__init__(*args, **{"max_overflow": -1, **kwargs})
