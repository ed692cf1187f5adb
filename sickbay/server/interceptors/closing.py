"""Ends watches when their server stops, with an error that tells clients to retry, instead of letting them delay the shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from inspect import isasyncgen
from typing import Any

import grpc

from sickbay.domain.errors import ErrorReason, Unavailable
from sickbay.server.interceptors.handlers import Context, Continuation, Handler, behaviour_of, with_stream


class ClosingInterceptor(grpc.aio.ServerInterceptor):
    """Races every server stream against `closing`; unary calls are short, and streams of requests are ended by their servicers."""

    def __init__(self, closing: asyncio.Event) -> None:
        """`closing` is set when the server is about to stop."""
        self._closing = closing

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap server streams that are async generators."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or not handler.response_streaming:
            return handler
        inner = behaviour_of(handler.unary_stream)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            replies = inner(request, context)
            if not isasyncgen(replies):
                await replies  # a handler that writes by itself
                return
            async for reply in self._until_closing(replies):
                yield reply

        return with_stream(handler, stream)

    async def _until_closing(self, replies: Any) -> AsyncIterator[Any]:
        closing = asyncio.ensure_future(self._closing.wait())
        following: asyncio.Future[Any] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(replies, grpc.aio.EOF))
                await asyncio.wait({following, closing}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    raise Unavailable("the service is stopping; watch again in a moment", ErrorReason.SHUTTING_DOWN)
                reply = following.result()
                if reply is grpc.aio.EOF:
                    return
                yield reply
        finally:
            closing.cancel()
            if following is not None and not following.done():
                following.cancel()
                await asyncio.wait([following])
            await replies.aclose()
