"""Publishes with confirms: many in flight, all under a hard timeout, none believed before its confirm; small calls pass large ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from random import SystemRandom
from typing import Final, NamedTuple

import aiormq
from pamqp.commands import Basic

from sickbay.adapters.rabbitmq.errors import translated
from sickbay.adapters.rabbitmq.session import Session
from sickbay.adapters.rabbitmq.supervisor import ConnectionSupervisor
from sickbay.adapters.rabbitmq.topology import JOBS, Route
from sickbay.adapters.rabbitmq.turns import Turns, is_small
from sickbay.domain.errors import Refused, Unavailable
from sickbay.domain.health import Streak

BLOCKED_RETRY_S: Final = 5.0
"""The wait we advise while RabbitMQ is out of memory or disk."""
BLOCKED: Final = "RabbitMQ blocks publishers (memory or disk alarm)"
SLOW: Final = "RabbitMQ timed out"
TRY_S: Final = 10.0
TO_NOBODY: Final = "nobody"
"""A key that no queue is bound with: the message is confirmed and gone."""
_LARGE_BYTES: Final = 16 * 1024
"""A larger body waits until the socket has taken it, so that a slow server does not fill our memory."""
_LOOK_S: Final = 0.25


class Parcel(NamedTuple):
    """A message on its way."""

    route: Route
    properties: Basic.Properties
    body: bytes


class Publisher:
    """The only user of its link's channels."""

    def __init__(self, link: ConnectionSupervisor, timeout_s: float) -> None:
        """`timeout_s` bounds each publish, from the wait for a session to the last confirm."""
        self._link = link
        self._timeout_s = timeout_s
        self._turns = Turns()
        self._limits: set[asyncio.Timeout] = set()
        self._look: asyncio.TimerHandle | None = None
        self._is_idle = True
        self._streak = Streak()
        self._streak_of: Session | None = None

    @property
    def trouble(self) -> str:
        """What publishes of the present session failed for, one after the other; "" if they do not."""
        session = self._link.current
        return self._streak.trouble if session is not None and session is self._streak_of else ""

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        """Return when all are confirmed; Unavailable if that is not certain, Refused if none was sent.

        Either comes soon while the server is blocked. Not to be broken off: of several messages some would be on their way and others not.
        """
        session = None
        self._is_idle = False
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                with translated():
                    session = self._link.current or await self._link.session()
                    if session.is_blocked:
                        raise Refused(BLOCKED, retry_after=BLOCKED_RETRY_S)
                    with self._watched(limit):
                        channel = session.express if is_small(parcels) else session.channel
                        await self._turns.send(parcels, partial(_send, channel))
        except Unavailable as error:
            self._heard(session, str(error))
            await asyncio.sleep(0)  # whoever tries again at once must not keep the link from noticing
            raise
        except TimeoutError:
            if session is None:
                raise Refused(SLOW) from None
            self._heard(session, SLOW)
            raise _blocked() if session.is_blocked else Unavailable(SLOW) from None
        self._heard(session, "")

    async def keep_trying(self) -> None:
        """Publish to nobody now and then while nothing else is published: RabbitMQ says only to publishers that it is blocked.

        Never ends by itself.
        """
        while True:
            await asyncio.sleep(TRY_S * SystemRandom().uniform(0.8, 1.2))
            is_idle, self._is_idle = self._is_idle, True
            session = self._link.current
            if is_idle and session is not None and not session.is_blocked:
                await self._try(session)

    async def _try(self, session: Session) -> None:
        try:
            with translated():
                async with asyncio.timeout(self._timeout_s) as limit:
                    with self._watched(limit):
                        await session.channel.basic_publish(b"", exchange=JOBS, routing_key=TO_NOBODY)
        except Unavailable:
            self._heard(session, SLOW)
        else:
            self._heard(session, "")

    def _heard(self, session: Session | None, trouble: str) -> None:
        """Keep what became of a publish, a tried one too; that the server is blocked is known by itself, and when it ends."""
        if session is not self._streak_of:
            self._streak, self._streak_of = Streak(), session
        if not trouble:
            self._streak.succeed()
        elif session is not None and not session.is_blocked:
            self._streak.fail(trouble)

    def close(self) -> None:
        """Look after nothing any more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    @contextmanager
    def _watched(self, limit: asyncio.Timeout) -> Iterator[None]:
        """The server says that it is blocked only after a message came: those in flight then are told so without waiting for their end."""
        self._limits.add(limit)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_now)
        try:
            yield
        finally:
            self._limits.discard(limit)

    def _look_now(self) -> None:
        self._look = None
        if not self._limits:
            return
        loop = asyncio.get_running_loop()
        session = self._link.current
        if session is not None and session.is_blocked:
            for limit in self._limits:
                if not limit.expired():
                    limit.reschedule(loop.time())
        self._look = loop.call_later(_LOOK_S, self._look_now)


async def _send(channel: aiormq.Channel, parcel: Parcel) -> None:
    await channel.basic_publish(
        parcel.body,
        exchange=parcel.route.exchange,
        routing_key=parcel.route.key,
        properties=parcel.properties,
        mandatory=True,
        wait=len(parcel.body) > _LARGE_BYTES,
    )


def _blocked() -> Unavailable:
    return Unavailable(BLOCKED, retry_after=BLOCKED_RETRY_S)
