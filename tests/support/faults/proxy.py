"""A TCP proxy that misbehaves on command: put it between the product and a server, and break what lies between."""

import asyncio
import contextlib
import socket
import struct
from typing import Self

from yarl import URL

CHUNK = 64 * 1024
PORTS = {"amqp": 5672, "redis": 6379, "postgresql": 5432}


class Proxy:
    """Forwards to one server; `async with` opens it on a free port of 127.0.0.1 that stays its own until the end.

    Commands act at once on all connections: `reset`, `blackhole` and `heal`, `refuse` or `cut` and `accept`; `latency` is the seconds
    each chunk waits in each direction, `reset_after` cuts a connection by itself, `keeps_open` forwards everything but the end of the
    server's side. `accepted` counts connections ever taken.
    """

    def __init__(self, host, port):
        self._target = (host, port)
        self._server = None
        self._pairs = set()
        self._tasks = set()
        self._open_road = asyncio.Event()
        self._open_road.set()
        self._allowance = None
        self._changed = asyncio.Condition()
        self.latency = 0.0
        self.keeps_open = False
        self.accepted = 0
        self.port = 0

    @classmethod
    def before(cls, url) -> Self:
        """A proxy before the server of a URL."""
        server = URL(url)
        return cls(server.host, server.port or PORTS[server.scheme])

    def through(self, url):
        """The same URL, by way of this proxy."""
        return str(URL(url).with_host("127.0.0.1").with_port(self.port))

    async def __aenter__(self):
        await self.accept()
        return self

    async def __aexit__(self, *_):
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self):
        """How many are open now."""
        return len(self._pairs)

    async def until(self, condition):
        """Wait until `condition(proxy)` holds; looked at whenever a connection comes or goes."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def accept(self):
        """Take connections (again), on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self):
        """Take no new connections: the system answers them with "connection refused". Those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self):
        """What clients see of a server that ends: `refuse` and `reset`."""
        self.refuse()
        self.reset()

    def reset(self):
        """Break every connection with a TCP reset on both sides."""
        for pair in tuple(self._pairs):
            for writer in pair:
                _reset(writer)

    def reset_after(self, count):
        """Reset everything when clients have sent `count` more bytes, in the middle of whatever that is."""
        self._allowance = count

    def blackhole(self):
        """Forward nothing more, in neither direction, and say nothing about it."""
        self._open_road.clear()

    def heal(self):
        """Forward again, first what was held back."""
        self._open_road.set()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
        except OSError:
            _reset(writer)
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        self.accepted += 1
        await self._tell()
        try:
            await asyncio.gather(self._pump(reader, far_writer, is_upward=True), self._pump(far_reader, writer, is_upward=False))
        except asyncio.CancelledError:
            # The end; streams would complain of a cancelled task.
            return
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.close()
            await self._tell()

    async def _pump(self, reader, writer, *, is_upward):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.latency:
                    await asyncio.sleep(self.latency)
                await self._open_road.wait()
                if is_upward and self._allowance is not None:
                    chunk = chunk[: self._allowance]
                    self._allowance -= len(chunk)
                writer.write(chunk)
                await writer.drain()
                if is_upward and self._allowance == 0:
                    self._allowance = None
                    self.reset()
        if self.keeps_open and not is_upward:
            await asyncio.Event().wait()
        writer.close()

    async def _tell(self):
        async with self._changed:
            self._changed.notify_all()


def _reset(writer):
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
