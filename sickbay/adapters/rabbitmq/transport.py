"""The socket under a connection: tells how long the server has been silent, and can be cut at once."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiormq import TransportFactory
from yarl import URL

from sickbay.adapters.rabbitmq.frames import FrameFilter
from sickbay.system.forks import keep_server

_BUFFER_BYTES: Final = 1024 * 1024


class _Reader(asyncio.StreamReader):
    """A reader that knows when it last heard something, and lets no frame through that the driver could not read."""

    def __init__(self) -> None:
        super().__init__(limit=_BUFFER_BYTES)
        self.heard_at = 0.0
        self._frames = FrameFilter()

    def feed_data(self, data: Any) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        super().feed_data(self._frames.feed(bytes(data)))


class Transport(TransportFactory):
    """Makes the one socket of one connection."""

    def __init__(self) -> None:
        self._reader = _Reader()
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; TLS if the URL says `amqps`."""
        provider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, url.host or "", url.port or 0, ssl=context, **kwargs)
        self._reader.heard_at = loop.time()
        keep_server(transport.get_extra_info("peername"))
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)
        return self._reader, self._writer

    @property
    def silence_s(self) -> float:
        """Seconds since the server was last heard; its heartbeats keep this low on an idle connection."""
        return asyncio.get_running_loop().time() - self._reader.heard_at

    def abort(self) -> None:
        """Cut the connection without asking anybody."""
        if self._writer is not None:
            self._writer.transport.abort()
