"""Server-sent events: a stream of a stub as `text/event-stream`, with heartbeats, and cleaned up as soon as the client goes.

return await event_stream(request, relay(jobs.WatchJob(...), lambda reply: ("job", job_view(reply.job))))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

import grpc
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sickbay.rpc.http_errors import fault_of_any, fault_view
from sickbay.rpc.rest import closing
from sickbay.rpc.views import encode

_log = logging.getLogger(__name__)

HEARTBEAT: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""
PATIENCE: Final = 0.25
"""Seconds to wait for a first event before the answer begins, so that an error at once is a proper HTTP error."""

Event = tuple[str, Any]
"""The event's name and its data, which is sent as JSON."""

_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def relay(call: grpc.aio.UnaryStreamCall[Any, Any], view: Callable[[Any], Event]) -> AsyncGenerator[Event]:
    """The replies of a stub's stream as events; the call is cancelled when this is closed."""
    try:
        async for reply in call:
            yield view(reply)
    finally:
        call.cancel()


async def event_stream(
    request: Request, source: AsyncGenerator[Event], *, heartbeat: float = HEARTBEAT, patience: float = PATIENCE
) -> Response:
    """The answer that sends `source`. Raises what `source` raises before its first event; later an event `error` ends the stream.

    The stream also ends when the application is closing (`rest.closing`). However it ends, `source` is closed.
    """
    first = asyncio.ensure_future(anext(source, None))
    try:
        await asyncio.wait({first}, timeout=patience)
        if first.done():
            first.result()
    except BaseException:
        await _close(source, first)
        raise
    return _EventStream(source, first, closing(request.app), heartbeat)


class _EventStream(Response):
    """One running stream. It alone reads `receive`, to see the client go."""

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(
        self, source: AsyncGenerator[Event], first: asyncio.Future[Event | None], stopping: asyncio.Event, heartbeat: float
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._source, self._next = source, first
        self._stopping, self._heartbeat = stopping, heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        ends: set[asyncio.Future[Any]] = {asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._stopping.wait())}
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._pump(send, ends)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # the client went while we wrote
        finally:
            await _cancel(*ends)
            await _close(self._source, self._next)

    async def _pump(self, send: Send, ends: set[asyncio.Future[Any]]) -> None:
        await send(_chunk(b": welcome\n\n"))
        while True:
            done, _ = await asyncio.wait({self._next, *ends}, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if done & ends:
                return
            if not done:
                await send(_chunk(b": still here\n\n"))
                continue
            block = self._block()
            if block is None:
                return
            await send(_chunk(block))
            self._next = asyncio.ensure_future(anext(self._source, None))

    def _block(self) -> bytes | None:
        """The next event as text, None if it was the last; a failure is told as an event, after which the source is exhausted."""
        try:
            event = self._next.result()
        except Exception as error:  # noqa: BLE001 - the answer has begun, this is the only way left to tell
            if not isinstance(error, grpc.aio.AioRpcError):
                _log.exception("an event stream failed")
            event = ("error", fault_view(fault_of_any(error)))
        if event is None:
            return None
        name, data = event
        return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))


def _chunk(data: bytes) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(source: AsyncGenerator[Event], pending: asyncio.Future[Event | None]) -> None:
    """Let go of the source, whether it waits for its next event or not."""
    await _cancel(pending)
    await source.aclose()


async def _cancel(*pending: asyncio.Future[Any]) -> None:
    for future in pending:
        future.cancel()
    for future in pending:
        with suppress(asyncio.CancelledError, Exception):
            await future
