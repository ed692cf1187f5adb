"""A TCP proxy that can be absent, break its connections, or swallow what goes through it."""

import asyncio
import socket
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    def __init__(self, host, port):
        self._target = (host, port)
        self._server = None
        self._pipes = set()
        self._open = asyncio.Event()
        self._open.set()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def through(self, url):
        """The same URL, by way of this proxy."""
        parts = urlsplit(url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return parts._replace(netloc=f"{user}127.0.0.1:{self.port}").geturl()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self):
        """Refuse new connections and break the others."""
        if self._server:
            self._server.close()
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        self._server = None

    def swallow(self):
        """Keep the connections, and let nothing through."""
        self._open.clear()

    def let_through(self):
        self._open.set()

    async def _serve(self, reader, writer):
        self._pipes.add(asyncio.current_task())
        server_writer = None
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer))
                group.create_task(self._pump(server_reader, writer))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            pass
        finally:
            self._pipes.discard(asyncio.current_task())
            for end in filter(None, (writer, server_writer)):
                end.transport.abort()

    async def _pump(self, reader, writer):
        while data := await reader.read(65_536):
            await self._open.wait()
            writer.write(data)
        writer.close()


@asynccontextmanager
async def proxy_to(url):
    """A proxy to the server of a URL, not started yet."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname, parts.port or 5432)
    try:
        yield proxy
    finally:
        await proxy.stop()
