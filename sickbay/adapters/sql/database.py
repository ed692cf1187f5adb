"""The connections to one database: the only access to it, and the only place where its errors are translated."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, nullcontext
from typing import Final

from sqlalchemy import ColumnElement, Table, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.bulk import BulkInsert
from sickbay.adapters.sql.engines import (
    DatabaseLocation,
    Insert,
    clock_time,
    migrating_engine,
    reading_engine,
    server_time,
    snapshot_engine,
    upsert,
    writing_engine,
)
from sickbay.adapters.sql.errors import UNAVAILABLE, reason_of, translated
from sickbay.adapters.sql.grants import lacking
from sickbay.adapters.sql.migrate import check, migrate
from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.errors import ErrorReason, Unavailable
from sickbay.domain.health import Streak
from sickbay.ports import Clock
from sickbay.system.clock import SteadyClock

_LOCK_KEY: Final = "hashtextextended(current_schema() || '.sickbay.' || :what, 0)"
_TRY_LOCK: Final = text(
    "SELECT CASE WHEN NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::bool"
    f" THEN pg_try_advisory_lock({_LOCK_KEY}) END"
)
"""Null on a server that accepts no writes: locks held on the primary are not visible there."""
_UNLOCK: Final = text(f"SELECT pg_advisory_unlock({_LOCK_KEY})")


class Database:
    """Created by `open_store`; raises Unavailable before `prepare`. Not reentrant: one `read` or `write` in another may deadlock.

    Read and write in a task of `detached`: a statement that is cancelled with its caller loses its connection, and on SQLite it keeps its
    lock on the file until the garbage collector runs.
    """

    def __init__(self, where: DatabaseLocation, clock: Clock, *, own_time: bool = False) -> None:
        self._location = where
        self.own_time = own_time
        self.time = _time_of(where, clock, own_time=own_time)
        """The clock of all leases, in SQL."""
        self.wall_time = server_time() if own_time and where.server else clock_time(clock)
        """The clock of what is to happen at a time of day, in SQL: it follows a clock that is set."""
        self.pool = Pool(where.server) if where.server else None
        self._writer = writing_engine(where, self.pool)
        self._reader = reading_engine(where, self._writer)
        self._snapshots = snapshot_engine(where, self._writer)
        self._lock = asyncio.Lock()
        self.detached = DetachedTasks()
        self._prepared = False
        self._closed = False
        self._reads, self._writes, self._shrinks = Streak(), Streak(), Streak()
        self.written = 0
        """How many transactions that may need disk space have succeeded."""

    async def prepare(self, *, migrates: bool) -> None:
        """Bring the tables and their grants up to date, or only check the tables.

        Raises SettingsError if a newer program made them, Unavailable if they are missing, older, or cannot be read.
        """
        with translated():
            async with self._reader.connect() as connection:
                current = await connection.run_sync(check)
                granted = not migrates or not await connection.run_sync(lacking)
            if not current and not migrates:
                raise Unavailable(
                    "the tables of the ledger do not exist yet, or are older than this program: the control plane creates them"
                )
            if not current or not granted:
                await migrate(migrating_engine(self._location, self._writer))
        self._prepared = True

    @property
    def trouble(self) -> str:
        """Why consecutive calls to the database fail, without secrets; "" if they do not."""
        if why := self._reads.trouble:
            return f"the ledger cannot be read: {why}"
        return f"the ledger cannot be written: {why}" if (why := self._writes.trouble or self._shrinks.trouble) else ""

    def clear_trouble(self) -> None:
        """Connected again: earlier failures do not count."""
        self._reads.succeed()
        self._writes.succeed()
        self._shrinks.succeed()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that do not depend on each other."""
        waiting: AbstractAsyncContextManager[object] = self._lock if self._location.memory else nullcontext()
        self._check_open()
        with _tracked(self._reads), translated():
            async with waiting, self._reader.connect() as connection, self._dropped_on_timeout(connection):
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see the same snapshot."""
        self._check_open()
        with _tracked(self._reads), translated():
            async with self._snapshots.begin() as connection, self._dropped_on_timeout(connection):
                yield connection

    @asynccontextmanager
    async def write(self, *, grows: bool = True, streak: Streak | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction: durable when the block has been left, rolled back if the block raises.

        Without `grows` (it deletes, notifies, or usually changes nothing) it works on a full disk, too, so its success does not end the
        trouble of other writes. The result of a write with a `streak` is recorded only there.

        On SQLite nothing is awaited between the commit and the caller's next line, so what that publishes is in the order of commits.
        """
        streaks = (streak,) if streak else (self._writes, self._shrinks) if grows else (self._shrinks,)
        with _tracked(*streaks), translated():
            async with self._write_lock():
                self._check_open()
                async with self._writer.begin() as connection, self._dropped_on_timeout(connection):
                    yield connection
        if grows and streak is None:
            self.written += 1

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Wait for a moment between two writes: none of ours runs inside the block."""
        async with self._write_lock():
            yield

    @asynccontextmanager
    async def exclusive(self, what: str) -> AsyncIterator[bool]:
        """A lock of the database: True if no other process is in a block of the same name; on SQLite always True.

        The server releases it when our connection is lost, so another process may enter before we notice; when we do, or when the server
        no longer accepts writes, the block is interrupted with Unavailable.
        """
        if self.pool is None:
            yield True
            return
        async with self.read() as connection:
            taken = (await connection.execute(_TRY_LOCK, {"what": what})).scalar_one()
            if taken is None:
                self.pool.doubt()
                raise Unavailable(UNAVAILABLE)
            if not taken:
                yield False
                return
            try:
                async with self.pool.hold_lock(connection):
                    yield True
            finally:
                if not connection.invalidated:
                    await _unlock(connection, what)

    async def lock(self, connection: AsyncConnection, job_ids: Iterable[str]) -> None:
        """Lock the rows in the order of their ids, as all writers of several rows do, so that there are no deadlocks."""
        if not self._location.is_sqlite:
            await connection.execute(select(jobs.c.job_id).where(jobs.c.job_id.in_(job_ids)).order_by(jobs.c.job_id).with_for_update())

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self._location.is_sqlite

    def insert(self, table: Table) -> Insert:
        """An INSERT with ON CONFLICT for this database."""
        return upsert(self._location, table)

    def bulk(self, statement: Insert, columns: Sequence[str]) -> BulkInsert:
        """The statement, prepared for many rows at once."""
        return BulkInsert(statement, columns, self._writer.dialect)

    async def close(self) -> None:
        """Wait for running work and refuse any more; closing twice is harmless."""
        await self.detached.close()
        async with self._write_lock():
            self._closed = True
        if self.pool:
            await self.pool.close()
        await self._reader.dispose()
        await self._writer.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the ledger is closed", ErrorReason.SHUTTING_DOWN)
        if not self._prepared:
            raise Unavailable(UNAVAILABLE)

    @asynccontextmanager
    async def _dropped_on_timeout(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """After a timeout the server cannot be asked to roll back either: drop the connection, which has the same effect.

        The server did not report its own statement timeout, so the other connections to it are not trusted either.
        """
        try:
            yield
        except TimeoutError:
            if self.pool:
                self.pool.doubt()
            await connection.invalidate()
            raise

    def _write_lock(self) -> AbstractAsyncContextManager[object]:
        return self._lock if self._location.is_sqlite else nullcontext()


def _time_of(where: DatabaseLocation, clock: Clock, *, own_time: bool) -> ColumnElement[int]:
    if not own_time:
        return clock_time(clock)
    return clock_time(SteadyClock()) if where.is_sqlite else server_time()


async def _unlock(connection: AsyncConnection, what: str) -> None:
    """Release the lock; if that fails, drop the connection, which has the same effect: the pool would keep it, and the lock with it."""
    try:
        await connection.execute(_UNLOCK, {"what": what})
    except BaseException:
        await connection.invalidate()
        raise


@contextmanager
def _tracked(own: Streak, *others: Streak) -> Iterator[None]:
    """Record the result of a call in `own`; a success counts for `others`, too.

    Errors that callers raise for their own reasons (no such job) are not counted.
    """
    try:
        yield
    except Unavailable as error:
        if error.__cause__ is not None:
            own.fail(reason_of(error))
        raise
    for streak in (own, *others):
        streak.succeed()


@asynccontextmanager
async def open_store(where: DatabaseLocation, clock: Clock, *, own_time: bool = False) -> AsyncIterator[Database]:
    """The connections to a database, created as needed and closed at the end; `own_time` as in `open_ledger`."""
    # A database in memory exists while there is a connection: the anchor outlives connections that are lost with a cancelled task.
    anchor = closing(sqlite3.connect(where.memory, uri=True)) if where.memory else nullcontext()
    with anchor:
        store = Database(where, clock, own_time=own_time)
        try:
            yield store
        finally:
            await store.close()
