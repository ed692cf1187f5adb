"""An endpoint that answers in bytes, as a test says, on connections that are kept alive; it keeps what it was sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Posted:
    """One request; the names of the headers are in lower case."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


@dataclass
class Endpoint:
    """`answer` returns the bytes of an answer, None to close the connection without one; or writes itself and returns b''."""

    answer: Callable[[Posted, asyncio.StreamWriter], Awaitable[bytes | None]]
    port: int = 0
    received: list[Posted] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jobs/T0KEN?a=b"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; it is looked at whenever a request comes or a connection ends."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]  # there is one
        try:
            while (answer := await self.answer(await self._read(reader, number), writer)) is not None:
                writer.write(answer)
                await writer.drain()
        except (EOFError, OSError, asyncio.CancelledError):
            pass  # the end of the test cancels
        finally:
            writer.transport.abort()
            self.closed += 1
            async with self.changed:
                self.changed.notify_all()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Posted:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        posted = Posted(first.split(" ")[1], headers, await reader.readexactly(int(headers["content-length"])), number)
        self.received.append(posted)
        async with self.changed:
            self.changed.notify_all()
        return posted


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer with its length."""
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


JSON = "Content-Type: application/json"


@asynccontextmanager
async def endpoint(
    answer: Callable[[Posted, asyncio.StreamWriter], Awaitable[bytes | None]] | bytes | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Endpoint]:
    """One on a free port of this machine; bytes are its answer to all."""

    async def always(_posted: Posted, _writer: asyncio.StreamWriter) -> bytes | None:
        assert not callable(answer)
        return answer

    found = Endpoint(answer if callable(answer) else always)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in found.tasks:
            task.cancel()
        await asyncio.gather(*found.tasks)
