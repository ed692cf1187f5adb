"""The SQLite file of the embedded breakers: one row for each, written when what it lets in changes, so that a restart forgets none.

Rows are written on the event loop, into the page cache, as the queue's are (`queue_file.py`): that survives the end of the process. `sync`
makes it survive a power cut, too.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sickbay.adapters.embedded.own_file import open_own_file
from sickbay.adapters.files import opening, sqlite_trouble

SCHEMA_VERSION: Final = 1

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What is kept of one breaker."""

    name: str
    """Of its key."""
    document: str
    """As `to_json` writes it."""
    failures: int
    """In total."""


class BreakerFile:
    """The file and its statements. Only `sync` may be called in a thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, create the table in an empty one; SettingsError if it is not a healthy file of ours."""
        self._path = path
        self._unsaved: dict[str, Kept | None] = {}
        self._trouble = ""
        self._connection = open_own_file(str(path), SCHEMA_VERSION, _create)
        self._connection.execute("PRAGMA wal_autocheckpoint = 1000")
        with opening(str(path)):
            self._log = os.open(f"{path}-wal", os.O_RDONLY)

    def load(self) -> Sequence[Kept]:
        """Every breaker that was kept."""
        with opening(str(self._path)):
            return [Kept(*row) for row in self._connection.execute("SELECT name, document, failures FROM breakers ORDER BY name")]

    def keep(self, *kept: Kept) -> None:
        """Write breakers; if the disk takes nothing, that is logged, and they are written with the next one."""
        self._unsaved |= {one.name: one for one in kept}
        self._write()

    def forget(self, name: str) -> None:
        """Remove a breaker."""
        self._unsaved[name] = None
        self._write()

    def sync(self) -> None:
        """Wait for the disk; what it refuses is logged. Blocks: call it in a thread."""
        try:
            os.fdatasync(self._log)
        except OSError as error:
            log.warning("breakers may not survive a power cut: %s (%s)", error.strerror, self._path)

    def close(self) -> None:
        """Fold SQLite's log into the file and release it."""
        os.close(self._log)
        self._connection.close()

    def _write(self) -> None:
        rows = [row for row in self._unsaved.values() if row is not None]
        gone = [(name,) for name, row in self._unsaved.items() if row is None]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO breakers VALUES (?, ?, ?)", rows)
            self._connection.executemany("DELETE FROM breakers WHERE name = ?", gone)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.rollback()
            self._report(sqlite_trouble(error, self._path))
            return
        self._report("")
        self._unsaved.clear()

    def _report(self, trouble: str) -> None:
        """Log each trouble once."""
        if trouble and trouble != self._trouble:
            log.warning("breakers cannot be stored, and a restart would forget their latest changes: %s (%s)", trouble, self._path)
        self._trouble = trouble


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE breakers (name TEXT PRIMARY KEY, document TEXT NOT NULL, failures INTEGER NOT NULL) WITHOUT ROWID")
