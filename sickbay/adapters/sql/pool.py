"""The sessions of daily work with a PostgreSQL, and when they are thrown away: those to a server that was demoted must serve nobody.

Each session belongs to an era, which ends when there is reason to doubt the server (`renew`): a session was refused or lost, the server
has become read-only, the link was lost or made anew. A session of an era before is closed instead of being given to anybody. Eras are
counted and not timed, as SQLAlchemy does it: two moments of one tick are two eras, and a clock that is set back changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sickbay.adapters.sql.postgres import CLOSE_S, Server
from sickbay.domain.errors import Unavailable

SIZE: Final = 5
WAIT_S: Final = 10.0
SPENT: Final = frozenset({"25006", "25P02", "25P03", "40001", "57P01", "57P02", "57P03", "57P04", "57P05"})
"""SQLSTATE of a session that is of no more use: its server is read-only (a primary that was demoted), its transaction is stuck, the server
or its administrator ends it, or a standby had to give way to its recovery."""
_READ_ONLY: Final = ("default_transaction_read_only", "in_hot_standby")
"""What a server reports by itself, from PostgreSQL 14 on: it has become read-only."""


class Pool:
    """Up to SIZE sessions kept, twice that under load."""

    def __init__(self, where: Server) -> None:
        self._where = where
        self._era = 0
        self._sessions: WeakKeyDictionary[asyncpg.Connection, tuple[int, bool]] = WeakKeyDictionary()
        self._turns: set[Callable[[], None]] = set()
        self.doubted: Callable[[], None] = lambda: None
        """Called when a session has shown that something is wrong with its server."""
        options = {"pool_size": SIZE, "max_overflow": SIZE, "pool_timeout": WAIT_S}
        self.engine: AsyncEngine = create_async_engine("postgresql+sickbay://", async_creator=self._connect, pool_use_lifo=True, **options)
        event.listen(self.engine.sync_engine, "checkout", self._check)
        event.listen(self.engine.sync_engine, "handle_error", self._examine)

    def renew(self) -> None:
        """Give nobody a session that was begun before now, and end the turns that such sessions hold."""
        self._era += 1
        for end in tuple(self._turns):
            end()

    def doubt(self) -> None:
        """Renew, and have the link look at the server."""
        self.renew()
        self.doubted()

    @asynccontextmanager
    async def turn(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Break the block off with Unavailable when the session that holds a lock for it is lost or thrown away: the lock is gone then.

        After a block that was broken off the session is closed.
        """
        session: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:

                def end(*_: object) -> None:
                    if not limit.expired():
                        limit.reschedule(loop.time())

                self._turns.add(end)
                session.add_termination_listener(end)
                try:
                    if self._is_over(session):
                        end()
                    yield
                finally:
                    self._turns.discard(end)
                    session.remove_termination_listener(end)
        except TimeoutError:
            if limit.expired():
                raise Unavailable("the session that held this lock was lost; acquiring it again") from None
            raise
        finally:
            if self._is_over(session):
                session.terminate()
                await connection.invalidate()

    async def close(self) -> None:
        """Say goodbye to the server, if it listens."""
        await asyncio.gather(*(_leave(session) for session in tuple(self._sessions)))
        await self.engine.dispose()

    async def _connect(self) -> asyncpg.Connection:
        era = self._era  # of the beginning: what happens meanwhile makes it an old one
        session = await self._where.connect()
        self._sessions[session] = (era, _is_read_only(session))
        return session

    def _is_over(self, session: asyncpg.Connection) -> bool:
        return session.is_closed() or self._sessions[session][0] != self._era

    def _check(self, connection: Any, _record: object, _proxy: object) -> None:
        """Give nobody a session that is over; it costs no round trip to see that, as a ping would."""
        session = connection.driver_connection
        if not self._is_over(session) and _is_read_only(session) and not self._sessions[session][1]:
            self.doubt()
        if self._is_over(session):
            session.terminate()  # a goodbye might have to wait for a silent server
            raise DisconnectionError

    def _examine(self, context: Any) -> None:
        error = context.original_exception
        if isinstance(error, asyncpg.InternalClientError) or getattr(error, "sqlstate", None) in SPENT:
            context.is_disconnect = True
        if context.is_disconnect:
            context.invalidate_pool_on_disconnect = False  # it goes by the wall clock
            self.doubt()


def _is_read_only(session: asyncpg.Connection) -> bool:
    settings = session.get_settings()
    return any(getattr(settings, name, "off") == "on" for name in _READ_ONLY)


async def _leave(session: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):  # whatever it is, the driver has cut the connection then
        await session.close(timeout=CLOSE_S)
