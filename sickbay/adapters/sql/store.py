"""The connections to one database: the only ways to it, and the only place where its failures are translated."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from typing import Final

from sqlalchemy import Table, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.bulk import BulkInsert
from sickbay.adapters.sql.dialects import Insert, Place, migrating_engine, reading_engine, snapshot_engine, upsert, writing_engine
from sickbay.adapters.sql.failures import SENTENCE, translated
from sickbay.adapters.sql.migrate import check, migrate
from sickbay.adapters.sql.schema import jobs
from sickbay.errors import ErrorReason, Unavailable

_ALONE: Final = "hashtextextended(current_schema() || '.sickbay.' || :what, 0)"
_TRY_ALONE: Final = text(f"SELECT pg_try_advisory_lock({_ALONE})")
_NO_LONGER_ALONE: Final = text(f"SELECT pg_advisory_unlock({_ALONE})")


class Store:
    """Made by `open_store`; refuses all work before `prepare`. Not reentrant: one `read` or `write` in another may wait for itself."""

    def __init__(self, where: Place) -> None:
        self._place = where
        self._writer = writing_engine(where)
        self._reader = reading_engine(where, self._writer)
        self._snapshots = snapshot_engine(where, self._writer)
        self._lock = asyncio.Lock()
        self._prepared = False
        self._closed = False

    async def prepare(self, *, migrates: bool) -> None:
        """Bring the tables up to date, or only see that they are.

        Raises SettingsError if a newer program made them, Unavailable if they are missing, older, or cannot be seen.
        """
        with translated():
            async with self._reader.connect() as connection:
                current = await connection.run_sync(check)
            if not current and not migrates:
                raise Unavailable("the tables of the ledger are not there yet, or older than this program: the control plane makes them")
            if not current:
                await migrate(migrating_engine(self._place, self._writer))
        self._prepared = True

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that do not depend on each other."""
        waiting: AbstractAsyncContextManager[object] = self._lock if self._place.memory else nullcontext()
        self._check_open()
        with translated():
            async with waiting, self._reader.connect() as connection, _given_up(connection):
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see the same moment."""
        self._check_open()
        with translated():
            async with self._snapshots.begin() as connection, _given_up(connection):
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: durable when the block has been left, undone if the block raises.

        On SQLite nothing is awaited between the commit and the next line of the caller, so what it publishes there is in the order of
        commits.
        """
        with translated():
            async with self._turn():
                self._check_open()
                async with self._writer.begin() as connection, _given_up(connection):
                    yield connection

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Between two writes: none of ours is under way inside the block."""
        async with self._turn():
            yield

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[bool]:
        """Whether nobody else on this database is in a block of the same name; on SQLite there is nobody else.

        The server lets go when our connection is lost, so somebody may enter before we have noticed that.
        """
        if self._place.is_sqlite:
            yield True
            return
        async with self.read() as connection:
            taken = bool((await connection.execute(_TRY_ALONE, {"what": what})).scalar_one())
            try:
                yield taken
            finally:
                if taken:
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
        """Let the write under way end, refuse all others; closing twice is harmless."""
        async with self._turn():
            self._closed = True
        await self._reader.dispose()
        await self._writer.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the ledger is closed", ErrorReason.SHUTTING_DOWN)
        if not self._prepared:
            raise Unavailable(SENTENCE)

    def _turn(self) -> AbstractAsyncContextManager[object]:
        return self._lock if self._place.is_sqlite else nullcontext()


async def _let_go(connection: AsyncConnection, what: str) -> None:
    """If the server cannot be told, drop the connection, which has the same effect; the pool would keep it, and our turn with it."""
    try:
        await connection.execute(_NO_LONGER_ALONE, {"what": what})
    except BaseException:
        await connection.invalidate()
        raise


@asynccontextmanager
async def _given_up(connection: AsyncConnection) -> AsyncIterator[None]:
    """After a timeout the server cannot be asked to roll back either: drop the connection, which has the same effect."""
    try:
        yield
    except TimeoutError:
        await connection.invalidate()
        raise


@asynccontextmanager
async def open_store(where: Place) -> AsyncIterator[Store]:
    """The connections to a place, made as they are needed, and closed in the end."""
    # A database in memory lives while somebody is connected: the anchor outlasts connections that are broken off with their task.
    anchor = closing(sqlite3.connect(where.memory, uri=True)) if where.memory else nullcontext()
    with anchor:
        store = Store(where)
        try:
            yield store
        finally:
            await store.close()
