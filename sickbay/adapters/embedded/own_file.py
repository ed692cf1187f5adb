"""Opens the SQLite files of the embedded form: for this user alone, in WAL mode, and only if they are ours and of a known format."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sickbay.adapters.files import make_private, opening
from sickbay.domain.errors import SettingsError

MEMORY: Final = ":memory:"
APPLICATION_ID: Final = 0x5369636B
"""`Sick` in ASCII: tells our files from other programs' (https://sqlite.org/pragma.html#pragma_application_id)."""
_BUSY_SECONDS: Final = 0.1
"""A person may look at the file with other tools; the loop does not stand still for them for longer than this."""


def open_own_file(path: str, version: int, create: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """Open a file, or one in memory; an empty one gets the tables that `create` makes, in one transaction.

    Commits reach the page cache (SQLite's synchronous NORMAL). SettingsError if it is not a healthy file of ours, or of a newer `version`.
    """
    with opening(path):
        if path != MEMORY:
            make_private(Path(path))
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.text_factory = _text
        try:
            _prepare(connection, path, version, create)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str, version: int, create: Callable[[sqlite3.Connection], None]) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if ours and found > version:
        raise SettingsError(f"{path} was written by a newer Sickbay (format {found}, this one knows {version}): update Sickbay")
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if not ours and not is_empty:
        raise SettingsError(f"{path} is a database of another program: choose another data folder")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "delete":
        raise SettingsError(f"{path} lies on a file system without shared memory, such as a network drive: choose a local folder")
    connection.execute("PRAGMA synchronous = NORMAL")
    if not is_empty:
        return
    connection.execute("BEGIN IMMEDIATE")
    create(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")


def _text(data: bytes) -> str:
    """What is no UTF-8 keeps nobody from reading the rest."""
    return data.decode("utf-8", "replace")
