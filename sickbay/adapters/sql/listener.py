"""The connection for notifications of other processes' writes; it also decides whether the ledger can be used.

It reconnects by itself, with exponential back-off and jitter, so that a fleet does not reconnect all at once. The first connection also
prepares the tables; until then the ledger is not ready, so a service can be started before its PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Final, Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from sickbay.adapters.sql.errors import DRIVER_ERRORS, NO_WRITES, reason_of, translated
from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.postgres import CLOSE_S, Server
from sickbay.adapters.sql.postgres_feed import CHANNEL, PostgresChangeFeed
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import SettingsError, Unavailable

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
STEADY_S: Final = 10.0
"""After a connection that lasted longer the back-off starts over."""
HEARTBEAT_S: Final = 10.0
ANSWER_S: Final = 5.0
_TAKES_NO_WRITES: Final = """
    SELECT pg_is_in_recovery()
        OR current_setting('transaction_read_only')::bool AND source NOT IN ('client', 'database', 'user', 'database user'),
        current_setting('transaction_read_only')::bool
    FROM pg_settings WHERE name = 'default_transaction_read_only'
"""
"""Whether the server is read-only, not counting a setting of our role or this database, which is intended; and whether our session is."""

log = logging.getLogger(__name__)


class SessionSource(Protocol):
    """Whether the ledger can be used now."""

    @property
    def is_up(self) -> bool:
        """Whether it answered the last check; a write may fail nevertheless."""

    @property
    def trouble(self) -> str:
        """Why it cannot be used, or not written, without secrets; "" if it can."""

    async def wait_up(self) -> None:
        """Return once it is up; SettingsError if that is impossible, because of its URL or because a newer program made its tables."""


class AlwaysUp:
    """The link to a file: always up once it is open."""

    is_up: Final = True
    trouble: Final = ""

    async def wait_up(self) -> None:
        """Return at once."""


class PostgresListener:
    """Implements `SessionSource`. `prepare` prepares the tables, and is repeated until it has succeeded once.

    Sessions older than this connection are not used: when it is lost, and when it is made again, the pool is renewed.
    """

    def __init__(self, server: Server, pool: Pool, feed: PostgresChangeFeed, prepare: Callable[[], Awaitable[None]]) -> None:
        self._server = server
        self._pool = pool
        self._feed = feed
        self._prepare = prepare
        self._prepared = False
        self._up = asyncio.Event()
        self._fatal: SettingsError | None = None
        self._connection: asyncpg.Connection | None = None
        self._check_due = asyncio.Event()
        """Set when the connection was lost, or a session of the pool doubts the server."""
        self._reason = ""
        self._is_read_only = False
        pool.on_doubt = self._check_due.set

    @property
    def is_up(self) -> bool:
        """Whether notifications arrive, and so the server is up."""
        return self._fatal is None and self._up.is_set()

    @property
    def trouble(self) -> str:
        """Why it cannot be used, or not written; "" if it can."""
        if not self.is_up:
            return "PostgreSQL is unavailable" if not self._reason else f"PostgreSQL is unavailable: {self._reason}"
        return "PostgreSQL is read-only" if self._is_read_only else ""

    async def wait_up(self) -> None:
        """Return once it is up; SettingsError if that is impossible."""
        await self._up.wait()
        if self._fatal:
            raise self._fatal

    async def connect(self) -> None:
        """Try to connect once; SettingsError, or Unavailable with the driver's error as its cause."""
        try:
            await self._connect()
        except BaseException:
            self._disconnect()
            raise
        self._up.set()

    async def _connect(self) -> None:
        if not self._prepared:
            await self._prepare()
            self._prepared = True
        self._check_due.clear()
        with translated():
            self._connection = connection = await self._server.connect()
            connection.add_termination_listener(lambda _: self._check_due.set())
            channel = await connection.fetchval(f"SELECT {CHANNEL}")
            await self._check_server(connection)
            await connection.add_listener(channel, lambda _connection, _pid, _channel, text: self._feed.on_notification(text))
        self._pool.renew()
        await self._feed.resync()

    async def run(self) -> None:
        """Stay connected, or reconnect, until cancelled; then call `close`."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_S
        while await self._come_up():
            began = loop.time()
            await self._stay_up()
            if loop.time() - began > STEADY_S:
                pause = FIRST_PAUSE_S
                continue
            # Connected and lost at once: without a pause it would reconnect as fast as the server accepts.
            await asyncio.sleep(pause * SystemRandom().uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Close the connection, gracefully if the server answers."""
        if self._connection:
            with contextlib.suppress(OSError, *DRIVER_ERRORS):
                await self._connection.close(timeout=CLOSE_S)
        self._disconnect()

    async def _come_up(self) -> bool:
        pause = FIRST_PAUSE_S
        while not self._up.is_set():
            try:
                await self.connect()
            except SettingsError as error:
                self._fatal = error
                self._up.set()
                return False
            except Unavailable as error:
                self._log_outage(reason_of(error))
                await asyncio.sleep(pause * SystemRandom().uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        if self._reason:
            log.info("PostgreSQL is available again")
            self._reason = ""
        return True

    async def _stay_up(self) -> None:
        """Return when the connection is lost, does not answer in time, or its server accepts no more writes."""
        try:
            while connection := self._connection:
                await wait_for_event(self._check_due, HEARTBEAT_S)
                self._check_due.clear()
                if connection.is_closed():
                    break
                with translated():
                    await self._check_server(connection)
        except Unavailable as error:
            self._log_outage(reason_of(error))
        except Exception:
            self._disconnect()
            raise
        else:
            self._log_outage("the connection was lost")
        self._disconnect()

    async def _check_server(self, connection: asyncpg.Connection) -> None:
        """Raise Unavailable if the server accepts no writes, TimeoutError if it does not answer."""
        async with asyncio.timeout(ANSWER_S):
            takes_no_writes, self._is_read_only = await connection.fetchrow(_TAKES_NO_WRITES)
        if takes_no_writes:
            raise Unavailable(NO_WRITES)

    def _disconnect(self) -> None:
        self._up.clear()
        self._feed.disconnected()
        connection, self._connection = self._connection, None
        if connection:
            connection.terminate()
            self._pool.renew()

    def _log_outage(self, reason: str) -> None:
        """Log the reason, once for each and not at each try."""
        if reason != self._reason:
            log.warning("PostgreSQL is unavailable, retrying: %s", reason)
            self._reason = reason
