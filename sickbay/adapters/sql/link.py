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

from sickbay.adapters.sql.failures import translated, why
from sickbay.adapters.sql.postgres import Server
from sickbay.adapters.sql.remote import CHANNEL, RemoteFeed
from sickbay.errors import SettingsError, Unavailable

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
HEARTBEAT_S: Final = 10.0
ANSWER_S: Final = 5.0

log = logging.getLogger(__name__)


class Link(Protocol):
    """Whether the ledger can be used just now."""

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was asked last; a write may fail nevertheless."""

    async def wait_up(self) -> None:
        """Return once it is up; SettingsError if it can never be, because of its URL or because a newer program made its tables."""


class AlwaysUp:
    """The link to a file: once open, it is there."""

    is_up: Final = True

    async def wait_up(self) -> None:
        """Return at once."""


class PostgresLink:
    """Implements `Link`. `prepare` sees to the tables, and is repeated until it has succeeded once."""

    def __init__(self, server: Server, feed: RemoteFeed, prepare: Callable[[], Awaitable[None]]) -> None:
        self._server = server
        self._feed = feed
        self._prepare = prepare
        self._prepared = False
        self._up = asyncio.Event()
        self._hopeless: SettingsError | None = None
        self._connection: asyncpg.Connection | None = None
        self._lost = asyncio.Event()
        self._said = ""

    @property
    def is_up(self) -> bool:
        """Whether notifications are heard, and so the server lives."""
        return self._hopeless is None and self._up.is_set()

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
        self._lost.clear()
        with translated():
            self._connection = connection = await self._server.connect()
            connection.add_termination_listener(lambda _: self._lost.set())
            channel = await connection.fetchval(f"SELECT {CHANNEL}")
            await connection.add_listener(channel, lambda _connection, _pid, _channel, text: self._feed.hear(text))
        await self._feed.resync()

    async def run(self) -> None:
        """Stay up, or come up again, until cancelled; then `close`."""
        while await self._come_up():
            await self._stay_up()

    async def close(self) -> None:
        """Say goodbye to the server, if it listens."""
        if self._connection:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._connection.close(timeout=ANSWER_S)
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
            log.info("PostgreSQL answers again")
            self._said = ""
        return True

    async def _stay_up(self) -> None:
        """Return when the connection is lost, or does not answer in time."""
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await self._lost.wait()
                    break
                except TimeoutError:
                    await self._ask()
        except Unavailable as error:
            self._say(why(error))
        else:
            self._say("the connection was lost")
        self._let_go()

    async def _ask(self) -> None:
        with translated():
            if self._connection:
                async with asyncio.timeout(ANSWER_S):
                    await self._connection.execute("SELECT 1")

    def _let_go(self) -> None:
        self._up.clear()
        self._feed.deafened()
        connection, self._connection = self._connection, None
        if connection:
            connection.terminate()

    def _say(self, words: str) -> None:
        """Log why, once for each reason and not at each try."""
        if words != self._said:
            log.warning("PostgreSQL cannot be used just now and is tried again: %s", words)
            self._said = words
