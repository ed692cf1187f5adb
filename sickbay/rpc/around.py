"""Puts something around every call of a service, whichever door it comes by: that is how calls are counted and traced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from inspect import isasyncgen, isawaitable
from typing import Any, NamedTuple

import grpc

from sickbay.rpc.interceptors import Behaviour, Context, Continuation, Handler, behaviour_of, rebuilt


class Call(NamedTuple):
    """A call that begins. The steps of a stream may run in different tasks, so nothing around it may rely on context variables."""

    service: str
    method: str
    context: Context
    is_stream: bool


Around = Callable[[Call], AbstractContextManager[object]]


class AroundInterceptor(grpc.aio.ServerInterceptor):
    """Stands inside the interceptor that translates errors, so `around` sees what servicers raise. It must let that pass."""

    def __init__(self, around: Around) -> None:
        """`around` makes what each call runs in."""
        self._around = around

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap handlers with one request; reflection, which takes many, is left alone, and so is what nobody serves."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        _, service, method = handler_call_details.method.split("/")
        if handler.response_streaming:
            streaming = self._streaming(service, method, behaviour_of(handler.unary_stream))
            return rebuilt(handler, grpc.unary_stream_rpc_method_handler, streaming)
        return rebuilt(handler, grpc.unary_unary_rpc_method_handler, self._unary(service, method, behaviour_of(handler.unary_unary)))

    def _unary(self, service: str, method: str, inner: Behaviour) -> Behaviour:
        async def call(request: Any, context: Context) -> Any:
            with self._around(Call(service, method, context, is_stream=False)):
                reply = inner(request, context)
                return await reply if isawaitable(reply) else reply

        return call

    def _streaming(self, service: str, method: str, inner: Behaviour) -> Behaviour:
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._around(Call(service, method, context, is_stream=True)):
                replies = inner(request, context)
                if isasyncgen(replies):
                    async with aclosing(replies):
                        async for reply in replies:
                            yield reply
                elif isawaitable(replies):  # a handler that uses context.write
                    await replies

        return stream
