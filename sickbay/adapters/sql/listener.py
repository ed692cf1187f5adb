"""Holds the one connection on which a process hears of the others' writes, and says whether the ledger can be used.

It is its own supervisor: a lost connection is made again after a pause that grows and is never the same twice, so a fleet does not come
back in step. The first connection also sees to the tables; until then the ledger is not ready, which is how a service can be started
before its PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Final, Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from sickbay.adapters.sql.errors import DRIVER_ERRORS, NO_WRITES, translated, why
from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.postgres import CLOSE_S, Server
from sickbay.adapters.sql.postgres_feed import CHANNEL, PostgresChangeFeed
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import SettingsError, Unavailable

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
STEADY_S: Final = 10.0
"""A connection that lived for longer was no failure to connect."""
HEARTBEAT_S: Final = 10.0
ANSWER_S: Final = 5.0
_TAKES_NO_WRITES: Final = """
    SELECT pg_is_in_recovery()
        OR current_setting('transaction_read_only')::bool AND source NOT IN ('client', 'database', 'user', 'database user'),
        current_setting('transaction_read_only')::bool
    FROM pg_settings WHERE name = 'default_transaction_read_only'
"""
"""Whether the server is read-only, and not only our role or this database, which is as its operator wants it; and whether we are, too."""

log = logging.getLogger(__name__)


class SessionSource(Protocol):
    """Whether the ledger can be used just now."""

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was asked last; a write may fail nevertheless."""

    @property
    def trouble(self) -> str:
        """Why it cannot be used, or not written, in words that give nothing away; "" if it can."""

    async def wait_up(self) -> None:
        """Return once it is up; SettingsError if it can never be, because of its URL or because a newer program made its tables."""


class AlwaysUp:
    """The link to a file: once open, it is there."""

    is_up: Final = True
    trouble: Final = ""

    async def wait_up(self) -> None:
        """Return at once."""


class PostgresListener:
    """Implements `SessionSource`. `prepare` sees to the tables, and is repeated until it has succeeded once.

    Nobody reads or writes on a session that is older than the link: when the link is lost, and when it is made again, the pool is renewed.
    """

    def __init__(self, server: Server, pool: Pool, feed: PostgresChangeFeed, prepare: Callable[[], Awaitable[None]]) -> None:
        self._server = server
        self._pool = pool
        self._feed = feed
        self._prepare = prepare
        self._prepared = False
        self._up = asyncio.Event()
        self._hopeless: SettingsError | None = None
        self._connection: asyncpg.Connection | None = None
        self._look = asyncio.Event()
        """The connection was lost, or a session of the pool has met something strange."""
        self._said = ""
        self._is_read_only = False
        pool.doubted = self._look.set

    @property
    def is_up(self) -> bool:
        """Whether notifications are heard, and so the server lives."""
        return self._hopeless is None and self._up.is_set()

    @property
    def trouble(self) -> str:
        """Why it cannot be used, or not written; "" if it can."""
        if not self.is_up:
            return "PostgreSQL is unavailable" if not self._said else f"PostgreSQL is unavailable: {self._said}"
        return "PostgreSQL is read-only" if self._is_read_only else ""

    async def wait_up(self) -> None:
        """Return once it is up; SettingsError if it can never be."""
        await self._up.wait()
        if self._hopeless:
            raise self._hopeless

    async def connect(self) -> None:
        """Try once to come up; SettingsError, or Unavailable with the driver's error as its cause."""
        try:
            await self._connect()
        except BaseException:
            self._let_go()
            raise
        self._up.set()

    async def _connect(self) -> None:
        if not self._prepared:
            await self._prepare()
            self._prepared = True
        self._look.clear()
        with translated():
            self._connection = connection = await self._server.connect()
            connection.add_termination_listener(lambda _: self._look.set())
            channel = await connection.fetchval(f"SELECT {CHANNEL}")
            await self._see(connection)
            await connection.add_listener(channel, lambda _connection, _pid, _channel, text: self._feed.hear(text))
        self._pool.renew()
        await self._feed.resync()

    async def run(self) -> None:
        """Stay up, or come up again, until cancelled; then `close`."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_S
        while await self._come_up():
            began = loop.time()
            await self._stay_up()
            if loop.time() - began > STEADY_S:
                pause = FIRST_PAUSE_S
                continue
            # It comes up and is lost at once: without a pause that would go on as fast as the server takes connections.
            await asyncio.sleep(pause * SystemRandom().uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Say goodbye to the server, if it listens."""
        if self._connection:
            with contextlib.suppress(OSError, *DRIVER_ERRORS):
                await self._connection.close(timeout=CLOSE_S)
        self._let_go()

    async def _come_up(self) -> bool:
        pause = FIRST_PAUSE_S
        while not self._up.is_set():
            try:
                await self.connect()
            except SettingsError as error:
                self._hopeless = error
                self._up.set()
                return False
            except Unavailable as error:
                self._say(why(error))
                await asyncio.sleep(pause * SystemRandom().uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        if self._said:
            log.info("PostgreSQL is available again")
            self._said = ""
        return True

    async def _stay_up(self) -> None:
        """Return when the connection is lost, or does not answer in time, or its server takes no more writes."""
        try:
            while connection := self._connection:
                await wait_for_event(self._look, HEARTBEAT_S)
                self._look.clear()
                if connection.is_closed():
                    break
                with translated():
                    await self._see(connection)
        except Unavailable as error:
            self._say(why(error))
        except Exception:
            self._let_go()
            raise
        else:
            self._say("the connection was lost")
        self._let_go()

    async def _see(self, connection: asyncpg.Connection) -> None:
        """Unavailable if the server takes no writes; TimeoutError."""
        async with asyncio.timeout(ANSWER_S):
            takes_no_writes, self._is_read_only = await connection.fetchrow(_TAKES_NO_WRITES)
        if takes_no_writes:
            raise Unavailable(NO_WRITES)

    def _let_go(self) -> None:
        self._up.clear()
        self._feed.deafened()
        connection, self._connection = self._connection, None
        if connection:
            connection.terminate()
            self._pool.renew()

    def _say(self, words: str) -> None:
        """Log why, once for each reason and not at each try."""
        if words != self._said:
            log.warning("PostgreSQL is unavailable, retrying: %s", words)
            self._said = words
