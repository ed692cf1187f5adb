"""One session with RabbitMQ: a connection with its channels, from the handshake to its loss."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, cast

import aiormq
from aiormq.exceptions import ConnectionClosed

from sickbay.adapters.rabbitmq.errors import translated
from sickbay.adapters.rabbitmq.transport import Transport
from sickbay.domain.errors import Unavailable

CLOSE_TIMEOUT_S: Final = 3.0
_FRAMES: Final = 1_000


class Session:
    """One connection with its own channels, until one of them is lost."""

    def __init__(
        self, connection: aiormq.Connection, channel: aiormq.Channel, transport: Transport, express: aiormq.Channel | None = None
    ) -> None:
        """All are open. `express` is a second channel, for what must not wait behind much on the first; without it there is one for all."""
        self.connection = connection
        self.channel = channel
        self.express = express or channel
        self.lost = asyncio.Event()
        self.transport = transport
        for closing in (connection.closing, self.channel.closing, self.express.closing):
            closing.add_done_callback(lambda _: self.lost.set())

    @property
    def is_lost(self) -> bool:
        """Whether it is over; known here before `lost` wakes those who wait for it."""
        return self.lost.is_set() or self.channel.is_closed or self.express.is_closed or self.connection.is_closed

    @property
    def is_blocked(self) -> bool:
        """Whether the server takes no messages for want of memory or disk.

        The driver has one way to ask: `ready()` suspends just as long as that lasts.
        """
        asking = self.connection.ready()
        try:
            asking.send(None)
        except StopIteration:
            return False
        asking.close()
        return True

    async def close(self) -> None:
        """Say goodbye, or cut the connection if nobody answers."""
        await goodbye(self.connection, self.transport)


async def goodbye(connection: aiormq.Connection, transport: Transport) -> None:
    """Close a connection in whatever state it is, in bounded time and without an error."""
    closing = asyncio.create_task(_close(connection), name="rabbitmq goodbye")
    try:
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    finally:
        transport.abort()
        closing.cancel()
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)


async def _close(connection: aiormq.Connection) -> None:
    with suppress(Unavailable), translated():
        await connection.close(ConnectionClosed(200, "closed"))


async def open_channel(connection: aiormq.Connection, *, confirms: bool = False) -> aiormq.Channel:
    """A channel that takes in many frames at a time; the default of 10 makes tasks of the driver wait for each other."""
    return cast("aiormq.Channel", await connection.channel(publisher_confirms=confirms, frame_buffer_size=_FRAMES))
