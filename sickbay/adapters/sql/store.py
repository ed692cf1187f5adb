"""The connections to one database: `read` and `write` are the only ways to it, and the only place where its failures are translated."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sickbay.adapters.sql.bulk import BulkInsert
from sickbay.adapters.sql.dialects import Insert, Place, place, reading_engine, upsert, writing_engine
from sickbay.adapters.sql.failures import translated
from sickbay.adapters.sql.migrate import migrate
from sickbay.errors import ErrorReason, Unavailable


class Store:
    """Made by `open_store`. Not reentrant: a `read` or `write` inside another may wait for itself."""

    def __init__(self, where: Place, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._place = where
        self._writer = writer
        self._reader = reader
        self._lock = asyncio.Lock()
        self._closed = False

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that do not depend on each other."""
        waiting: AbstractAsyncContextManager[object] = self._lock if self._place.memory else nullcontext()
        self._check_open()
        with translated():
            async with waiting, self._reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: durable when the block has been left, undone if the block raises.

        Nothing is awaited between the commit and the next line of the caller, so what it publishes there is in the order of commits.
        """
        with translated():
            async with self._turn():
                self._check_open()
                async with self._writer.begin() as connection:
                    yield connection

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Between two writes: none of ours is under way inside the block."""
        async with self._turn():
            yield

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

    def _turn(self) -> AbstractAsyncContextManager[object]:
        return self._lock if self._place.is_sqlite else nullcontext()


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Connect, bring the schema up to date, and close everything in the end.

    Raises SettingsError if the URL cannot be meant or the database is newer than this program, Unavailable if it does not answer.
    """
    where = place(url)
    # A database in memory lives while somebody is connected: the anchor outlasts connections that are broken off with their task.
    anchor = closing(sqlite3.connect(where.memory, uri=True)) if where.memory else nullcontext()
    with anchor:
        writer = writing_engine(where)
        store = Store(where, writer, reading_engine(where, writer))
        try:
            with translated():
                await migrate(writer)
            yield store
        finally:
            await store.close()
