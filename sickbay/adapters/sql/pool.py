"""The pool of PostgreSQL sessions, and when they are discarded: sessions to a demoted server must not be used.

Each session belongs to an era, which ends when there is reason to doubt the server (`renew`): a session was refused or lost, the server
has become read-only, the link was lost or reconnected. A session of an earlier era is closed instead of being used. Eras are a counter
and not a time as in SQLAlchemy: two events in one tick are two eras, and setting the clock back has no effect.
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
FATAL_STATES: Final = frozenset({"25006", "25P02", "25P03", "40001", "57P01", "57P02", "57P03", "57P04", "57P05"})
"""SQLSTATE of a session that cannot be used any more: its server is read-only (a demoted primary), its transaction is aborted or timed out,
the server or its administrator ends it, or a conflict with recovery on a standby."""
_READ_ONLY: Final = ("default_transaction_read_only", "in_hot_standby")
"""Parameters that a server reports by itself, from PostgreSQL 14 on, when it becomes read-only."""


class Pool:
    """Keeps up to SIZE sessions, twice that under load."""

    def __init__(self, where: Server) -> None:
        self._where = where
        self._era = 0
        self._sessions: WeakKeyDictionary[asyncpg.Connection, tuple[int, bool]] = WeakKeyDictionary()
        self._lock_enders: set[Callable[[], None]] = set()
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when an error of a session puts its server in doubt."""
        options = {"pool_size": SIZE, "max_overflow": SIZE, "pool_timeout": WAIT_S}
        self.engine: AsyncEngine = create_async_engine("postgresql+sickbay://", async_creator=self._connect, pool_use_lifo=True, **options)
        event.listen(self.engine.sync_engine, "checkout", self._check_session)
        event.listen(self.engine.sync_engine, "handle_error", self._on_error)

    def renew(self) -> None:
        """Start a new era: older sessions are not used any more, and blocks whose locks they hold are interrupted."""
        self._era += 1
        for end in tuple(self._lock_enders):
            end()

    def doubt(self) -> None:
        """Start a new era, and make the link check the server."""
        self.renew()
        self.on_doubt()

    @asynccontextmanager
    async def hold_lock(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Interrupt the block with Unavailable when the session that holds its lock is lost or discarded: the lock is gone then.

        The session of an interrupted block is closed.
        """
        session: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:

                def end(*_: object) -> None:
                    if not limit.expired():
                        limit.reschedule(loop.time())

                self._lock_enders.add(end)
                session.add_termination_listener(end)
                try:
                    if self._is_expired(session):
                        end()
                    yield
                finally:
                    self._lock_enders.discard(end)
                    session.remove_termination_listener(end)
        except TimeoutError:
            if limit.expired():
                raise Unavailable("the session that held this lock was lost; acquiring it again") from None
            raise
        finally:
            if self._is_expired(session):
                session.terminate()
                await connection.invalidate()

    async def close(self) -> None:
        """Close all sessions, gracefully if the server answers."""
        await asyncio.gather(*(_close_session(session) for session in tuple(self._sessions)))
        await self.engine.dispose()

    async def _connect(self) -> asyncpg.Connection:
        era = self._era  # read before connecting: if a new era starts meanwhile, this session is an old one
        session = await self._where.connect()
        self._sessions[session] = (era, _is_read_only(session))
        return session

    def _is_expired(self, session: asyncpg.Connection) -> bool:
        return session.is_closed() or self._sessions[session][0] != self._era

    def _check_session(self, connection: Any, _record: object, _proxy: object) -> None:
        """Refuse an expired session at checkout; unlike a ping this needs no round trip."""
        session = connection.driver_connection
        if not self._is_expired(session) and _is_read_only(session) and not self._sessions[session][1]:
            self.doubt()
        if self._is_expired(session):
            session.terminate()  # a graceful close might wait for a dead server
            raise DisconnectionError

    def _on_error(self, context: Any) -> None:
        error = context.original_exception
        if isinstance(error, asyncpg.InternalClientError) or getattr(error, "sqlstate", None) in FATAL_STATES:
            context.is_disconnect = True
        if context.is_disconnect:
            context.invalidate_pool_on_disconnect = False  # it goes by the wall clock
            self.doubt()


def _is_read_only(session: asyncpg.Connection) -> bool:
    settings = session.get_settings()
    return any(getattr(settings, name, "off") == "on" for name in _READ_ONLY)


async def _close_session(session: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):  # whatever it is, the driver has closed the connection then
        await session.close(timeout=CLOSE_S)
