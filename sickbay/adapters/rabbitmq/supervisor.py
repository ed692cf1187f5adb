"""One connection to RabbitMQ, kept up: connects, notices a loss, and connects again with a jittered, growing wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Final, Protocol

import aiormq

from sickbay.adapters.rabbitmq.address import Address
from sickbay.adapters.rabbitmq.errors import connecting, translated
from sickbay.adapters.rabbitmq.session import Session, goodbye, open_channel
from sickbay.adapters.rabbitmq.transport import Transport
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Refused, SettingsError, Unavailable

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 10.0
STEADY_S: Final = 10.0
"""A session that lived shorter counts as a failed attempt, so that a server that drops us at once is not hammered."""

SILENT: Final = "RabbitMQ is unavailable"
REFUSED: Final = "RabbitMQ rejects the user, password, virtual host or certificate of RABBITMQ_URL"

log = logging.getLogger(__name__)

Prepare = Callable[[aiormq.Connection], Awaitable[None]]


class SessionListener(Protocol):
    """Somebody who needs to do something at the begin and the end of each session."""

    async def joined(self, session: Session) -> None:
        """A session begins; raises Unavailable if it turns out to be of no use."""

    def left(self) -> None:
        """The session has ended."""


class ConnectionSupervisor:
    """Supervises one connection. `role` names it in the log and on the RabbitMQ page."""

    def __init__(self, address: Address, role: str, prepare: Prepare, *, heartbeat_s: int, confirms: bool, name: str) -> None:
        """`prepare` is awaited on each new connection before anybody uses it; `confirms` is for publishing: then there are two channels."""
        self._address = address
        self._role = role
        self._prepare = prepare
        self._heartbeat_s = heartbeat_s
        self._confirms = confirms
        self._name = name
        self._members: set[SessionListener] = set()
        self._session: Session | None = None
        self._transport = Transport()
        self._changed = asyncio.Event()
        self._is_closed = False
        self._running: asyncio.Task[None] | None = None
        self._random = SystemRandom()
        self._told = ""
        self.refusal: SettingsError | None = None
        """Why RabbitMQ refuses us, as long as it does."""

    @property
    def current(self) -> Session | None:
        """The session, if there is one now."""
        return None if self._session is None or self._session.is_lost else self._session

    @property
    def trouble(self) -> str:
        """Why there is no session, in words that give nothing away; "" if there is one."""
        if self.current is not None:
            return ""
        return REFUSED if self.refusal is not None else SILENT

    async def session(self) -> Session:
        """Wait for a session; Unavailable once the link was closed. Callers bring their own timeout."""
        while (session := self.current) is None:
            if self._is_closed:
                raise Refused("the broker is closed")
            await self.changed()
        return session

    async def changed(self) -> None:
        """Wait until something happens: a session begins or ends, or an attempt fails."""
        await self._changed.wait()

    def add(self, member: SessionListener) -> None:
        """Tell this one of every session from now on; the caller looks after the current one."""
        self._members.add(member)

    def remove(self, member: SessionListener) -> None:
        """Tell no more."""
        self._members.discard(member)

    def open(self) -> None:
        """Begin to keep a session."""
        self._running = asyncio.create_task(self._run(), name=f"rabbitmq {self._role}")

    async def close(self) -> None:
        """End the session; everybody who waits for one gets Unavailable."""
        self._is_closed = True
        self._announce()
        running, self._running = self._running, None
        if running is None:
            return
        if self._session is None:
            # The driver can lose a cancellation while it connects; it does not overlook a broken connection.
            self._transport.abort()
        running.cancel()
        await asyncio.wait({running})

    async def _run(self) -> None:
        failures = 0
        while not self._is_closed:
            lived_s = await self._live_safely()
            failures = 0 if lived_s > STEADY_S else failures + 1
            if not self._is_closed:
                await asyncio.sleep(self._wait_s(failures))

    async def _live_safely(self) -> float:
        try:
            return await self._live()
        except Exception:
            log.exception("internal error in the connection to RabbitMQ (%s); reconnecting", self._role)
            return 0

    async def _live(self) -> float:
        """One attempt and the session it may come to; how long that lived, in seconds."""
        try:
            session = await self._connect()
        except (Unavailable, SettingsError) as error:
            self.refusal = error if isinstance(error, SettingsError) else None
            self._tell(str(error))
            self._announce()
            return 0
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            await self._begin(session)
            await self._watch(session)
            if not self._is_closed:
                self._tell("the connection was lost")
        except Unavailable as error:
            self._tell(str(error))
        finally:
            session.lost.set()
            self._session = None
            for member in tuple(self._members):
                member.left()
            self._announce()
            await session.close()
        return loop.time() - began_at

    async def _connect(self) -> Session:
        transport = self._transport = Transport()
        connection = aiormq.Connection(
            self._address.connecting(self._heartbeat_s),
            transport_factory=transport,
            client_properties={"connection_name": f"{self._name} ({self._role})", "product": "Sickbay"},
        )
        try:
            with connecting(self._address):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await connection.connect()
            with translated():
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._prepare(connection)
                    channel = await open_channel(connection, confirms=self._confirms)
                    express = await open_channel(connection, confirms=True) if self._confirms else None
        except BaseException:
            transport.abort()
            await goodbye(connection, transport)
            raise
        return Session(connection, channel, transport, express)

    async def _begin(self, session: Session) -> None:
        self._session = session
        self.refusal = None
        for member in tuple(self._members):
            await member.joined(session)
        log.info("connected to RabbitMQ at %s (%s)", self._address.where, self._role)
        self._told = ""
        self._announce()

    async def _watch(self, session: Session) -> None:
        """Return when the session is lost, which a server that has gone silent without a word also is."""
        heartbeat_s = self._address.heartbeat(self._heartbeat_s)
        while not session.lost.is_set() and not self._is_closed:
            await wait_for_event(session.lost, heartbeat_s / 2 or None)
            if heartbeat_s and session.transport.silence_s > 2 * heartbeat_s:
                session.transport.abort()
                return

    def _wait_s(self, failures: int) -> float:
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 10))
        return self._random.uniform(longest / 2, longest)

    def _tell(self, sentence: str) -> None:
        """Each kind of trouble is logged once, not at every attempt."""
        if sentence != self._told:
            log.warning("RabbitMQ (%s): %s; retrying", self._role, sentence)
        self._told = sentence

    def _announce(self) -> None:
        self._changed.set()
        self._changed.clear()
