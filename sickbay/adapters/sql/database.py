"""The connections to one database: the only ways to it, and the only place where its failures are translated."""

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
from sickbay.adapters.sql.errors import SENTENCE, translated, why
from sickbay.adapters.sql.grants import lacking
from sickbay.adapters.sql.migrate import check, migrate
from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.errors import ErrorReason, Unavailable
from sickbay.domain.health import Streak
from sickbay.ports import Clock
from sickbay.system.clock import SteadyClock

_ALONE: Final = "hashtextextended(current_schema() || '.sickbay.' || :what, 0)"
_TRY_ALONE: Final = text(
    "SELECT CASE WHEN NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::bool"
    f" THEN pg_try_advisory_lock({_ALONE}) END"
)
"""Null on a server that takes no writes: those who hold the same lock on the primary are not seen there."""
_NO_LONGER_ALONE: Final = text(f"SELECT pg_advisory_unlock({_ALONE})")


class Database:
    """Made by `open_store`; refuses all work before `prepare`. Not reentrant: one `read` or `write` in another may wait for itself.

    Whoever reads or writes does so in a task of `detached`. A statement that is broken off with its caller leaves its connection to be
    thrown away, and on SQLite what is left of a statement holds its lock on the file until the garbage collector comes by.
    """

    def __init__(self, where: DatabaseLocation, clock: Clock, *, own_time: bool = False) -> None:
        self._place = where
        self.own_time = own_time
        self.time = _time_of(where, clock, own_time=own_time)
        """The one clock of every lease, in SQL."""
        self.pool = Pool(where.server) if where.server else None
        self._writer = writing_engine(where, self.pool)
        self._reader = reading_engine(where, self._writer)
        self._snapshots = snapshot_engine(where, self._writer)
        self._lock = asyncio.Lock()
        self.detached = DetachedTasks()
        self._prepared = False
        self._closed = False
        self._reads, self._writes, self._shrinks = Streak(), Streak(), Streak()

    async def prepare(self, *, migrates: bool) -> None:
        """Bring the tables and who may use them up to date, or only see that they are.

        Raises SettingsError if a newer program made them, Unavailable if they are missing, older, or cannot be seen.
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
                await migrate(migrating_engine(self._place, self._writer))
        self._prepared = True

    @property
    def trouble(self) -> str:
        """What calls to the database fail for, one after the other, in words that give nothing away; "" if they do not."""
        if why := self._reads.trouble:
            return f"the ledger cannot be read: {why}"
        return f"the ledger cannot be written: {why}" if (why := self._writes.trouble or self._shrinks.trouble) else ""

    def forgive(self) -> None:
        """The server was found anew: what failed before does not count."""
        self._reads.succeed()
        self._writes.succeed()
        self._shrinks.succeed()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that do not depend on each other."""
        waiting: AbstractAsyncContextManager[object] = self._lock if self._place.memory else nullcontext()
        self._check_open()
        with _heard(self._reads), translated():
            async with waiting, self._reader.connect() as connection, self._given_up(connection):
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see the same moment."""
        self._check_open()
        with _heard(self._reads), translated():
            async with self._snapshots.begin() as connection, self._given_up(connection):
                yield connection

    @asynccontextmanager
    async def write(self, *, grows: bool = True) -> AsyncIterator[AsyncConnection]:
        """A transaction: durable when the block has been left, undone if the block raises.

        One that does not grow (it deletes, notifies, or as a rule finds nothing to change) works on a full disk, too, and so does not end
        the trouble of those that do.

        On SQLite nothing is awaited between the commit and the next line of the caller, so what it publishes there is in the order of
        commits.
        """
        with _heard(*(self._writes, self._shrinks) if grows else (self._shrinks,)), translated():
            async with self._turn():
                self._check_open()
                async with self._writer.begin() as connection, self._given_up(connection):
                    yield connection

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Between two writes: none of ours is under way inside the block."""
        async with self._turn():
            yield

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[bool]:
        """Whether nobody else on this database is in a block of the same name; on SQLite there is nobody else.

        The server lets go when our connection is lost, so somebody may enter before we have noticed that; when we have, or when the server
        is no longer the one that takes writes, the block is broken off with Unavailable.
        """
        if self.pool is None:
            yield True
            return
        async with self.read() as connection:
            taken = (await connection.execute(_TRY_ALONE, {"what": what})).scalar_one()
            if taken is None:
                self.pool.doubt()
                raise Unavailable(SENTENCE)
            if not taken:
                yield False
                return
            try:
                async with self.pool.turn(connection):
                    yield True
            finally:
                if not connection.invalidated:
                    await _let_go(connection, what)

    async def lock(self, connection: AsyncConnection, job_ids: Iterable[str]) -> None:
        """Take the rows in the order of their ids, as every writer of several does, so that two never wait for each other."""
        if not self._place.is_sqlite:
            await connection.execute(select(jobs.c.job_id).where(jobs.c.job_id.in_(job_ids)).order_by(jobs.c.job_id).with_for_update())

    def insert(self, table: Table) -> Insert:
        """An INSERT with ON CONFLICT for this database."""
        return upsert(self._place, table)

    def bulk(self, statement: Insert, columns: Sequence[str]) -> BulkInsert:
        """The statement, made ready for many rows at once."""
        return BulkInsert(statement, columns, self._writer.dialect)

    async def close(self) -> None:
        """Let what is under way end, refuse all else; closing twice is harmless."""
        await self.detached.close()
        async with self._turn():
            self._closed = True
        if self.pool:
            await self.pool.close()
        await self._reader.dispose()
        await self._writer.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the ledger is closed", ErrorReason.SHUTTING_DOWN)
        if not self._prepared:
            raise Unavailable(SENTENCE)

    @asynccontextmanager
    async def _given_up(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """After a timeout the server cannot be asked to roll back either: drop the connection, which has the same effect.

        It has not even said that it broke the statement off, so no other connection to it is trusted either.
        """
        try:
            yield
        except TimeoutError:
            if self.pool:
                self.pool.doubt()
            await connection.invalidate()
            raise

    def _turn(self) -> AbstractAsyncContextManager[object]:
        return self._lock if self._place.is_sqlite else nullcontext()


def _time_of(where: DatabaseLocation, clock: Clock, *, own_time: bool) -> ColumnElement[int]:
    if not own_time:
        return clock_time(clock)
    return clock_time(SteadyClock()) if where.is_sqlite else server_time()


async def _let_go(connection: AsyncConnection, what: str) -> None:
    """If the server cannot be told, drop the connection, which has the same effect; the pool would keep it, and our turn with it."""
    try:
        await connection.execute(_NO_LONGER_ALONE, {"what": what})
    except BaseException:
        await connection.invalidate()
        raise


@contextmanager
def _heard(own: Streak, *others: Streak) -> Iterator[None]:
    """Keep what became of a call: one that works ends the trouble of others, too.

    What a caller raises for a reason of its own (there is no such job) says nothing of the database.
    """
    try:
        yield
    except Unavailable as error:
        if error.__cause__ is not None:
            own.fail(why(error))
        raise
    for streak in (own, *others):
        streak.succeed()


@asynccontextmanager
async def open_store(where: DatabaseLocation, clock: Clock, *, own_time: bool = False) -> AsyncIterator[Database]:
    """The connections to a place, made as they are needed, and closed in the end; `own_time` as in `open_ledger`."""
    # A database in memory lives while somebody is connected: the anchor outlasts connections that are broken off with their task.
    anchor = closing(sqlite3.connect(where.memory, uri=True)) if where.memory else nullcontext()
    with anchor:
        store = Database(where, clock, own_time=own_time)
        try:
            yield store
        finally:
            await store.close()
