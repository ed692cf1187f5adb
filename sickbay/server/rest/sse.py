"""Server-sent events: the stream of a stub as `text/event-stream`, with heartbeats, and closed as soon as the client disconnects.

The format of events is that of FastAPI (`fastapi.sse`), but streams run differently: an error before the first event is a proper HTTP
error, streams end with the application, and the id precedes the data, as clients that read line by line need it.

    return await event_stream(request, relay(jobs.WatchJob(...), lambda reply: ("job", job_view(reply.job), reply.resume_token)))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, suppress
from http import HTTPStatus
from typing import Any, Final

import grpc
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sickbay.domain.limits import Limits
from sickbay.server.access.caller import watcher
from sickbay.server.peers import peer_of
from sickbay.server.rest.app import closing
from sickbay.server.rest.errors import fault_of_any, fault_view
from sickbay.server.rest.views import encode
from sickbay.server.watches import Watches

_log = logging.getLogger(__name__)

HEARTBEAT: Final = 15.0
"""Seconds without an event after which a comment is sent, so that proxies keep the connection."""
PATIENCE: Final = 0.25
"""Seconds to wait for a first event before the response begins, so that an immediate error is a proper HTTP error."""

RETRY_MS: Final = 3_000
"""How long a browser waits before it reconnects."""

STREAM: Final = ("text/event-stream",)

Event = tuple[str, Any, str]
"""The event's name, its data, which is sent as JSON, and its id, where a later stream continues; empty: that of the previous event."""

_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
_WELCOME: Final = format_sse_event(comment="welcome", retry=RETRY_MS)
_HEARTBEAT: Final = format_sse_event(comment="still here")


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
    """The response that sends `source`. Raises what `source` raises before its first event; later an event `error` ends the stream.

    If the source ends without any event, the stream is finished for good: 204, after which a browser does not reconnect.
    The stream also ends when the application is closing (`rest.closing`). In any case `source` is closed. It counts as a watch of the
    principal, or of the client's address without one: ResourceExhausted if that has too many.
    """
    watch = ExitStack()
    try:
        watch.enter_context(_watches(request.app).hold(peer_of(request.client.host if request.client else ""), watcher()))
    except BaseException:
        await source.aclose()
        raise
    first = asyncio.ensure_future(anext(source, None))
    try:
        await asyncio.wait({first}, timeout=patience)
        if first.done() and first.result() is None:
            watch.close()
            return Response(status_code=HTTPStatus.NO_CONTENT)
    except BaseException:
        watch.close()
        await _close(source, first)
        raise
    return _EventStream(source, first, closing(request.app), heartbeat, watch)


def share_watches(app: Any, watches: Watches) -> None:
    """Use these limits for the streams of this application."""
    app.state.watches = watches


def _watches(app: Any) -> Watches:
    if not hasattr(app.state, "watches"):
        limits = Limits()
        share_watches(app, Watches(limits.watches, limits.watches_per_peer))
    found: Watches = app.state.watches
    return found


class _EventStream(EventSourceResponse):
    """A running stream: it ends with its source, with the client, and with the application."""

    def __init__(
        self,
        source: AsyncGenerator[Event],
        first: asyncio.Future[Event | None],
        stopping: asyncio.Event,
        heartbeat: float,
        watch: ExitStack,
    ) -> None:
        self._blocks = self._render_stream(stopping)
        super().__init__(self._blocks, headers=_HEADERS)
        self._source, self._next = source, first
        self._heartbeat, self._watch = heartbeat, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        sending = asyncio.ensure_future(self.stream_response(send))
        disconnected = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait({sending, disconnected}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except OSError:
            pass  # the client disconnected during a write
        finally:
            self._watch.close()
            await _cancel(sending, disconnected)
            await self._blocks.aclose()
            await _close(self._source, self._next)

    async def _render_stream(self, stopping: asyncio.Event) -> AsyncGenerator[bytes]:
        yield _WELCOME
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
        try:
            while True:
                done, _ = await asyncio.wait({self._next, stopped}, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    yield _HEARTBEAT
                    continue
                block = None if stopped in done else self._block()
                if block is None:
                    return
                yield block
                self._next = asyncio.ensure_future(anext(self._source, None))
        finally:
            await _cancel(stopped)

    def _block(self) -> bytes | None:
        """The next event as text, None after the last; a failure is sent as an event, after which the source is exhausted."""
        try:
            event = self._next.result()
        except Exception as error:  # noqa: BLE001 - the response has begun, so the error can only be sent as an event
            if not isinstance(error, grpc.aio.AioRpcError):
                _log.exception("an event stream failed")
            event = ("error", fault_view(fault_of_any(error)), "")
        if event is None:
            return None
        name, data, place = event
        block = format_sse_event(event=name, data_str=encode(data).decode())
        return b"id: %b\n%b" % (place.encode(), block) if place else block


async def _close(source: AsyncGenerator[Event], pending: asyncio.Future[Event | None]) -> None:
    """Close the source, whether it waits for its next event or not."""
    await _cancel(pending)
    await source.aclose()


async def _cancel(*pending: asyncio.Future[Any]) -> None:
    for future in pending:
        future.cancel()
    for future in pending:
        with suppress(asyncio.CancelledError, Exception):
            await future
