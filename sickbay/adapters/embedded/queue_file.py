"""The SQLite file behind the embedded broker: one table per queue, in the queue's own name, oldest message first by `id`.

Two decisions, both from measuring a loaded process, where threads compete for the interpreter's lock (GIL):

- **SQL runs on the event loop, waiting for the disk does not.** Python's sqlite3 releases the GIL for every row, and a thread beside a
  busy loop waits milliseconds to get it back: storing 100 messages took 0.6 ms alone and 10 s beside a saturated loop. So a transaction
  is written on the loop, into the page cache (SQLite's synchronous NORMAL, which survives a kill), and `sync` makes it survive a power
  failure, too: one fdatasync of the write-ahead log, in a thread, for everything committed before. Checkpoints, the only other slow work,
  run in that thread as well.
- **One step per statement.** For the same reason (a handler may use CPU in a thread) messages are written by multi-row INSERTs, deleted
  by one DELETE and read as one JSON array (except large bodies): the GIL is released a dozen times per transaction, not per message.
"""
# ruff: noqa: S608 - the only names put into SQL are those of the enum Queue

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sickbay.adapters.embedded.own_file import MEMORY, open_own_file
from sickbay.adapters.files import PERMANENT, opening, sqlite_code, sqlite_trouble
from sickbay.domain.errors import Unavailable
from sickbay.ports import Queue

Synchronous = Literal["FULL", "NORMAL"]
"""FULL: confirmed messages survive a power failure. NORMAL: they survive the end of the process; a power failure may lose the latest."""

SCHEMA_VERSION: Final = 2
"""A Sickbay that knows only format 1 would leave the jobs in the lanes that it does not know."""

_LARGEST_INSERT: Final = 128
"""Rows per INSERT. Batches are split into powers of two up to this, so that a few prepared statements are enough."""
_LARGE_BYTES: Final = 64 * 1024
"""Larger bodies are read one by one, so that those which do not fit are not read."""
_CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
_TRANSACTION_BYTES: Final = 16 * 1024
_ROW_BYTES: Final = 256
_TRIM_PAGES: Final = 256
_NEVER: Final = 9_223_372_036_854_775_807
"""Greater than every number; anything but a number is greater still, and never due."""
_TEMPORARY: Final = "is temporarily unavailable"


class Row(NamedTuple):
    """One stored message. `due` is in ms, 0 where there is no delay; `headers` is a JSON object, or empty."""

    id: int
    due: int
    message_id: str
    headers: str
    body: bytes


class QueueFile:
    """The file and its statements. Not thread-safe: while `sync` or `checkpoint` runs in a thread, nothing else may be called."""

    def __init__(self, path: str | Path, synchronous: Synchronous) -> None:
        """Open the file, and create the tables if it is empty; SettingsError if it is not a valid queue file."""
        self.path = str(path)
        self.waits_for_disk = synchronous == "FULL" and self.path != MEMORY
        self._unsaved = 0
        self._must_rewrite = False
        self._log: int | None = None
        self._connection = open_own_file(self.path, SCHEMA_VERSION, _create)
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection.execute("CREATE TABLE IF NOT EXISTS clock (seen INTEGER NOT NULL)")  # files of older versions have none
        _add_lanes(self._connection)
        if self.path != MEMORY:
            with opening(self.path):
                self._log = os.open(f"{self.path}-wal", os.O_RDONLY)

    def close(self) -> None:
        """Checkpoint the log and close the file. Blocks for the disk: call it in a thread."""
        if self._log is not None:
            os.close(self._log)
            self._log = None
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Store everything inside the block, or nothing and raise Unavailable."""
        with _translated(Path(self.path)):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                raise
        self._unsaved += _TRANSACTION_BYTES

    def sync(self) -> None:
        """Wait until everything committed would survive a power failure. Blocks: call it in a thread."""
        if self._log is None:
            return
        try:
            os.fdatasync(self._log)
        except OSError as error:
            # The kernel may consider those pages clean now: only a checkpoint, which writes them again elsewhere, can be trusted.
            self._must_rewrite = True
            raise Unavailable("I/O error of the disk under the queue file") from error

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the log is long (an estimate), or a write to it has failed."""
        return self._log is not None and (self._must_rewrite or self._unsaved > _CHECKPOINT_BYTES)

    def checkpoint(self) -> None:
        """Move the log's content into the file, durably, so that the log starts over. Blocks: call it in a thread."""
        with _translated(Path(self.path)):
            _, logged, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._must_rewrite and logged != moved:
            raise Unavailable("the queue file is locked by another program and cannot be repaired now")
        self._must_rewrite = False
        self._unsaved = 0

    def trim(self) -> None:
        """Free some pages of the file when most of it is empty (after the backlog of an outage); if it fails, later."""
        with suppress(sqlite3.Error):
            free, pages = self._number("PRAGMA freelist_count"), self._number("PRAGMA page_count")
            if free > _TRIM_PAGES and free > pages // 2:
                # As a script, because `execute` takes one step only, which frees a single page.
                self._connection.executescript(f"PRAGMA incremental_vacuum({_TRIM_PAGES})")

    def insert(self, queue: Queue, rows: Sequence[Row]) -> None:
        """Append the messages."""
        start = 0
        while start < len(rows):
            size = min(_LARGEST_INSERT, 1 << (len(rows) - start).bit_length() - 1)
            sql = f'INSERT INTO "{queue}" VALUES (?,?,?,?,?)' + ",(?,?,?,?,?)" * (size - 1)
            self._connection.execute(sql, tuple(chain.from_iterable(rows[start : start + size])))
            start += size
        self._unsaved += sum(len(row.body) + _ROW_BYTES for row in rows)

    def delete(self, queue: Queue, ids: Sequence[int]) -> None:
        """Delete the messages; missing ones are ignored."""
        self._connection.execute(f'DELETE FROM "{queue}" WHERE id IN (SELECT value FROM json_each(?))', (_array(ids),))
        self._unsaved += len(ids) * _ROW_BYTES

    def after(self, queue: Queue, position: int, limit: int, most_bytes: int, *, is_first: bool) -> list[Row]:
        """The next messages after the position, up to `most_bytes`, oldest first; the very first may be larger."""
        select = f'SELECT * FROM "{queue}" WHERE id > ? ORDER BY id LIMIT ?'
        return self._rows(queue, select, (position, limit), most_bytes, is_first=is_first)

    def with_ids(self, queue: Queue, ids: Sequence[int], most_bytes: int, *, is_first: bool) -> list[Row]:
        """The messages with these ids, up to `most_bytes`, oldest first; the very first may be larger."""
        select = f'SELECT * FROM "{queue}" WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id'
        return self._rows(queue, select, (_array(ids),), most_bytes, is_first=is_first)

    def due(self, queue: Queue, now: int, limit: int, most_bytes: int) -> list[Row]:
        """The messages that are due, in the order of their times; at least one, and about `most_bytes`."""
        return self._rows(
            queue, f'SELECT * FROM "{queue}" WHERE due <= ? ORDER BY due, id LIMIT ?', (now, limit), most_bytes, is_first=True
        )

    def next_due(self, queue: Queue) -> int | None:
        """When the next delay ends (ms), None if nothing is delayed."""
        row = self._connection.execute(f'SELECT min(due) FROM "{queue}" WHERE due < {_NEVER}').fetchone()
        return None if row[0] is None else int(row[0])

    def store_clock(self, now: int) -> None:
        """Inside a transaction, store the time by which delays were computed."""
        if not self._connection.execute("UPDATE clock SET seen = ?", (now,)).rowcount:
            self._connection.execute("INSERT INTO clock VALUES (?)", (now,))

    def shift_delays(self, queue: Queue, now: int) -> None:
        """On opening: if the clock is behind the stored time, move the ends of delays back by the difference."""
        back = self._number("SELECT coalesce(max(seen), 0) FROM clock") - now
        if back > 0:
            with self.transaction():
                self._connection.execute(f'UPDATE "{queue}" SET due = max(1, due - ?)', (back,))
                self.store_clock(now)

    def count(self, queue: Queue) -> int:
        """How many messages are stored; reads the whole table."""
        return self._number(f'SELECT count(*) FROM "{queue}"')

    def ids_until(self, queue: Queue, position: int) -> list[int]:
        """The ids of the messages up to the position, oldest first."""
        return [row[0] for row in self._connection.execute(f'SELECT id FROM "{queue}" WHERE id <= ? ORDER BY id', (position,))]

    def position(self, queue: Queue) -> int:
        """The greatest id ever delivered from the queue."""
        return self._number("SELECT position FROM positions WHERE queue = ?", (queue.value,))

    def move_position(self, queue: Queue, position: int) -> None:
        """Store that every message up to here may have been delivered."""
        self._connection.execute("UPDATE positions SET position = ? WHERE queue = ?", (position, queue.value))

    def last_id(self) -> int:
        """The greatest id in use, so that ids are unique and always rise."""
        tables = " UNION ALL ".join(f'SELECT max(id) AS id FROM "{queue}"' for queue in Queue)
        return self._number(f"SELECT max(coalesce(max(id), 0), (SELECT max(position) FROM positions)) FROM ({tables})")

    def _number(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return int(self._connection.execute(sql, parameters).fetchone()[0])

    def _rows(self, queue: Queue, select: str, parameters: Sequence[object], most_bytes: int, *, is_first: bool) -> list[Row]:
        """The rows of a SELECT, in its order, up to the first that does not fit; columns with unexpected types are converted.

        The bodies come as one BLOB, one after the other: as hexadecimal digits in the JSON they would take 3 to 20 times as long.
        """
        texts = "CAST(message_id AS TEXT), CAST(headers AS TEXT)"
        columns = f"json_group_array(json_array(id, CAST(due AS INTEGER), {texts}, length(CAST(body AS BLOB))))"
        bodies = f"CAST(group_concat(iif(length(CAST(body AS BLOB)) > {_LARGE_BYTES}, '', CAST(body AS TEXT)), '') AS BLOB)"
        text, joined = self._connection.execute(f"SELECT {columns}, {bodies} FROM ({select})", parameters).fetchone()
        rows: list[Row] = []
        start = 0
        for number, due, message_id, headers, size in json.loads(text, strict=False):
            most_bytes -= size
            if most_bytes < 0 and (rows or not is_first):
                break
            body = self._body(queue, number) if size > _LARGE_BYTES else joined[start : start + size]
            rows.append(Row(number, due, message_id, headers, body))
            start += size if size <= _LARGE_BYTES else 0
        return rows

    def _body(self, queue: Queue, number: int) -> bytes:
        body: bytes = self._connection.execute(f'SELECT CAST(body AS BLOB) FROM "{queue}" WHERE id = ?', (number,)).fetchone()[0]
        return body


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise Unavailable(f"the queue file {_TEMPORARY}") from error
    except sqlite3.Error as error:
        is_full = sqlite_code(error) == sqlite3.SQLITE_FULL
        problem = f"cannot be used: {sqlite_trouble(error, path)}" if sqlite_code(error) in PERMANENT else _TEMPORARY
        raise Unavailable("disk full under the queue file" if is_full else f"the queue file {problem}") from error


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE positions (queue TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID")
    _create_queues(connection)
    connection.execute(f'CREATE INDEX due ON "{Queue.RETRY}" (due, id)')


def _add_lanes(connection: sqlite3.Connection) -> None:
    """Files of format 1 have one lane."""
    if connection.execute("PRAGMA user_version").fetchone()[0] >= SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    _create_queues(connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _create_queues(connection: sqlite3.Connection) -> None:
    """Those that are not there yet."""
    columns = "id INTEGER PRIMARY KEY, due INTEGER NOT NULL, message_id TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL"
    for queue in Queue:
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{queue}" ({columns})')
    connection.executemany("INSERT OR IGNORE INTO positions VALUES (?, 0)", [(queue.value,) for queue in Queue])


def _array(ids: Iterable[int]) -> str:
    return f"[{','.join(map(str, ids))}]"
